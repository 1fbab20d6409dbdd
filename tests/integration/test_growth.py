"""The cost of calls in a network of many nodes, counted without sockets: see `tests.support.memory_network`."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from pconnect import allgather, allreduce, barrier, bcast, gather, reduce, scatter
from pconnect.loop.network import Network
from pconnect.values import encoder
from tests.benchmarks.simulation import setup_bytes
from tests.support.memory_network import MemoryNetwork


@pytest.mark.parametrize("size", [1, 2, 6, 64])
def test_a_barrier_costs_nobody_more_than_a_few_small_messages(size: int) -> None:
    costs = MemoryNetwork(size).measure(barrier)
    assert max(cost.messages for cost in costs) <= 16
    assert max(cost.bytes for cost in costs) <= 1000
    assert max(cost.rounds for cost in costs) <= 2 * math.ceil(math.log(3 * size, 4))


SMALL = np.ones(1)
CALLS = {
    "bcast": lambda net: bcast(SMALL, net),
    "gather": lambda net: gather(SMALL, net),
    "scatter": lambda net: scatter([SMALL] * len(net), net),
    "reduce": lambda net: reduce(SMALL, net),
    "allreduce": lambda net: allreduce(SMALL, net),
    "allgather": lambda net: allgather(SMALL, net),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("size", [8, 64])
def test_small_values_cost_nobody_a_message_for_each_member(
    size: int, call: Callable[[Network], object]
) -> None:
    costs = MemoryNetwork(size).measure(call)
    assert max(cost.messages for cost in costs) <= 26  # at most five for each neighbour
    assert sum(cost.sent for cost in costs) <= 5 * (size - 1)
    # A bundle entry with one number has about thirty bytes; `allgather` sends all entries to all nodes.
    assert max(cost.bytes for cost in costs) <= 3000 + 200 * size
    assert max(cost.rounds for cost in costs) <= 4 * math.ceil(math.log(3 * size, 4))


@pytest.mark.parametrize("size", [5, 8, 64])
@pytest.mark.parametrize("payload", [2**18, 2**20, 2**22])
def test_a_large_value_leaves_the_root_a_few_times(size: int, payload: int) -> None:
    value = np.zeros(payload, "u1")
    costs = MemoryNetwork(size).measure(lambda net: bcast(value, net))
    assert costs[0].sent_bytes < 4.1 * payload
    assert max(cost.sent_bytes for cost in costs) < 4.1 * payload


def test_a_large_reduction_has_only_so_many_slices() -> None:
    value = np.zeros(2**19, "u1")  # eight slices
    costs = MemoryNetwork(40).measure(lambda net: allreduce(value, net))
    assert sum(cost.sent for cost in costs) < 2 * 8 * 40 + 4 * 40
    assert max(cost.messages for cost in costs[8:]) <= 2 * 8 + 20


def test_the_nodes_are_encoded_once_for_all_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []

    def pack(value: list[object]) -> bytes:
        packed.append(len(value))
        return bytes(50 * len(value))

    monkeypatch.setattr(encoder, "pack", pack)
    assert max(setup_bytes(100, of_one_machine=False)) < 50 * 100 + 500
    assert packed == [100]


@pytest.mark.slow
def test_a_thousand_nodes() -> None:
    network = MemoryNetwork(1000)
    for call in (barrier, CALLS["allreduce"]):
        costs = network.measure(call)
        assert max(cost.messages for cost in costs) <= 25
        assert max(cost.rounds for cost in costs) <= 20


def test_what_passes_is_what_was_meant() -> None:
    outcomes = MemoryNetwork(30).run(
        lambda net: [
            bcast(net.node, net, root=7),
            scatter(list(range(30)), net, root=29),
            gather(net.node, net, root=3),
            allgather(net.node, net),
            allreduce(net.node, net),
            reduce(f"{net.node} ", net, root=1),
        ]
    )
    everybody = list(range(30))
    for node, found in enumerate(outcomes):
        assert found == [
            7,
            node,
            everybody if node == 3 else None,
            everybody,
            sum(everybody),
            "".join(f"{other} " for other in everybody) if node == 1 else None,
        ]
