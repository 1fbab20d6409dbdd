"""What becomes of a command, in every order in which it may come."""

import pytest

from pconnect.commands.outcome import Outcome
from pconnect.errors import ConnectionLostError

ERROR = ConnectionLostError("gone")


def outcome(*, wants_value: bool) -> Outcome:
    made = Outcome()
    made.read_value = (lambda arrived: arrived * 2) if wants_value else None
    made.callbacks.append(print)
    return made


@pytest.mark.parametrize("steps", [("end", "arrive"), ("arrive", "end")])
def test_a_value_may_come_before_and_after_the_end(steps: tuple[str, ...]) -> None:
    made = outcome(wants_value=True)
    for step in steps:
        assert not made.is_done and made.take_callbacks() == []
        if step == "end":
            assert made.end(None, 0.5, 9.0)
        else:
            made.arrive(21)
    assert made.is_done and made.value == 42
    assert (made.finished, made.duration, made.error) == (9.0, 0.5, None)
    assert made.take_callbacks() == [print] and made.take_callbacks() == []


def test_without_a_value_the_end_is_all() -> None:
    made = outcome(wants_value=False)
    assert made.finished is None and not made.is_done
    assert made.end(None, 0.5, 9.0)
    assert made.is_done and made.value is None


def test_only_the_first_end_counts() -> None:
    made = outcome(wants_value=False)
    assert made.end(None, 0.5, 9.0)
    assert not made.end(ERROR, None, 10.0)
    assert (made.error, made.finished) == (None, 9.0)


def test_an_error_ends_the_wait_for_a_value() -> None:
    made = outcome(wants_value=True)
    assert made.end(ERROR, None, 9.0)
    assert made.is_done and made.error is ERROR
    assert not made.lose_value(ConnectionLostError("another"))
    assert made.error is ERROR


def test_a_value_that_cannot_come_fails_only_a_command_that_has_ended_and_misses_it() -> None:
    running, missing, complete = (outcome(wants_value=True) for _ in range(3))
    for ended in (missing, complete):
        ended.end(None, 0.5, 9.0)
    complete.arrive(1)
    assert [each.lose_value(ERROR) for each in (running, missing, complete)] == [False, True, False]
    assert [each.error for each in (running, missing, complete)] == [None, ERROR, None]
    assert missing.is_done
