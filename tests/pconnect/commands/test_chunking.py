"""Dividing items among nodes."""

import numpy as np
import pytest

from pconnect.commands.chunking import cut_evenly


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 12])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_items_are_cut_as_numpy_does(size: int, count: int) -> None:
    items = list(range(size))
    assert cut_evenly(items, count) == [part.tolist() for part in np.array_split(items, count)]
