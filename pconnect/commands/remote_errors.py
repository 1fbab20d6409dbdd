"""From the report of a failure to the error that is raised for it, which is also of the builtin type it had there."""

import builtins
import concurrent.futures
import functools
from collections.abc import Sequence
from typing import Any, cast

from pconnect import errors
from pconnect.errors import RemoteError
from srp_tools.printable import printable_name, printable_text

# Raised as themselves these would mean something here: the end of this program, or of the generator that runs.
# A group needs the exceptions themselves, which do not travel.
_NOT_RAISED_HERE = (StopIteration, StopAsyncIteration, GeneratorExit, BaseExceptionGroup)


def remote_error(node: int, host: str, command: str, failure: dict[str, Any]) -> RemoteError:
    """Return the error for a failed command.

    `failure`: what the engine reports: ``type``, the name of the exception's class; ``bases``, the names of the builtin
    classes and those of this package that it derives from; ``message`` and ``traceback``, texts.

    Examples
    --------
    >>> failure = {"type": "Missing", "bases": ["KeyError"], "message": "'a'", "traceback": ""}
    >>> error = remote_error(1, "alpha", "x", failure)
    >>> isinstance(error, RemoteError), isinstance(error, LookupError), error.type_name
    (True, True, 'Missing')
    """
    made = _class_for(tuple(failure["bases"]))
    type_name, message = printable_name(failure["type"]), printable_text(failure["message"])
    return made(node, host, command, type_name, message, printable_text(failure["traceback"]))


def blame_limit(failure: dict[str, Any], seconds: float) -> None:
    """Give an interrupt its reason: the time limit has passed."""
    message = f"the time limit of {seconds:g} s passed"
    failure |= {"type": "TimeoutError", "bases": ["TimeoutError"], "message": message}
    failure["traceback"] = f"{failure['traceback'].rstrip()}\nTimeoutError: {message}"


def cancelled(error: RemoteError) -> RemoteError:
    """Return the error of a command that ended because it was cancelled, as a `concurrent.futures.CancelledError`."""
    return _combine("CancelledError")(*error.args)


def builtin_bases(error: BaseException) -> list[str]:
    """Return the names of the classes of an exception that its receiver has too, the nearest first."""
    return [kind.__name__ for kind in type(error).__mro__ if _class_named(kind.__name__) is kind]


def _class_named(name: str) -> type[BaseException] | None:
    if name == "CancelledError":
        return concurrent.futures.CancelledError
    found = getattr(builtins, name, None) or (getattr(errors, name, None) if name in errors.__all__ else None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


@functools.cache
def _class_for(bases: Sequence[str]) -> type[RemoteError]:
    """Return the class for an exception whose nearest builtin class is the first of `bases` that is known."""
    for name in bases:
        kind = _class_named(name)
        if kind is None or issubclass(kind, _NOT_RAISED_HERE) or issubclass(RemoteError, kind):
            continue
        if issubclass(kind, Exception):
            return _combine(name)
    return RemoteError


@functools.cache
def _combine(name: str) -> type[RemoteError]:
    # `RemoteError` first: its text and its arguments count.
    kind = _class_named(name)
    assert kind is not None  # noqa: S101 - whoever calls this has looked
    made = type(f"Remote{name}", (RemoteError, kind), {"__module__": __name__, "__doc__": kind.__doc__})
    return cast(type[RemoteError], made)


def __getattr__(name: str) -> type[RemoteError]:
    """Find a class by its name, for pickle: ``RemoteKeyError`` is made when it is asked for."""
    base = name.removeprefix("Remote")
    kind = _class_named(base) if base != name else None
    if kind is None or not issubclass(kind, Exception):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _combine(base)
