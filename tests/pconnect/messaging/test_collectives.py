"""The results of each collective call. test_collective_call.py tests matching and failures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pconnect import (
    ConfigurationError,
    allgather,
    allreduce,
    alltoall,
    barrier,
    bcast,
    gather,
    reduce,
    scatter,
)
from pconnect.loop.network import Network
from pconnect.messaging import exchange, tree
from tests.support.links import LIMIT, networks
from tests.support.members import assert_identical, begin_anew, parts_of, succeed, together
from tests.support.values import VALUES, assert_same

ARRAYS = [
    np.arange(17.0),
    np.zeros((0, 4)),
    np.asfortranarray(np.arange(24).reshape(4, 6)),
    np.arange(60)[::3].reshape(5, 4),
    np.arange(9).astype("M8[D]"),
    np.arange(40_000).reshape(20_000, 2),
]


# Reading the fill value of a masked array, as a comparison does, changes the array.
SOME = [pytest.param(value, id=name) for name, value in VALUES[::3] if not name.startswith("masked array")]


@pytest.fixture(scope="module")
def eight() -> Iterator[list[Network]]:
    with networks(8) as made:
        yield made


@pytest.fixture(scope="module")
def three(eight: list[Network]) -> list[Network]:
    return parts_of(eight, 3)


@pytest.mark.parametrize("degree", [1, 4])
@pytest.mark.parametrize("value", SOME)
def test_any_value_passes_through_all_calls(
    three: list[Network], value: Any, degree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "DEGREE", degree)
    monkeypatch.setattr(exchange, "ALL_TO_ALL_MEMBERS", degree)

    def work(net: Network) -> list[Any]:
        root = net.node == 1
        return [
            bcast(value if root else None, net, root=1, timeout=LIMIT),
            scatter([value] * 3 if root else None, net, root=1, timeout=LIMIT),
            *(gather(value, net, root=1, timeout=LIMIT) or [value]),
            *allgather(value, net, timeout=LIMIT),
            *alltoall([value] * 3, net, timeout=LIMIT),
        ]

    for outcome in succeed(three, work):
        for received in outcome:
            if received is not value:  # the root of a broadcast gets the value itself
                assert_same(value, received)


@pytest.mark.parametrize("n", range(1, 9))
def test_values_come_in_the_order_of_the_members(eight: list[Network], n: int) -> None:
    def work(net: Network) -> list[Any]:
        node = net.node
        barrier(net, timeout=LIMIT)
        return [
            bcast(f"of {node}", net, root=n - 1, timeout=LIMIT),
            scatter([10 * node + k for k in range(n)], net, root=n // 2, timeout=LIMIT),
            gather(node, net, root=-1, timeout=LIMIT),
            allgather((node,), net, timeout=LIMIT),
            alltoall([(node, k) for k in range(n)], net, timeout=LIMIT),
            reduce(node, net, root=n - 1, timeout=LIMIT),
            allreduce(node, net, op="max", timeout=LIMIT),
        ]

    for node, outcome in enumerate(succeed(parts_of(eight, n), work)):
        last = node == n - 1
        assert outcome == [
            f"of {n - 1}",
            10 * (n // 2) + node,
            list(range(n)) if last else None,
            [(k,) for k in range(n)],
            [(k, node) for k in range(n)],
            sum(range(n)) if last else None,
            n - 1,
        ]


@pytest.mark.parametrize("array", ARRAYS, ids=range(len(ARRAYS)))
@pytest.mark.parametrize("n", [2, 3, 7])
def test_arrays_are_cut_and_joined_as_numpy_does(eight: list[Network], n: int, array: Any) -> None:
    def work(net: Network) -> list[Any]:
        found = []
        for axis in (0, -1):
            part = scatter(array if net.node == 0 else None, net, axis=axis, timeout=LIMIT)
            joined = gather(part, net, root=0, axis=axis, timeout=LIMIT)
            found.append((part, joined, allgather(part, net, axis=axis, timeout=LIMIT)))
        return found

    for node, outcome in enumerate(succeed(parts_of(eight, n), work)):
        for axis, (part, joined, everywhere) in zip((0, -1), outcome, strict=True):
            assert_identical(part, np.array_split(array, n, axis)[node])
            assert_identical(everywhere, array)
            assert joined is None if node else np.array_equal(joined, array)


def test_masks_survive_joining(three: list[Network]) -> None:
    array = np.ma.MaskedArray(np.arange(6), [False, True] * 3)
    for joined in succeed(
        three, lambda net: allgather(scatter(array, net, axis=0, timeout=LIMIT), net, axis=0, timeout=LIMIT)
    ):
        assert joined.mask.tolist() == array.mask.tolist()


def test_results_are_new_objects_except_the_roots_in_bcast(three: list[Network]) -> None:
    def work(net: Network) -> list[bool]:
        own = np.zeros(5)
        rows = np.zeros((3, 4))
        return [
            bcast(own, net, root=net.nodes.index(2), timeout=LIMIT) is own,
            np.shares_memory(scatter([own] * 3, net, timeout=LIMIT), own),
            np.shares_memory(scatter(rows, net, axis=0, timeout=LIMIT), rows),
            any(np.shares_memory(got, own) for got in allgather(own, net, timeout=LIMIT)),
            any(np.shares_memory(got, rows) for got in alltoall(rows, net, timeout=LIMIT)),
        ]

    for node, outcome in enumerate(succeed(three, work)):
        assert outcome == [node == 2, False, False, False, False]


def test_values_may_change_as_soon_as_a_call_returns(three: list[Network]) -> None:
    def work(net: Network) -> Any:
        value = np.full(2**20, float(net.node))
        received = alltoall([value] * 3, net, timeout=LIMIT)
        value[:] = -1
        return [part[[0, -1]].tolist() for part in received]

    assert succeed(three, work) == [[[0, 0], [1, 1], [2, 2]]] * 3


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (
            lambda net: scatter([1, 2], net, timeout=LIMIT),
            "a sequence of 3 items, one for each member, but got 2 items",
        ),
        (lambda net: alltoall(range(4), net, timeout=LIMIT), "a sequence of 3 items"),
        (lambda net: bcast(1, net, root=3, timeout=LIMIT), "root=3: the call has only 3 members"),
        (lambda net: reduce(1, net, root=-4, timeout=LIMIT), "root=-4"),
        (lambda net: reduce(1, net, op="mim", timeout=LIMIT), "op='mim'"),
    ],
)
def test_arguments_of_no_use(three: list[Network], call: Any, match: str) -> None:
    for outcome in together(three, call):
        # If this member could start the call, it fails because another member failed.
        assert isinstance(outcome, ConfigurationError | RuntimeError)
        assert match.split(",", maxsplit=1)[0] in str(outcome)
    begin_anew(three)


def test_only_members_call() -> None:
    with networks(4) as nets:
        with pytest.raises(
            ConfigurationError, match=r"node 0, which is not a member of barrier on nodes 1, 2, 3"
        ):
            barrier(nets[0][1:])
        with pytest.raises(ConfigurationError, match=r"reval\('allreduce\(..., sockets\[\[1, 3\]\]\)'"):
            allreduce(1, nets[0][[1, 3]])
        with pytest.raises(ConfigurationError, match=r"node 2, .* only its members may call it"):
            gather(1, nets[2][:2])
        with pytest.raises(ConfigurationError, match="needs a network or a part of one"):
            gather(1, nets[2][1])  # type: ignore[arg-type]
        assert succeed(nets, lambda net: allreduce(1, net, timeout=LIMIT)) == [4] * 4
