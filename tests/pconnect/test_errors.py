"""The tree of errors, and the text of the error of a failed command."""

import copy
import sys

import pytest

import pconnect
from pconnect import errors
from pconnect.errors import (
    ConnectionLostError,
    EngineDiedError,
    InternalError,
    ParallelError,
    RemoteError,
    UnavailableTypeError,
    UnreadableValueError,
)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("EngineDiedError", ConnectionError),
        ("ServerBusyError", ConnectionError),
        ("ServerRefusedError", ConnectionError),
        ("ProtocolError", ValueError),
        ("UnsupportedValueError", TypeError),
        ("MessageTooLargeError", ValueError),
        ("UnknownServiceError", LookupError),
        ("UnreadableValueError", ValueError),
        ("UnavailableTypeError", ImportError),
        ("InternalError", RuntimeError),
        ("RemoteError", RuntimeError),
    ],
)
def test_each_error_can_be_caught_by_its_root_and_its_builtin(name: str, builtin: type[Exception]) -> None:
    error = getattr(errors, name)
    assert issubclass(error, ParallelError) and issubclass(error, builtin)


def test_a_dead_engine_is_a_lost_connection() -> None:
    assert issubclass(EngineDiedError, ConnectionLostError)


def test_what_is_missing_is_one_reason_why_a_value_cannot_be_read() -> None:
    assert issubclass(UnavailableTypeError, UnreadableValueError)


def test_every_error_is_exported_and_in_the_table() -> None:
    own = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert own == set(errors.__all__) | {"ParallelError"}
    assert errors.__doc__ is not None
    assert [name for name in own if name not in errors.__doc__] == []


def test_a_bug_is_reported_with_the_versions() -> None:
    error = InternalError("the door is OPEN")
    python = ".".join(map(str, sys.version_info[:3]))
    told = (
        f"the door is OPEN (a bug in pserver {pconnect.__version__} with Python {python}: please report it)"
    )
    assert str(error) == told
    assert str(copy.copy(error)) == told


def remote_error(command: str) -> RemoteError:
    return RemoteError(
        2, "hostB", command, "ZeroDivisionError", "/", "Traceback\n  line 1\nZeroDivisionError: /\n\n"
    )


def test_the_error_of_a_command_says_what_failed_and_where() -> None:
    error = remote_error("1 / 0")
    assert str(error) == (
        "ZeroDivisionError on node 2 (hostB) in command '1 / 0'\n"
        "--- traceback of node 2 ---\n"
        "Traceback\n  line 1\nZeroDivisionError: /"
    )
    assert (error.node, error.host, error.command) == (2, "hostB", "1 / 0")
    assert error.type_name == "ZeroDivisionError"
    assert error.remote_traceback.endswith("ZeroDivisionError: /\n\n")
    assert repr(error) == "<RemoteError: ZeroDivisionError on node 2 (hostB): />"


def test_a_short_form_names_the_type_even_without_a_message() -> None:
    error = RemoteError(1, "hostA", "x", "KeyboardInterrupt", "", "")
    error.restore({"args": ()})
    assert repr(error) == "<RemoteError: KeyboardInterrupt on node 1 (hostA)>"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 57 + "..."),
        ("a = 1\nb = 2", "a = 1..."),
        ("y" * 70 + "\nb = 2", "y" * 57 + "..."),
    ],
)
def test_a_long_command_is_shown_in_one_line(command: str, shown: str) -> None:
    error = remote_error(command)
    assert f"in command {shown!r}\n" in str(error)
    assert error.command == command
