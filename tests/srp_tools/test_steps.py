"""Steps on socket pairs: results, failures side by side, deadlines, and cleanup."""

import contextlib
import math
import selectors
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect.loop.event_loop import EventLoop
from srp_tools.steps import (
    Steps,
    Task,
    Wait,
    connect,
    deadline_after,
    pause,
    receive_exactly,
    remaining,
    run,
    run_all,
    send_all,
)
from tests.support.waiting import TRIES

Pair = tuple[socket.socket, socket.socket]
GENEROUS = 20.0  # seconds; no test takes this long


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@pytest.fixture
def event_loop() -> Iterator[EventLoop]:
    with contextlib.closing(EventLoop()) as made:
        yield made


def immediately(result: str) -> Steps[str]:
    yield from ()
    return result


def failing(error: Exception) -> Steps[str]:
    yield from ()
    raise error


def wait_for(sock: socket.socket, until: float = math.inf) -> Steps[str]:
    yield Wait(sock.fileno(), until=until)
    return "readable"


# Instants


def test_no_timeout_is_a_deadline_that_never_comes() -> None:
    assert remaining(deadline_after(None)) is None


def test_what_remains_of_a_deadline() -> None:
    left = remaining(deadline_after(100))
    assert left is not None and 99 < left <= 100
    assert remaining(time.monotonic() - 1) == 0


# Runs


def test_run_returns_the_result() -> None:
    assert run(immediately("done"), deadline_after(GENEROUS)) == "done"


def test_run_raises_what_the_steps_raise() -> None:
    error = ZeroDivisionError("of the steps")
    with pytest.raises(ZeroDivisionError) as caught:
        run(failing(error), deadline_after(GENEROUS))
    assert caught.value is error


def test_steps_wait_for_each_other(pair: Pair) -> None:
    left, right = pair

    def ask() -> Steps[bytes]:
        yield from send_all(left, b"question")
        return (yield from receive_exactly(left, 6))

    def answer() -> Steps[bytes]:
        question = yield from receive_exactly(right, 8)
        yield from send_all(right, b"answer")
        return question

    both = run_all({"ask": ask(), "answer": answer()}, deadline_after(GENEROUS))
    assert both == {"ask": b"answer", "answer": b"question"}


def test_one_failure_does_not_end_the_others(pair: Pair) -> None:
    left, right = pair
    error = ValueError("only mine")

    def wake() -> Steps[str]:
        yield Wait(right.fileno(), selectors.EVENT_WRITE)
        right.send(b"!")
        raise error

    outcomes = run_all({1: wake(), 2: wait_for(left), 3: immediately("3")}, deadline_after(GENEROUS))
    assert outcomes == {1: error, 2: "readable", 3: "3"}


def test_nothing_to_run_is_done_at_once() -> None:
    assert run_all({}, math.inf) == {}


def test_the_deadline_ends_those_that_still_wait(pair: Pair) -> None:
    left, right = pair
    cleaned = []

    def patient() -> Steps[str]:
        try:
            return (yield from wait_for(left))
        finally:
            cleaned.append("patient")

    right_readable = wait_for(right)
    left.send(b"!")
    slow = patient()  # referenced here, so that only `run_all` can close it
    outcomes = run_all({"slow": slow, "quick": right_readable}, deadline_after(0.05))
    assert outcomes["quick"] == "readable"
    assert isinstance(outcomes["slow"], TimeoutError)
    assert cleaned == ["patient"]


def test_run_raises_at_its_deadline(pair: Pair) -> None:
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within the time limit"):
        run(wait_for(pair[0]), begin + 0.05)
    assert 0.05 <= time.monotonic() - begin < GENEROUS


def test_a_deadline_in_the_past_still_runs_what_need_not_wait(pair: Pair) -> None:
    outcomes = run_all({1: immediately("done"), 2: wait_for(pair[0])}, time.monotonic() - 1)
    assert outcomes[1] == "done"
    assert isinstance(outcomes[2], TimeoutError)


def test_a_wait_with_its_own_limit_continues_after_it(pair: Pair) -> None:
    left, right = pair

    def second_try() -> Steps[str]:
        try:
            yield from wait_for(left, until=deadline_after(0.05))
        except TimeoutError:
            right.send(b"!")
            return "again " + (yield from wait_for(left))
        return "at once"

    assert run(second_try(), deadline_after(GENEROUS)) == "again readable"


def test_the_limit_of_one_wait_does_not_affect_another(pair: Pair) -> None:
    left, right = pair

    def limited() -> Steps[str]:
        try:
            yield Wait(right.fileno(), until=deadline_after(0.05))
        finally:
            right.send(b"!")
        return "at once"

    outcomes = run_all({1: limited(), 2: wait_for(left)}, deadline_after(GENEROUS))
    assert isinstance(outcomes[1], TimeoutError)
    assert outcomes[2] == "readable"


def test_what_arrives_before_the_limit_counts(pair: Pair) -> None:
    left, right = pair
    right.send(b"!")
    assert run(wait_for(left, until=deadline_after(GENEROUS)), math.inf) == "readable"


# In the loop of a network


def until(event_loop: EventLoop, outcomes: list[Any], count: int = 1) -> None:
    event_loop.run_until(lambda: len(outcomes) >= count, time.monotonic() + GENEROUS, "the outcome")


def test_steps_continue_when_their_descriptor_is_ready(event_loop: EventLoop, pair: Pair) -> None:
    outcomes: list[Any] = []
    event_loop.background.start(receive_exactly(pair[0], 4), math.inf, outcomes.append)
    for data in (b"ab", b"cd"):
        assert outcomes == []
        pair[1].send(data)
        event_loop.poll(GENEROUS)
    assert outcomes == [b"abcd"]
    assert len(event_loop.background) == 0
    event_loop.watch(pair[0].fileno(), lambda: None)  # nothing of the steps is left in the loop
    event_loop.unwatch(pair[0].fileno())


def test_what_they_raise_is_their_outcome(event_loop: EventLoop, pair: Pair) -> None:
    outcomes: list[Any] = []
    event_loop.background.start(receive_exactly(pair[0], 4), math.inf, outcomes.append)
    pair[1].close()
    until(event_loop, outcomes)
    assert isinstance(outcomes[0], ConnectionResetError)


def test_steps_that_need_not_wait_end_at_once(event_loop: EventLoop) -> None:
    def steps() -> Steps[int]:
        yield from ()
        return 5

    outcomes: list[Any] = []
    event_loop.background.start(steps(), math.inf, outcomes.append)
    assert outcomes == [5]


def test_their_time_passes(event_loop: EventLoop, pair: Pair) -> None:
    closed = []

    def steps() -> Steps[None]:
        try:
            yield Wait(pair[0].fileno())
        finally:
            closed.append(True)

    seconds = []
    for _ in range(TRIES):
        outcomes: list[Any] = []
        begin = time.monotonic()
        event_loop.background.start(steps(), begin + 0.05, outcomes.append)
        until(event_loop, outcomes)
        seconds.append(time.monotonic() - begin)
        assert isinstance(outcomes[0], TimeoutError)
    assert closed == [True] * TRIES
    assert 0.05 <= min(seconds) < 0.9  # the loop itself wakes up only every second


def test_a_wait_has_its_own_limit(event_loop: EventLoop, pair: Pair) -> None:
    def steps() -> Steps[str]:
        for fileno in (pair[0].fileno(), -1):
            with contextlib.suppress(TimeoutError):
                yield Wait(fileno, until=time.monotonic() + 0.01)
        return "went on"

    outcomes: list[Any] = []
    event_loop.background.start(steps(), math.inf, outcomes.append)
    until(event_loop, outcomes)
    assert outcomes == ["went on"]


def test_cancelled_steps_tell_nothing(event_loop: EventLoop, pair: Pair) -> None:
    outcomes: list[Any] = []
    task = event_loop.background.start(receive_exactly(pair[0], 1), math.inf, outcomes.append)
    for _ in range(2):
        event_loop.background.cancel(task)
    pair[1].send(b"x")
    event_loop.poll(0)
    assert outcomes == []
    assert pair[0].recv(1) == b"x"


def test_an_outcome_may_cancel_others_whose_time_has_passed_too(event_loop: EventLoop) -> None:
    def steps() -> Steps[None]:
        yield Wait(-1)

    outcomes: list[Any] = []
    tasks: list[Task] = []

    def end(outcome: object) -> None:
        outcomes.append(outcome)
        for task in tasks:
            event_loop.background.cancel(task)

    for _ in range(2):
        tasks.append(event_loop.background.start(steps(), time.monotonic(), end))  # noqa: PERF401 - seen by `end`
    event_loop.poll(0)
    assert len(outcomes) == 1


# Sockets


def test_connect_reaches_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = run(connect(socket.AF_INET, listener.getsockname()), deadline_after(GENEROUS))
        with sock, listener.accept()[0] as accepted:
            assert sock.gettimeout() == 0
            assert accepted.getpeername() == sock.getsockname()


def test_connect_to_a_refused_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        run(connect(socket.AF_INET, address), deadline_after(GENEROUS))


def test_connects_run_side_by_side() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refused = closed.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        steps = {i: connect(socket.AF_INET, listener.getsockname()) for i in range(5)}
        steps[5] = connect(socket.AF_INET, refused)
        outcomes = run_all(steps, deadline_after(GENEROUS))
    opened = [sock for sock in outcomes.values() if isinstance(sock, socket.socket)]
    for sock in opened:
        sock.close()
    assert len(opened) == 5
    assert isinstance(outcomes[5], ConnectionRefusedError)


def test_connect_has_its_own_limit() -> None:
    with contextlib.ExitStack() as stack:
        # When this queue is full, the next connection gets no answer.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            run(connect(socket.AF_INET, listener.getsockname(), deadline_after(0.05)), math.inf)
        assert 0.05 <= time.monotonic() - begin < GENEROUS


def test_receive_exactly_has_its_own_limit(pair: Pair) -> None:
    left, right = pair
    right.send(b"ab")
    with pytest.raises(TimeoutError):
        run(receive_exactly(left, 3, deadline_after(0.05)), math.inf)


def test_receive_exactly_takes_nothing_more(pair: Pair) -> None:
    left, right = pair
    right.send(b"0123456789")
    assert run(receive_exactly(left, 4), deadline_after(GENEROUS)) == b"0123"
    assert left.recv(100) == b"456789"


def test_receive_exactly_puts_parts_together(pair: Pair) -> None:
    left, right = pair
    steps = receive_exactly(left, 3)
    for byte in (b"a", b"b"):
        assert next(steps).fileno == left.fileno()
        right.send(byte)
    assert next(steps).events == selectors.EVENT_READ
    right.send(b"c")
    assert run(steps, deadline_after(GENEROUS)) == b"abc"


def test_receive_exactly_from_a_peer_that_stops(pair: Pair) -> None:
    left, right = pair
    right.send(b"ab")
    right.close()
    with pytest.raises(ConnectionResetError, match="closed"):
        run(receive_exactly(left, 3), deadline_after(GENEROUS))


def test_send_all_through_small_buffers(pair: Pair) -> None:
    left, right = pair
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    right.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    data = bytes(range(256)) * 2000
    steps: dict[str, Steps[bytes | None]] = {
        "send": send_all(left, data),
        "receive": receive_exactly(right, len(data)),
    }
    outcomes = run_all(steps, deadline_after(GENEROUS))
    assert outcomes["send"] is None
    assert outcomes["receive"] == data


def test_a_pause_is_as_long_as_it_says_and_ends_with_the_deadline() -> None:
    begin = time.monotonic()
    assert run(pause(0.05), deadline_after(GENEROUS)) is None
    assert 0.05 <= time.monotonic() - begin < GENEROUS / 2
    with pytest.raises(TimeoutError):
        run(pause(GENEROUS), deadline_after(0.01))
