"""What a workspace holds: for `net.pull` and `net.who`, and for completing names."""

import builtins
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from pconnect.messaging import collectives

# What is in every workspace from the beginning is not the user's.
_GIVEN = {
    "np",
    "job_folder",
    "progress",
    "psend",
    "precv",
    "select_sockets",
    "sockets",
    "display",
    "session_files",
    *collectives.__all__,
}


def values_of(names: Mapping[str, Any], wanted: str | Sequence[str]) -> Any:
    """Return the value of a name, or a list of those of several; Python's own names are there too.

    Raises `NameError` if one is neither.

    Examples
    --------
    >>> values_of({"a": 1, "b": 2}, ["b", "len"])
    [2, <built-in function len>]
    """
    if not isinstance(wanted, str):
        return [values_of(names, name) for name in wanted]
    if wanted not in names and not hasattr(builtins, wanted):
        raise NameError(f"name {wanted!r} is not defined")
    return names[wanted] if wanted in names else getattr(builtins, wanted)


def describe_names(names: Mapping[str, Any]) -> list[list[Any]]:
    """Return name, type, shape (as text, or ``None``) and size in bytes of what the user has defined.

    Modules are left out, and what is no name. The size is that of the data where the object tells it (``nbytes``), else
    that of the object alone, without what it refers to. An object that fails when it is asked has no shape and no size.

    Examples
    --------
    >>> describe_names({"a": b"xyz", "_hidden": 1, "sys": sys})
    [['a', 'bytes', None, 36]]
    """
    shown = sorted(name for name in names if isinstance(name, str) and not name.startswith("_"))
    return [
        [name, type(names[name]).__name__, _shape(names[name]), _size(names[name])]
        for name in shown
        if name not in _GIVEN and not issubclass(type(names[name]), types.ModuleType)
    ]


def names_for_completion(names: Mapping[str, Any], text: str) -> list[str]:
    """Return how a dotted name that begins with `text` may go on. No function is called, but properties are.

    Examples
    --------
    >>> names_for_completion({"array": 1, "apply": 2}, "ar")
    ['array']
    """
    owner, dot, start = text.rpartition(".")
    if not dot:
        return sorted(name for name in names if isinstance(name, str) and name.startswith(start))
    try:
        found: Any = names[owner.split(".")[0]]
        for part in owner.split(".")[1:]:
            found = getattr(found, part)
        return sorted(f"{owner}.{name}" for name in dir(found) if name.startswith(start))
    except Exception:  # noqa: BLE001 - there is none, or the object's own code
        return []


def _shape(value: object) -> str | None:
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            return str(shape)
        return str(len(value)) if isinstance(value, list | tuple | dict | set | frozenset) else None
    except Exception:  # noqa: BLE001 - the object's own code
        return None


def _size(value: object) -> int:
    try:
        size = getattr(value, "nbytes", None)
        return int(size) if isinstance(size, int) else sys.getsizeof(value)
    except Exception:  # noqa: BLE001 - the object's own code
        return 0
