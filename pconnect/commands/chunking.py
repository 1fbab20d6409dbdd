"""Dividing items among nodes, and one node's part of a map."""

import itertools
import sys
from collections.abc import Callable, Sequence
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


def map_part(function: Callable[..., Any] | str, items: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Do one node's part of `View.map`; runs at the engine."""
    called = function if callable(function) else eval(function, vars(sys.modules["__main__"]))  # noqa: S307 - the client may run anything
    return [called(*item) for item in items]
