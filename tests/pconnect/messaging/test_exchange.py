"""Small values in bundles through the tree, large values directly, and refused bundles."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pconnect import (
    CollectiveError,
    ConnectionLostError,
    UnsupportedValueError,
    allgather,
    barrier,
    gather,
    reduce,
    scatter,
)
from pconnect.loop.network import Network
from pconnect.messaging import exchange, tree
from pconnect.messaging.collective_call import leave
from pconnect.protocol.collective_inbox import group_of
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind
from tests.support.links import LIMIT, networks
from tests.support.members import begin_anew, parts_of, succeed, together
from tests.support.values import assert_same


@pytest.fixture(scope="module")
def nine() -> Iterator[list[Network]]:
    with networks(9) as made:
        yield made


def value_of(node: int) -> Any:
    """Return a small value for every third node, a value just too large for a bundle, and a large value."""
    return [{node: "small"}, np.full(513, node), [bytes(100_000), node]][node % 3]


@pytest.mark.parametrize("degree", [1, 2, 4])
@pytest.mark.parametrize("n", [2, 6, 9])
def test_small_and_large_values_come_in_rank_order(
    nine: list[Network], n: int, degree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "DEGREE", degree)
    monkeypatch.setattr(exchange, "ALL_TO_ALL_MEMBERS", 1)
    everybodys = [value_of(node) for node in range(n)]
    for root in (0, n - 1):

        def work(net: Network, root: int = root) -> list[Any]:
            return [
                gather(value_of(net.node), net, root=root, timeout=LIMIT),
                scatter(everybodys if net.node == root else None, net, root=root, timeout=LIMIT),
                allgather(value_of(net.node), net, timeout=LIMIT),
                reduce([net.node], net, root=root, timeout=LIMIT),
            ]

        for node, outcome in enumerate(succeed(parts_of(nine, n), work)):
            assert_same(outcome[0], everybodys if node == root else None)
            assert_same(outcome[1], everybodys[node])
            assert_same(outcome[2], everybodys)
            assert outcome[3] == (list(range(n)) if node == root else None)


def test_many_bundles_of_bounded_size(nine: list[Network], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "DEGREE", 1)
    monkeypatch.setattr(exchange, "_BUNDLE_BYTES", 3000)
    values = [bytes([node]) * 2000 for node in range(9)]

    def work(net: Network) -> list[Any]:
        return [
            gather(values[net.node], net, timeout=LIMIT),
            scatter(values if net.node == 0 else None, net, timeout=LIMIT),
        ]

    outcomes = succeed(nine, work)
    assert outcomes[0][0] == values
    assert [outcome[1] for outcome in outcomes] == values


def test_bundles_respect_the_limit_of_a_message() -> None:
    with networks(7, limits=Limits(20_000)) as nets:
        value = bytes(3000)
        assert succeed(nets, lambda net: gather(value, net, timeout=LIMIT))[0] == [value] * 7


@pytest.mark.parametrize("who", [0, 1, 6])
def test_a_value_that_cannot_be_sent_is_named_as_the_users(nine: list[Network], who: int) -> None:
    def work(net: Network) -> Any:
        return gather([object() if net.node == who else 1], net, root=3, timeout=LIMIT)

    for node, outcome in enumerate(together(nine, work)):
        if node == who:
            assert isinstance(outcome, UnsupportedValueError) and str(outcome).startswith("value[0]: cannot")
        else:
            assert isinstance(outcome, CollectiveError) and "UnsupportedValueError: value[0]" in str(outcome)
    begin_anew(nine)


@pytest.mark.parametrize("who", [1, 8])
def test_a_member_far_from_the_first_that_makes_another_call(nine: list[Network], who: int) -> None:
    def work(net: Network) -> None:
        if net.node == who:
            barrier(net, timeout=LIMIT)
        else:
            gather(1, net, timeout=LIMIT)

    for error in together(nine, work):
        assert isinstance(error, CollectiveError)
        assert "called barrier()" in str(error) and "gather(root=0, axis=None)" in str(error)
    begin_anew(nine)


def test_a_member_far_from_the_first_that_is_gone() -> None:
    with networks(9) as nets:
        works: list[Callable[[Network], Any]] = [lambda net: allgather(1, net, timeout=LIMIT)] * 8
        *errors, _ = together(nets, *works, lambda net: net.mesh.event_loop.close())
        for error in errors:
            assert isinstance(error, ConnectionLostError | CollectiveError)
            assert "node 8 (host8)" in str(error)


def test_a_time_limit_says_that_others_may_be_behind_the_member_that_is_named() -> None:
    with networks(9) as nets:
        works = [lambda net: gather(1, net, timeout=0.2 if net.node == 0 else LIMIT)] * 8
        *errors, _ = together(nets, *works, lambda _: None)
        found = [str(error) for error in errors if isinstance(error, TimeoutError)]
        # Node 1 waits for node 8, and node 0 for node 1.
        assert any("waiting for node 8 (host8)" in text or "members behind them" in text for text in found)


@pytest.mark.parametrize("last", [0, 4, 8])
def test_a_failure_after_the_call_does_not_reach_those_that_are_still_in_it(
    last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "DEGREE", 1)

    def work(net: Network) -> None:
        barrier(net, timeout=LIMIT)
        if net.node != last:
            leave(net.mesh, ValueError("later"))

    with networks(9) as nets:
        for _ in range(5):
            succeed(nets, work)
            begin_anew(nets)


ENTRY = exchange._entry


@pytest.mark.parametrize(
    "bundle",
    [
        None,
        [],
        [1, "text"],
        [0, b""],
        [5, ENTRY(1, b"\x90\xc0")],
        [2, ENTRY(1, b"\x90\xc0")],
        [1, ENTRY(1, b"\x90\xc0")[:-1]],
        [1, ENTRY(1, b"\x90\xc0") + b"xx"],
        [1, ENTRY(6, b"\x90\xc0")],
    ],
)
@pytest.mark.parametrize("call", [gather, scatter])
def test_a_bundle_that_is_malformed_cuts_its_sender_off(bundle: Any, call: Any) -> None:
    with networks(6) as nets:
        root, node = (1, 0) if call is gather else (5, 0)
        sender = tree.children(root, root, 6)[0] if call is gather else root
        receiver = root if call is gather else node
        text = f"{call.__name__}(root={root}, axis=None)"
        nets[sender][receiver].post(Kind.COLLECTIVE, 0, [group_of(tuple(range(6))), 0, text, 1, bundle])
        nets[sender].mesh.event_loop.flush(nets[sender][receiver])
        with pytest.raises(ConnectionLostError, match=rf"node {sender} .* is lost: a .*bundle"):
            call([1] if call is scatter else 1, nets[receiver], root=root, timeout=LIMIT)
