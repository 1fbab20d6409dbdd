import itertools
import math
from typing import Any

import pytest

from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.session.command_queue import LIMIT_GRACE, CommandQueue, Expiry, not_begun


def queue_of(*numbers: int, seconds: float | None = None) -> CommandQueue:
    queue = CommandQueue()
    for number in numbers:
        options = {} if seconds is None else {"seconds": seconds}
        queue.add(Message(Kind.COMMAND, number, ["x = 1", 0, options]))
    return queue


def running(*numbers: int, seconds: float | None = None) -> CommandQueue:
    """Return a queue whose first command began at 100."""
    queue = queue_of(*numbers, seconds=seconds)
    queue.begin(100.0)
    return queue


def failure(kind: str) -> dict[str, Any]:
    return {"type": kind, "bases": [kind], "message": "", "traceback": f"Traceback\n{kind}\n", "seconds": 1.0}


def test_commands_run_one_at_a_time_in_order() -> None:
    queue = queue_of(1, 2)
    begun = []
    while queue.can_begin:
        begun.append(queue.begin(0.0))
        assert queue.running == begun[-1].tag
        assert not queue.can_begin
        queue.end(begun[-1].tag, 0.5)
        assert queue.running is None
    assert [(command.kind, command.tag) for command in begun] == [(Kind.COMMAND, 1), (Kind.COMMAND, 2)]
    assert begun[0].value == ["x = 1", 0, {}]


def test_the_end_of_another_command_changes_nothing() -> None:
    queue = running(1, 2)
    queue.end(2, 0.5)
    assert queue.running == 1
    queue.end(1, 0.5)
    queue.end(1, 0.5)
    assert queue.begin(0.0).tag == 2


def test_an_interrupt_is_for_all_commands_up_to_a_number() -> None:
    """Every number, with one command that runs and with none."""
    for begins, number in itertools.product((False, True), range(1, 6)):
        queue = running(2, 3, 4) if begins else queue_of(2, 3, 4)
        waiting = [3, 4] if begins else [2, 3, 4]
        stopped = queue.interrupt(number)
        assert stopped.not_begun == [each for each in waiting if each <= number]
        assert stopped.is_running == (begins and number >= 2)
        assert queue.running == (2 if begins else None)
        queue.end(2, failure("KeyboardInterrupt"))
        left = [each for each in waiting if each > number]
        assert queue.can_begin == bool(left)
        assert [queue.interrupt(9).not_begun] == [left]


def test_a_cancellation_is_for_one_command() -> None:
    for begins, number in itertools.product((False, True), range(1, 6)):
        queue = running(2, 3, 4) if begins else queue_of(2, 3, 4)
        waiting = [3, 4] if begins else [2, 3, 4]
        stopped = queue.cancel(number)
        assert stopped.not_begun == [each for each in waiting if each == number]
        assert stopped.is_running == (begins and number == 2)
        assert queue.interrupt(9).not_begun == [each for each in waiting if each != number]


def test_what_waits_or_everything_is_dropped() -> None:
    queue = running(1, 2)
    queue.drop_waiting()
    assert queue.running == 1
    queue.end(1, 0.5)
    assert not queue.can_begin
    queue = running(1, 2, seconds=1.0)
    queue.clear()
    assert (queue.running, queue.can_begin, queue.time_left(200.0)) == (None, False, math.inf)


def test_without_seconds_there_is_no_limit() -> None:
    queue = running(1)
    assert (queue.time_left(1e9), queue.expire(1e9)) == (math.inf, None)


def test_a_time_limit_interrupts_and_then_kills() -> None:
    queue = running(1, seconds=2.5)
    assert (queue.time_left(101.0), queue.expire(101.0)) == (1.5, None)
    assert (queue.time_left(103.0), queue.expire(103.0)) == (0.0, Expiry.INTERRUPT)
    assert (queue.time_left(103.0), queue.expire(103.0)) == (LIMIT_GRACE - 0.5, None)
    assert queue.expire(102.5 + LIMIT_GRACE) is Expiry.KILL
    assert (queue.time_left(1e9), queue.expire(1e9)) == (math.inf, None)


def test_a_limit_ends_with_its_command() -> None:
    queue = running(1, seconds=2.5)
    queue.end(1, 0.5)
    assert (queue.time_left(1e9), queue.expire(1e9)) == (math.inf, None)


@pytest.mark.parametrize("expiries", [1, 2])
def test_an_interrupt_at_the_limit_is_called_by_its_reason(expiries: int) -> None:
    queue = running(1, seconds=2.5)
    for _ in range(expiries):
        queue.expire(1e9)
    interrupted = failure("KeyboardInterrupt")
    queue.end(1, interrupted)
    assert (interrupted["type"], interrupted["bases"]) == ("TimeoutError", ["TimeoutError"])
    assert interrupted["traceback"].endswith(
        "KeyboardInterrupt\nTimeoutError: the time limit of 2.5 s passed"
    )


@pytest.mark.parametrize(
    ("passed", "outcome"),
    [
        (False, 1.0),
        (False, failure("ValueError")),
        (False, failure("KeyboardInterrupt")),
        (True, 1.0),
        (True, failure("ValueError")),
    ],
)
def test_any_other_outcome_stays_as_it_is(passed: bool, outcome: float | dict[str, Any]) -> None:
    queue = running(1, seconds=2.5)
    if passed:
        queue.expire(1e9)
    before = dict(outcome) if isinstance(outcome, dict) else outcome
    queue.end(1, outcome)
    assert outcome == before


def test_a_command_that_was_not_begun_was_interrupted() -> None:
    outcome = not_begun()
    assert (outcome["type"], outcome["seconds"], outcome["values_sent"]) == ("KeyboardInterrupt", 0.0, 0)
    assert outcome["traceback"] == "KeyboardInterrupt: it was interrupted before it began"
