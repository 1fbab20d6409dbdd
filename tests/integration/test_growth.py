"""What a call costs in a network of many nodes, counted without sockets: see `tests.support.memory_network`."""

import math

import pytest

from pconnect import barrier
from tests.support.memory_network import MemoryNetwork


@pytest.mark.parametrize("size", [1, 2, 6, 64])
def test_a_barrier_costs_nobody_more_than_a_few_small_messages(size: int) -> None:
    costs = MemoryNetwork(size).measure(barrier)
    assert max(cost.messages for cost in costs) <= 16
    assert max(cost.bytes for cost in costs) <= 1000
    assert max(cost.rounds for cost in costs) <= 2 * math.ceil(math.log(3 * size, 4))
