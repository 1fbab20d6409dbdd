"""From an engine's report of a failure to the error that is raised for it, which is also of the same built-in type."""

import builtins
import concurrent.futures
import functools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast

from pconnect import errors
from pconnect.errors import RemoteError, builtin_fields
from srp_tools.printable import printable_name, printable_text

# Raised here, these would have another meaning: the end of this program, or of the running generator. A group would
# need the exceptions themselves, which are not sent.
_NOT_RAISED_HERE = (StopIteration, StopAsyncIteration, GeneratorExit, BaseExceptionGroup)
_SHOWN_CHARACTERS = 200  # of a message, in the text of a group
_MAX_FIELD_CHARACTERS = 2**12  # in all fields of an exception
_NOT_PLAIN = object()


def remote_error(node: int, host: str, command: str, failure: dict[str, Any]) -> RemoteError:
    """Return the error for a failed command.

    `failure`: the engine's report: ``type``, the name of the exception's class; ``bases``, the names of the built-in
    classes and those of this package that it derives from; ``message`` and ``traceback``, strings; and optionally
    ``fields``, see `plain_fields`.

    Examples
    --------
    >>> failure = {"type": "Missing", "bases": ["KeyError"], "message": "'a'", "traceback": ""}
    >>> error = remote_error(1, "alpha", "x", failure)
    >>> isinstance(error, RemoteError), isinstance(error, LookupError), error.type_name
    (True, True, 'Missing')
    >>> remote_error(1, "alpha", "x", failure | {"fields": {"args": ("a",)}}).args
    ('a',)
    """
    made = _class_for(tuple(failure["bases"]))
    type_name, message = printable_name(failure["type"]), printable_text(failure["message"])
    error = made(node, host, command, type_name, message, printable_text(failure["traceback"]))
    error.restore(failure.get("fields", {}))
    return error


def failure_group(what: str, errors: Mapping[int, Exception]) -> ExceptionGroup:
    """Return the error for a failure on several nodes; its text names them, and quotes the first error.

    `errors`: by node.

    Examples
    --------
    >>> error = remote_error(1, "alpha", "x", {"type": "E", "bases": [], "message": "why", "traceback": ""})
    >>> print(failure_group("the command", {1: error, 2: OSError("full"), 3: OSError("full")}).message)
    the command failed on 3 nodes (1, 2 and 3); E on node 1 (alpha) in command 'x': why
    """
    nodes, first = enumerated(map(str, errors)), next(iter(errors.values()))
    return ExceptionGroup(
        f"{what} failed on {len(errors)} nodes ({nodes}); {_headline(first)}", list(errors.values())
    )


def _headline(error: Exception) -> str:
    """Return the first line of an error's text."""
    line = str(error).partition("\n")[0]
    if isinstance(error, RemoteError):
        words = error.message.partition("\n")[0][:_SHOWN_CHARACTERS]
        return f"{line}{': ' * bool(words)}{words}"
    return f"{type(error).__name__}{': ' * bool(line)}{line}"


def enumerated(words: Iterable[str]) -> str:
    """Return words with commas between them, and "and" before the last.

    Examples
    --------
    >>> enumerated("abc"), enumerated("a")
    ('a, b and c', 'a')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def blame_limit(failure: dict[str, Any], seconds: float, who: str = "") -> None:
    """Give an interrupt its reason: the time limit has passed. `who`: text to append, such as who set the limit."""
    message = f"the time limit of {seconds:g} s passed{who}"
    failure |= {"type": "TimeoutError", "bases": ["TimeoutError"], "message": message}
    failure.pop("fields", None)  # they belong to the interrupt
    failure["traceback"] = f"{failure['traceback'].rstrip()}\nTimeoutError: {message}"


def cancelled(error: RemoteError) -> RemoteError:
    """Return the error of a cancelled command, as a `concurrent.futures.CancelledError`."""
    facts = (error.node, error.host, error.command, error.type_name, error.message, error.remote_traceback)
    return _combine("CancelledError")(*facts)


def builtin_bases(error: BaseException) -> list[str]:
    """Return the names of an exception's classes that its receiver has too, nearest first."""
    return [kind.__name__ for kind in type(error).__mro__ if _class_named(kind.__name__) is kind]


def plain_fields(error: BaseException) -> dict[str, Any]:
    """Return the values of an exception's fields in `BUILTIN_FIELDS`, as far as they are plain and small.

    Examples
    --------
    >>> plain_fields(ImportError("no x", name="x"))
    {'args': ('no x',), 'name': 'x', 'path': None}
    """
    fields, room = {}, float(_MAX_FIELD_CHARACTERS)
    for name, field in builtin_fields(type(error)).items():
        value = _plain(field.__get__(error))  # getattr could run code of the user's class
        size = _size(value)
        if size <= room:
            fields[name] = value
            room -= size
    return fields


def _plain(value: object) -> object:
    """Return a path as a string, and anything else unchanged."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value)) if type(value) is tuple else _NOT_PLAIN
    return os.fspath(value) if isinstance(value, PurePath) else value


def _size(value: object, depth: int = 0) -> float:
    """Return the approximate number of characters of a value; infinite if it is not plain."""
    if type(value) is tuple:
        return math.inf if depth > 2 else 1 + sum(_size(item, depth + 1) for item in value)
    if isinstance(value, str | bytes) and type(value) in {str, bytes}:
        return 1 + len(value)
    if isinstance(value, int) and type(value) in {int, bool}:
        return 1 + value.bit_length() // 8
    return 1 if value is None or type(value) in {float, complex} else math.inf


def _class_named(name: str) -> type[BaseException] | None:
    if name == "CancelledError":
        return concurrent.futures.CancelledError
    found = getattr(builtins, name, None) or (getattr(errors, name, None) if name in errors.__all__ else None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


@functools.cache
def _class_for(bases: Sequence[str]) -> type[RemoteError]:
    """Return the class for an exception whose nearest known built-in class is the first in `bases`."""
    for name in bases:
        kind = _class_named(name)
        if kind is None or issubclass(kind, _NOT_RAISED_HERE) or issubclass(RemoteError, kind):
            continue
        if issubclass(kind, Exception):
            return _combine(name)
    return RemoteError


@functools.cache
def _combine(name: str) -> type[RemoteError]:
    # `RemoteError` comes first: its text and arguments take precedence.
    kind = _class_named(name)
    assert kind is not None  # noqa: S101 - the callers have checked
    made = type(f"Remote{name}", (RemoteError, kind), {"__module__": __name__, "__doc__": kind.__doc__})
    return cast(type[RemoteError], made)


def __getattr__(name: str) -> type[RemoteError]:
    """Find a class by its name, for pickle: ``RemoteKeyError`` is created on demand."""
    base = name.removeprefix("Remote")
    kind = _class_named(base) if base != name else None
    if kind is None or not issubclass(kind, Exception):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _combine(base)
