"""Steps in a loop: they go on beside everything else, and end in time."""

import contextlib
import math
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect.loop.event_loop import Progress
from pconnect.loop.tasks import Task
from srp_tools import steps as waiting
from srp_tools.steps import Steps, Wait
from tests.support.links import LIMIT


@pytest.fixture
def progress() -> Iterator[Progress]:
    with contextlib.closing(Progress()) as made:
        yield made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def until(progress: Progress, outcomes: list[Any], count: int = 1) -> None:
    progress.run_until(lambda: len(outcomes) >= count, time.monotonic() + LIMIT, "the outcome")


def test_they_go_on_when_their_descriptor_is_ready(
    progress: Progress, pair: tuple[socket.socket, socket.socket]
) -> None:
    outcomes: list[Any] = []
    progress.background.start(waiting.receive_exactly(pair[0], 4), math.inf, outcomes.append)
    for data in (b"ab", b"cd"):
        assert outcomes == []
        pair[1].send(data)
        progress.poll(LIMIT)
    assert outcomes == [b"abcd"]
    assert len(progress.background) == 0
    progress.watch(pair[0].fileno(), lambda: None)  # nothing of them is left in the loop
    progress.unwatch(pair[0].fileno())


def test_what_they_raise_is_their_outcome(
    progress: Progress, pair: tuple[socket.socket, socket.socket]
) -> None:
    outcomes: list[Any] = []
    progress.background.start(waiting.receive_exactly(pair[0], 4), math.inf, outcomes.append)
    pair[1].close()
    until(progress, outcomes)
    assert isinstance(outcomes[0], ConnectionResetError)


def test_steps_that_need_not_wait_end_at_once(progress: Progress) -> None:
    def steps() -> Steps[int]:
        yield from ()
        return 5

    outcomes: list[Any] = []
    progress.background.start(steps(), math.inf, outcomes.append)
    assert outcomes == [5]


def test_their_time_passes(progress: Progress, pair: tuple[socket.socket, socket.socket]) -> None:
    closed = []

    def steps() -> Steps[None]:
        try:
            yield Wait(pair[0].fileno())
        finally:
            closed.append(True)

    outcomes: list[Any] = []
    begin = time.monotonic()
    progress.background.start(steps(), begin + 0.05, outcomes.append)
    until(progress, outcomes)
    assert isinstance(outcomes[0], TimeoutError)
    assert closed == [True]
    assert 0.05 <= time.monotonic() - begin < 0.9  # the loop itself looks up every second only


def test_one_wait_has_a_limit_of_its_own(
    progress: Progress, pair: tuple[socket.socket, socket.socket]
) -> None:
    def steps() -> Steps[str]:
        for fileno in (pair[0].fileno(), -1):
            with contextlib.suppress(TimeoutError):
                yield Wait(fileno, until=time.monotonic() + 0.01)
        return "went on"

    outcomes: list[Any] = []
    progress.background.start(steps(), math.inf, outcomes.append)
    until(progress, outcomes)
    assert outcomes == ["went on"]


def test_cancelled_steps_tell_nothing(progress: Progress, pair: tuple[socket.socket, socket.socket]) -> None:
    outcomes: list[Any] = []
    task = progress.background.start(waiting.receive_exactly(pair[0], 1), math.inf, outcomes.append)
    for _ in range(2):
        progress.background.cancel(task)
    pair[1].send(b"x")
    progress.poll(0)
    assert outcomes == []
    assert pair[0].recv(1) == b"x"


def test_an_outcome_may_cancel_others_whose_time_has_passed_too(progress: Progress) -> None:
    def steps() -> Steps[None]:
        yield Wait(-1)

    outcomes: list[Any] = []
    tasks: list[Task] = []

    def end(outcome: object) -> None:
        outcomes.append(outcome)
        for task in tasks:
            progress.background.cancel(task)

    for _ in range(2):
        tasks.append(progress.background.start(steps(), time.monotonic(), end))  # noqa: PERF401 - seen by `end`
    progress.poll(0)
    assert len(outcomes) == 1
