"""The contents of a workspace: for `net.pull` and `net.who`, and for name completion."""

import builtins
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from pconnect.messaging import collectives

# Names that every workspace has from the start; they are not the user's.
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
    """Return the value of a name, or a list of the values of several names; builtins count as names.

    Raises `NameError` if a name is not defined.

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
    """Return name, type, shape (as text, or ``None``) and size in bytes of each object that the user has defined.

    Modules are left out, as are keys that are not names. The size is that of the data if the object reports it
    (``nbytes``), otherwise that of the object alone, without the objects it refers to. An object whose attributes raise
    errors has no shape and no size.

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
    """Return the completions of a dotted name that begins with `text`. No function is called, but properties are.

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
    except Exception:  # noqa: BLE001 - the name is unknown, or the object's own code fails
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
