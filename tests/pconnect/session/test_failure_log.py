"""Where the error of a command is reported: the rules of `pconnect.session.failure_log`, one by one."""

import pytest

from pconnect.commands.command import Command
from pconnect.errors import ConnectionLostError, RemoteError
from pconnect.session.failure_log import FailureLog
from tests.support.commands import make_command, make_error


@pytest.fixture
def log() -> FailureLog:
    return FailureLog()


def fail(
    log: FailureLog,
    command: Command,
    kind: str = "ValueError",
    values_sent: int = 0,
    *,
    is_closing: bool = False,
) -> RemoteError:
    error = make_error(command, kind)
    log.add(command, error, values_sent, is_closing=is_closing)
    return error


def test_a_seen_error_is_not_reported_again_on_any_node(log: FailureLog) -> None:
    first, second, elsewhere = make_command(1), make_command(2), make_command(1)
    first.seen = elsewhere.seen
    fail(log, first)
    error = fail(log, second)
    elsewhere.seen.error = True
    assert log.unseen() == [error]
    assert log.take_unseen(0) is error
    assert second.seen.error
    assert log.take_unseen(0) is None and log.unseen() == []


def test_the_oldest_error_is_reported_first_and_after_earlier_values(log: FailureLog) -> None:
    commands = [make_command(number) for number in (1, 2)]
    errors = [fail(log, command, values_sent=sent) for command, sent in zip(commands, (2, 1), strict=True)]
    assert log.take_unseen(1) is None
    assert log.take_unseen(2) is errors[0]
    assert [command.seen.error for command in commands] == [True, False]
    assert log.take_unseen(2) is errors[1]


def test_a_collective_call_raises_the_last_failure_of_its_epoch_seen_or_not(log: FailureLog) -> None:
    command = make_command(5)
    assert log.take_since(0) is None
    error = fail(log, command, values_sent=2)
    assert log.take_since(6) is None and log.take_since(5, 1) is None
    assert not command.seen.error
    assert log.take_since(5, 2) is log.take_since(5) is error
    assert command.seen.error and log.unseen() == []


@pytest.mark.parametrize("asked", ["cancel_asked", "interrupt_asked", "is_closing", ""])
@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "ValueError"])
def test_interrupts_that_this_client_has_asked_for_are_known(log: FailureLog, asked: str, kind: str) -> None:
    command = make_command(1)
    if asked and asked != "is_closing":
        setattr(command, asked, True)
    error = fail(log, command, kind, is_closing=asked == "is_closing")
    assert log.unseen() == ([] if asked and kind == "KeyboardInterrupt" else [error])
    assert log.take_since(0) is error


@pytest.mark.parametrize(
    ("kind", "number", "is_known"),
    [
        ("DeadlockError", 4, True),
        ("CollectiveError", 4, True),
        ("ValueError", 4, False),
        ("DeadlockError", 5, False),
    ],
)
def test_the_deadlock_that_this_client_has_found_is_known(
    log: FailureLog, kind: str, number: int, is_known: bool
) -> None:
    log.tell_of_deadlock(4)
    fail(log, make_command(number), kind)
    assert (log.unseen() == []) == is_known


def test_the_first_warning_that_is_an_error_waits_for_the_end_of_its_command(log: FailureLog) -> None:
    command = make_command(2)
    log.add_warning(2, UserWarning("first"))
    log.add_warning(2, UserWarning("second"))
    assert str(log.take_warning(2)) == "first"
    assert log.take_warning(2) is None
    error = make_error(command, "UserWarning")
    log.add_warned(command, error)
    assert log.last_error == "UserWarning in 'work()'"
    assert log.last_number == -1 and log.take_since(0) is None  # collective calls still work
    assert log.take_unseen(0) is error


def test_lost_commands_end_their_epoch_and_are_not_reported_here(log: FailureLog) -> None:
    log.lose([3, 7, 5], ConnectionLostError("gone"))
    assert (log.last_number, log.last_error) == (7, "gone")
    log.lose([], ConnectionLostError("closed"))
    assert (log.last_number, log.last_error) == (7, "closed")
    assert log.take_unseen(0) is None and log.take_since(0) is None


def test_a_restart_forgets_all_but_what_came_last(log: FailureLog) -> None:
    command = make_command(2, "x" * 100)
    fail(log, command)
    log.add_warning(3, UserWarning())
    log.forget()
    assert log.unseen() == [] and log.take_since(0) is None and log.take_warning(3) is None
    assert (log.last_number, log.last_error) == (2, f"ValueError in {'x' * 60!r}")
