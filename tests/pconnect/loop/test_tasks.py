"""Steps in a loop: they go on beside everything else, and end in time."""

import contextlib
import math
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect.loop.event_loop import EventLoop
from pconnect.loop.tasks import Task
from srp_tools import steps as waiting
from srp_tools.steps import Steps, Wait
from tests.support.links import LIMIT


@pytest.fixture
def event_loop() -> Iterator[EventLoop]:
    with contextlib.closing(EventLoop()) as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def until(event_loop: EventLoop, outcomes: list[Any], count: int = 1) -> None:
    event_loop.run_until(lambda: len(outcomes) >= count, time.monotonic() + LIMIT, "the outcome")


def test_they_go_on_when_their_descriptor_is_ready(
    event_loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    outcomes: list[Any] = []
    event_loop.background.start(waiting.receive_exactly(pair[0], 4), math.inf, outcomes.append)
    for data in (b"ab", b"cd"):
        assert outcomes == []
        pair[1].send(data)
        event_loop.poll(LIMIT)
    assert outcomes == [b"abcd"]
    assert len(event_loop.background) == 0
    event_loop.watch(pair[0].fileno(), lambda: None)  # nothing of them is left in the loop
    event_loop.unwatch(pair[0].fileno())


def test_what_they_raise_is_their_outcome(
    event_loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    outcomes: list[Any] = []
    event_loop.background.start(waiting.receive_exactly(pair[0], 4), math.inf, outcomes.append)
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


def test_their_time_passes(event_loop: EventLoop, pair: tuple[socket.socket, socket.socket]) -> None:
    closed = []

    def steps() -> Steps[None]:
        try:
            yield Wait(pair[0].fileno())
        finally:
            closed.append(True)

    outcomes: list[Any] = []
    begin = time.monotonic()
    event_loop.background.start(steps(), begin + 0.05, outcomes.append)
    until(event_loop, outcomes)
    assert isinstance(outcomes[0], TimeoutError)
    assert closed == [True]
    assert 0.05 <= time.monotonic() - begin < 0.9  # the loop itself looks up every second only


def test_one_wait_has_a_limit_of_its_own(
    event_loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    def steps() -> Steps[str]:
        for fileno in (pair[0].fileno(), -1):
            with contextlib.suppress(TimeoutError):
                yield Wait(fileno, until=time.monotonic() + 0.01)
        return "went on"

    outcomes: list[Any] = []
    event_loop.background.start(steps(), math.inf, outcomes.append)
    until(event_loop, outcomes)
    assert outcomes == ["went on"]


def test_cancelled_steps_tell_nothing(
    event_loop: EventLoop, pair: tuple[socket.socket, socket.socket]
) -> None:
    outcomes: list[Any] = []
    task = event_loop.background.start(waiting.receive_exactly(pair[0], 1), math.inf, outcomes.append)
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
