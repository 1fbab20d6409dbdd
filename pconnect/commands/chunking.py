"""Dividing items among nodes."""

import itertools
from collections.abc import Sequence
from typing import Any


def cut_evenly(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Cut a sequence as `numpy.array_split` does.

    Examples
    --------
    >>> cut_evenly("abcdefg", 3)
    ['abc', 'de', 'fg']
    """
    size, more = divmod(len(items), count)
    borders = [index * size + min(index, more) for index in range(count + 1)]
    return [items[begin:end] for begin, end in itertools.pairwise(borders)]
