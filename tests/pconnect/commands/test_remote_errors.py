"""From the report of a failure to an error of the right type."""

import builtins
import pickle
import traceback
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from pconnect.commands.remote_errors import (
    builtin_bases,
    cancelled,
    enumerated,
    failure_group,
    plain_fields,
    remote_error,
)
from pconnect.errors import RemoteError, UnsupportedValueError

BUILTINS = sorted(
    (kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, BaseException)),
    key=lambda kind: kind.__name__,
)
# Raised as themselves they would have another meaning here.
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
        str(error) == f"{kind.__name__} on node 2 (alpha) in command '1 / 0'\n"
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


def test_the_names_that_are_sent() -> None:
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


def remote(error: BaseException) -> RemoteError:
    """Return the client's error for an exception in an engine."""
    return remote_error(1, "h", "x", failure_of(type(error)) | {"fields": plain_fields(error)})


def test_builtin_errors_keep_what_programs_look_at() -> None:
    missing = remote(FileNotFoundError(2, "No such file", "/data/a.npy"))
    assert isinstance(missing, FileNotFoundError)
    assert (missing.errno, missing.strerror, missing.filename) == (2, "No such file", "/data/a.npy")
    assert missing.args == (2, "No such file")
    assert remote(KeyError(("a", 3))).args == (("a", 3),)
    assert remote(KeyError("it")).args[0] == "it"
    module = remote(ModuleNotFoundError("no x", name="x"))
    assert isinstance(module, ImportError)
    assert module.name == "x"
    undecoded = remote(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"))
    assert isinstance(undecoded, UnicodeDecodeError)
    assert (undecoded.object, undecoded.start, undecoded.end) == (b"\xff", 0, 1)
    assert "on node 1 (h)" in str(undecoded)
    path = remote(OSError(2, "No such file", Path("/data/b")))
    assert isinstance(path, OSError)
    assert path.filename == "/data/b"


def test_the_arguments_are_never_those_of_this_package() -> None:
    assert remote_error(1, "h", "x", failure_of(KeyError)).args == ("why",)
    assert remote(ValueError(object())).args == ("why",)
    assert remote(ValueError("x" * 10_000)).args == ("why",)
    assert remote(ValueError(2**100_000)).args == ("why",)
    assert remote(ValueError(((((1,),),),))).args == ("why",)


def test_they_outlive_a_pickle_and_a_copy() -> None:
    again = pickle.loads(pickle.dumps(remote(FileNotFoundError(2, "No such file", "a"))))
    assert isinstance(again, FileNotFoundError)
    assert isinstance(again, RemoteError)
    assert (again.errno, again.filename, again.args, again.node) == (2, "a", (2, "No such file"), 1)


def test_a_class_of_the_user_runs_no_code_for_its_fields() -> None:
    class OwnError(OSError):
        @property
        def filename(self) -> str:
            raise RuntimeError("asked")

    assert plain_fields(OwnError(5, "why", "a"))["filename"] == "a"


def test_what_python_makes_more_of_is_left_out() -> None:
    told = {
        "name_from": "a",
        "name": "this",
        "obj": 1,
        "__class__": 3,
        "node": 7,
        "with_traceback": 1,
        "lineno": 1,
    }
    for kind in (ImportError, NameError, AttributeError, SyntaxError, ValueError):
        error = remote_error(1, "h", "x", failure_of(kind) | {"fields": told})
        assert error.node == 1
        assert getattr(error, "name_from", None) is None
        assert getattr(error, "lineno", None) is None
        assert getattr(error, "name", None) == ("this" if kind is ImportError else None)


@pytest.mark.parametrize("kind", [UnicodeDecodeError, OSError, ImportError])
def test_a_field_of_another_type_is_left_out(kind: type[Exception]) -> None:
    error = remote_error(1, "h", "x", failure_of(kind) | {"fields": {"args": 5, "start": "x", "end": 2**100}})
    assert error.args == ("why",)
    assert "on node 1" in str(error)


def test_a_traceback_shows_the_node_of_a_syntax_error() -> None:
    shown = "".join(traceback.format_exception_only(remote(SyntaxError("invalid", ("f", 1, 2, "x", 1, 3)))))
    assert "SyntaxError on node 1 (h) in command 'x'" in shown


def test_the_text_of_a_group_names_the_nodes_and_the_first_error() -> None:
    errors = {2: remote(ZeroDivisionError("why")), 4: OSError("the disk is full")}
    group = failure_group("put", errors)
    assert (
        group.message
        == "put failed on 2 nodes (2 and 4); ZeroDivisionError on node 1 (h) in command 'x': why"
    )
    assert group.exceptions == tuple(errors.values())
    assert failure_group("put", {4: errors[4]}).message.endswith("; OSError: the disk is full")
    assert enumerated(["1", "2", "3"]) == "1, 2 and 3"
