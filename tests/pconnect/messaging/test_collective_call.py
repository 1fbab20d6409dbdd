"""Matching of calls between members, and failures on all members."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pconnect import (
    CollectiveError,
    ConnectionLostError,
    InboxFullError,
    ProtocolError,
    UnreadableValueError,
    UnsupportedValueError,
    allgather,
    allreduce,
    alltoall,
    barrier,
    bcast,
    gather,
    precv,
    psend,
    reduce,
    register_type,
    scatter,
)
from pconnect.loop.network import Network
from pconnect.messaging import collective_call
from pconnect.messaging.collective_call import leave
from pconnect.protocol.collective_inbox import Notice
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind
from pconnect.values import registry
from tests.support.links import LIMIT, networks
from tests.support.members import Work, begin_anew, succeed, together

Nets = list[Network]
CALLS: dict[str, Callable[..., Any]] = {
    "barrier": barrier,
    "bcast": lambda net, **options: bcast(np.zeros(10), net, **options),
    "scatter": lambda net, **options: scatter([1] * len(net), net, **options),
    "gather": lambda net, **options: gather(1, net, **options),
    "allgather": lambda net, **options: allgather(1, net, **options),
    "alltoall": lambda net, **options: alltoall([1] * len(net), net, **options),
    "reduce": lambda net, **options: reduce(1, net, **options),
    "allreduce": lambda net, **options: allreduce(np.zeros(100_000), net, **options),
}
ROOTED = ("bcast", "scatter", "gather", "reduce")
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
def nets() -> Iterator[Nets]:
    with networks(4) as made:
        yield made


def test_groups_that_overlap_do_not_disturb_each_other(nets: Nets) -> None:
    def forth(net: Network) -> list[Any]:
        return [allreduce(net.node, net[:3], timeout=LIMIT), allgather(net.node, net[1:], timeout=LIMIT)]

    outcomes = succeed(
        nets,
        lambda net: allreduce(net.node, net[:3], timeout=LIMIT),
        forth,
        forth,
        lambda net: allgather(net.node, net[1:], timeout=LIMIT),
    )
    assert outcomes == [3, [3, [1, 2, 3]], [3, [1, 2, 3]], [1, 2, 3]]


def test_one_member_may_be_in_another_groups_call_first(nets: Nets) -> None:
    # Node 1 joins the calls of node 0 and node 2 in the reverse order.
    def between(net: Network) -> list[Any]:
        psend("now", net[0])
        second = bcast(None, net[[2, 1]], timeout=LIMIT)
        return [second, bcast(None, net[[0, 1]], timeout=LIMIT)]

    outcomes = succeed(
        nets[:3],
        lambda net: [precv(net[1], timeout=LIMIT), bcast("of 0", net[[0, 1]], timeout=LIMIT)],
        between,
        lambda net: bcast("of 2", net[[2, 1]], timeout=LIMIT),
    )
    assert outcomes == [["now", "of 0"], ["of 2", "of 0"], "of 2"]


def test_users_values_are_not_taken_for_parts_nor_parts_for_values(nets: Nets) -> None:
    def work(net: Network) -> list[Any]:
        psend(f"before {net.node}", net, tag=0)
        total = allreduce(1, net, timeout=LIMIT)
        psend(f"after {net.node}", net, tag=0)
        others = [connection for connection in net if not connection.is_own]
        return [total, *(precv(other, timeout=LIMIT) for _ in range(2) for other in others)]

    for node, outcome in enumerate(succeed(nets, work)):
        others = [k for k in range(4) if k != node]
        assert outcome == [4, *(f"before {k}" for k in others), *(f"after {k}" for k in others)]


def test_nobody_returns_before_all_have_come(nets: Nets) -> None:
    came: list[float] = []

    def late(net: Network) -> None:
        time.sleep(0.2)
        came.append(time.monotonic())
        barrier(net, timeout=LIMIT)

    def early(net: Network) -> float:
        barrier(net, timeout=LIMIT)
        return time.monotonic()

    outcomes = succeed(nets, early, early, early, late)
    assert all(end >= came[0] for end in outcomes[:3])


# --- members that do not make the same call ---


def other_calls() -> Iterator[Any]:
    names = list(CALLS)
    for index, name in enumerate(names):
        for other in (*names[:index], *names[index + 1 :]):
            yield pytest.param(CALLS[name], CALLS[other], (name, other), id=f"{name}-{other}")
    for name in ROOTED:
        yield pytest.param(
            lambda net, timeout, call=CALLS[name]: call(net, root=1, timeout=timeout),
            CALLS[name],
            ("root=1", "root=0"),
            id=f"{name}-roots",
        )


@pytest.mark.parametrize(("one", "other", "texts"), list(other_calls()))
@pytest.mark.parametrize("who", [0, 2])
def test_different_calls_are_named_at_once_at_all_members(
    shared: Nets, one: Any, other: Any, texts: tuple[str, str], who: int
) -> None:
    begin = time.monotonic()
    works: list[Work] = [lambda net: other(net, timeout=LIMIT)] * 4
    works[who] = lambda net: one(net, timeout=LIMIT)
    for error in together(shared, *works):
        assert isinstance(error, CollectiveError)
        assert "do not make the same call: node " in str(error)
        assert all(text in str(error) for text in texts)
    assert time.monotonic() - begin < LIMIT / 2
    begin_anew(shared)


@pytest.fixture(scope="module")
def shared() -> Iterator[Nets]:
    with networks(4) as made:
        yield made


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        (lambda net: allreduce(1, net, op="min"), lambda net: allreduce(1, net), ("op='min'", "op='sum'")),
        (lambda net: allgather([1], net, axis=0), lambda net: allgather([1], net), ("axis=0", "axis=None")),
        (lambda net: reduce(1, net, op=np.add), lambda net: reduce(1, net), ("'ufunc add'", "'sum'")),
    ],
)
def test_different_options_are_named(shared: Nets, one: Work, other: Work, texts: tuple[str, str]) -> None:
    for error in together(shared, other, one, other):
        assert isinstance(error, CollectiveError)
        assert all(text in str(error) for text in texts)
    begin_anew(shared)


# --- members that fail or are gone ---


@each_call
def test_a_member_that_is_gone_is_named_by_all(nets: Nets, call: Any) -> None:
    def die(net: Network) -> None:
        time.sleep(0.05)
        net.mesh.event_loop.close()

    *errors, _ = together(nets, *[lambda net: call(net, timeout=LIMIT)] * 3, die)
    for error in errors:
        assert isinstance(error, ConnectionLostError | CollectiveError)
        assert "node 3 (host3)" in str(error)
    assert [net.mesh.left and net.mesh.left.node for net in nets[:3]] == [3] * 3
    begin_anew(nets[:3])
    assert succeed(nets[:3], lambda net: allreduce(1, net[:3], timeout=LIMIT)) == [3] * 3


@each_call
@pytest.mark.parametrize("late", [0, 3])
def test_a_timeout_ends_the_call_for_all_and_names_the_missing_members(
    shared: Nets, call: Any, late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collective_call, "_GRACE", 0.02)
    for net in shared:
        monkeypatch.setattr(net.mesh.event_loop, "longest_sleep", 0.02)
    works: list[Work] = [lambda net: call(net, timeout=LIMIT)] * 4
    works[1] = lambda net: call(net, timeout=0.1)
    works[late] = lambda net: net.mesh.event_loop.run_until(
        lambda: bool(net[1].collectives.notice(net.mesh.epoch)), 1e12, ""
    )
    outcomes = together(shared, *works)
    assert outcomes.pop(late) is None
    for error in outcomes:
        if isinstance(error, TimeoutError):
            # A complete member waits for node 0, whichever member that one waits for.
            assert f"waiting for node {late} (host{late})" in str(error) or late == 3
        else:
            assert isinstance(error, CollectiveError)
            assert "node 1 (host1) left it: TimeoutError: " in str(error)
    assert sum(isinstance(error, TimeoutError) for error in outcomes) == 1
    begin_anew(shared)
    succeed(shared, lambda net: call(net, timeout=LIMIT))


def test_a_failure_after_the_call_does_not_affect_members_that_are_returning(nets: Nets) -> None:
    def fail_afterwards(net: Network) -> None:
        barrier(net, timeout=LIMIT)
        leave(net.mesh, ValueError("later"))

    for _ in range(5):
        succeed(nets, lambda net: barrier(net, timeout=LIMIT), fail_afterwards, fail_afterwards)
        begin_anew(nets)


@each_call
def test_a_member_that_is_gone_before_the_first_has_come(nets: Nets, call: Any) -> None:
    """All members but the first may have done their part: they wait only for it."""

    def die(net: Network) -> None:
        with contextlib.suppress(TimeoutError):
            call(net, timeout=0.1)
        net.mesh.event_loop.close()

    def watch(net: Network) -> None:
        net.mesh.event_loop.run_until(lambda: net[3].error is not None, 1e12, "the end of node 3")
        with pytest.raises((ConnectionLostError, CollectiveError), match=r"node 3 \(host3\)"):
            call(net, timeout=LIMIT)

    _, *errors, _ = together(nets, watch, *[lambda net: call(net, timeout=LIMIT)] * 2, die)
    for error in errors:
        assert isinstance(error, ConnectionLostError | CollectiveError)
        assert "node 3 (host3)" in str(error)


@pytest.mark.parametrize("call", [reduce, allreduce])
def test_an_operator_that_fails_at_one_member(shared: Nets, call: Any) -> None:
    def fails_at_0(*_: object) -> Any:
        raise ArithmeticError("not here")

    def work(net: Network) -> Any:
        op = fails_at_0 if net.node == 0 else max
        return call(net.node, net, op=op, timeout=LIMIT)

    first, *others = together(shared, work)
    assert type(first) is ArithmeticError
    for error in others:
        assert isinstance(error, CollectiveError)
        assert str(error).endswith("cannot be completed: node 0 (host0) left it: ArithmeticError: not here")
        assert f"{call.__name__} of nodes 0, 1, 2, 3 " in str(error)
    assert {net.mesh.left for net in shared} == {
        Notice(0, "ArithmeticError: not here")
    }  # passed on unchanged
    begin_anew(shared)


def test_a_value_that_cannot_be_sent_is_named_as_the_users(shared: Nets) -> None:
    def work(net: Network) -> Any:
        return allgather({"a": [object() if net.node == 2 else 1]}, net, timeout=LIMIT)

    *others, error, last = together(shared, work)
    assert isinstance(error, UnsupportedValueError)
    assert str(error) == "value['a'][0]: cannot send <class 'object'>"
    for other in (*others, last):
        assert "node 2 (host2) left it: UnsupportedValueError: value['a'][0]" in str(other)
    begin_anew(shared)


def test_a_value_that_cannot_be_made_is_an_error_of_the_call(
    shared: Nets, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine:
        pass

    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_makers", {})
    register_type(Mine, "test.Mine", lambda _: 0, lambda zero: 1 // zero)
    error, *others = together(shared, lambda net: gather([Mine()], net, timeout=LIMIT))
    assert isinstance(error, UnreadableValueError) and "from_value raised ZeroDivisionError" in str(error)
    for other in others:
        assert isinstance(other, CollectiveError) and "UnreadableValueError" in str(other)
    begin_anew(shared)
    assert succeed(shared, lambda net: allreduce(1, net, timeout=LIMIT)) == [len(shared)] * len(shared)


def test_a_member_that_left_stays_away_until_a_new_epoch(nets: Nets) -> None:
    leave(nets[1].mesh, ValueError("why"))
    leave(nets[1].mesh, ValueError("another"))  # the first error counts
    for _ in range(2):
        outcomes = together(nets, lambda net: barrier(net, timeout=LIMIT))
        assert str(outcomes[1]).startswith("barrier cannot start: this node left an earlier collective call")
        assert "ValueError: why" in str(outcomes[1])
        for error in (outcomes[0], *outcomes[2:]):
            assert isinstance(error, CollectiveError)
            assert "ValueError: why" in str(error)
    begin_anew(nets)
    assert succeed(nets, lambda net: allreduce(1, net, timeout=LIMIT)) == [4] * 4


def test_an_error_without_text_has_its_name(nets: Nets) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError

    leave(nets[0].mesh, MuteError())
    leave(nets[1].mesh, ValueError(10_000 * "x"))
    assert nets[0].mesh.left is not None and nets[0].mesh.left.text.endswith("MuteError")
    assert nets[1].mesh.left is not None and len(nets[1].mesh.left.text) == 4000


def test_others_continue_without_a_member_that_left(nets: Nets) -> None:
    leave(nets[3].mesh, ValueError("why"))
    assert succeed(nets[:3], lambda net: allreduce(1, net[:3], timeout=LIMIT)) == [3] * 3


def test_a_member_in_an_old_epoch_learns_of_the_new_one(nets: Nets) -> None:
    def old(net: Network) -> Any:
        return barrier(net, timeout=LIMIT)

    def new(net: Network) -> Any:
        net.mesh.begin_epoch(7)
        return barrier(net, timeout=0.5)

    first, *_ = together(nets, old, new)
    assert isinstance(first, CollectiveError)
    assert "has begun a new epoch with a later command" in str(first)


def test_nothing_of_a_failed_call_is_taken_for_a_part_of_a_later_one(nets: Nets) -> None:
    errors = together(nets[:2], lambda net: allgather("old", net, timeout=0.05))
    assert [type(error) in (TimeoutError, CollectiveError) for error in errors] == [True] * 2
    begin_anew(nets)
    assert succeed(nets, lambda net: allgather("new", net, timeout=LIMIT)) == [["new"] * 4] * 4


def test_half_sent_parts_are_unchanged_and_the_links_remain_usable(nets: Nets) -> None:
    value = np.zeros(2**21)
    with pytest.raises(TimeoutError):
        allgather(value, nets[0][:3], timeout=0.05)
    value[:] = 1

    def take(net: Network) -> Any:
        return precv(net[0], timeout=LIMIT)

    outcomes = together(nets, lambda net: psend("alive", net, timeout=LIMIT), take)
    assert outcomes == [None, "alive", "alive", "alive"]
    queues = list(nets[1][0].collectives._queues.values())
    assert not queues[0][0].value.any()


def test_a_full_inbox_ends_a_call_that_waits_for_more() -> None:
    with networks(2, limits=Limits(max_inbox_bytes=60_000)) as pair:
        for _ in range(3):
            psend(bytes(40_000), pair[1][0], timeout=LIMIT)
        outcomes = together(pair, lambda net: barrier(net, timeout=LIMIT))
        assert isinstance(outcomes[0], InboxFullError)
        assert isinstance(outcomes[1], CollectiveError)
        assert [len(precv(pair[0][1], timeout=LIMIT)) for _ in range(3)] == [40_000] * 3
        begin_anew(pair)
        assert succeed(pair, lambda net: barrier(net, timeout=LIMIT)) == [None, None]


def test_what_waits_for_a_call_counts_for_the_inbox_until_it_is_taken() -> None:
    with networks(2, limits=Limits(max_inbox_bytes=100_000)) as pair:
        psend(0, pair[0][1])
        psend(0, pair[1][0])
        value = bytes(300_000)
        assert succeed(pair, lambda net: allgather(value, net, timeout=LIMIT)) == [[value] * 2] * 2
        for net in pair:
            other = net[1 - net.node]
            assert 0 < other.waiting_bytes < 1000
            precv(other)
            assert other.waiting_bytes == 0


def test_a_malformed_part_ends_its_connection(nets: Nets) -> None:
    nets[2][0].post(Kind.COLLECTIVE, 0, "nonsense")
    nets[2].mesh.event_loop.flush(nets[2][0])
    with pytest.raises(ConnectionLostError, match=r"node 2 \(host2\) is lost: a malformed COLLECTIVE"):
        barrier(nets[0], timeout=LIMIT)
    assert isinstance(nets[0][2].error, ProtocolError)
