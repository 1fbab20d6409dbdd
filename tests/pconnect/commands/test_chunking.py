"""Dividing items among nodes."""

import numpy as np
import pytest

from pconnect.commands.chunking import cut_evenly, map_part


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 12])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_items_are_cut_as_numpy_does(size: int, count: int) -> None:
    items = list(range(size))
    assert cut_evenly(items, count) == [part.tolist() for part in np.array_split(items, count)]


def test_a_part_is_done_item_by_item() -> None:
    assert map_part(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert map_part("divmod", [(7, 2)]) == [(3, 1)]
