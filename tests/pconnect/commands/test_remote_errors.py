"""From a report of a failure to an error of the right type."""

import builtins
import pickle
from concurrent.futures import CancelledError

import pytest

from pconnect.commands.remote_errors import builtin_bases, cancelled, remote_error
from pconnect.errors import RemoteError, UnsupportedValueError

BUILTINS = sorted(
    (kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, BaseException)),
    key=lambda kind: kind.__name__,
)
# Raised as themselves they would mean something else here.
NOT_THEMSELVES = {
    "BaseExceptionGroup", "ExceptionGroup", "GeneratorExit", "KeyboardInterrupt", "StopAsyncIteration",
    "StopIteration", "SystemExit",
}  # fmt: skip


def failure_of(kind: type[BaseException]) -> dict[str, object]:
    bases = [base.__name__ for base in kind.__mro__]
    return {"type": kind.__name__, "bases": bases, "message": "why", "traceback": "lines\nX: why"}


def test_no_text_of_it_controls_the_terminal() -> None:
    failure = {"type": "X\x1b[2J\n", "bases": [], "message": "a\x07\nb", "traceback": "t\u202e\nX: a\x07\nb"}
    error = remote_error(1, "alpha", "x", failure)
    assert (error.type_name, error.message) == (r"X\x1b[2J\n", r"a\x07" + "\nb")
    assert str(error).isascii() and error.remote_traceback == r"t\u202e" + "\n" + r"X: a\x07" + "\nb"


@pytest.mark.parametrize("kind", BUILTINS)
def test_a_builtin_exception_is_raised_as_itself(kind: type[BaseException]) -> None:
    error = remote_error(2, "alpha", "1 / 0", failure_of(kind))
    assert isinstance(error, RemoteError)
    assert isinstance(error, kind) == (kind.__name__ not in NOT_THEMSELVES)
    assert (
        str(error) == f"{kind.__name__} at node 2 (alpha) in command '1 / 0'\n"
        "--- traceback of node 2 ---\nlines\nX: why"
    )
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (again.node, again.message, str(again)) == (2, "why", str(error))


def test_the_nearest_class_that_is_known_counts() -> None:
    failure = failure_of(KeyError) | {"type": "Missing", "bases": ["Missing", "KeyError", "LookupError"]}
    error = remote_error(1, "h", "x", failure)
    assert isinstance(error, KeyError)
    assert type(remote_error(1, "h", "x", failure | {"bases": ["os", "print", "Missing"]})) is RemoteError


def test_errors_of_this_package_too() -> None:
    assert isinstance(remote_error(1, "h", "x", failure_of(UnsupportedValueError)), UnsupportedValueError)


def test_the_names_that_are_told() -> None:
    class OwnError(KeyError):
        pass

    assert builtin_bases(OwnError()) == ["KeyError", "LookupError", "Exception", "BaseException"]


def test_an_interrupt_that_was_asked_for_is_a_cancellation() -> None:
    error = cancelled(remote_error(1, "h", "x", failure_of(KeyboardInterrupt)))
    assert isinstance(error, CancelledError)
    assert error.is_interrupt


def test_no_class_of_another_name() -> None:
    import pconnect.commands.remote_errors

    for name in ("RemoteNothing", "KeyError", "RemoteSystemExit"):
        with pytest.raises(AttributeError):
            getattr(pconnect.commands.remote_errors, name)
