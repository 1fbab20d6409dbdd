"""The users' names of settings: keys in ``prun.toml``, and long options of `prun` with ``_`` instead of ``-``.

This module checks the values from both sources.
"""

import os
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields

from pconnect.errors import ConfigurationError
from pconnect.files.listing import is_inner_name
from pconnect.programs.request import MAX_NICE
from pconnect.prun import accept
from pconnect.prun.settings import Settings
from pconnect.public_names import nearest
from pconnect.toml_file import fault

# Settings whose name for users differs from the field of `Settings`.
_OTHER_NAMES = {"here": "where", "or_here": "or_local", "queue_limit": "queue_timeout"}
_TYPES = typing.get_type_hints(Settings)

#: The field of `Settings` for each key.
KEYS: Mapping[str, str] = {_OTHER_NAMES.get(each.name, each.name): each.name for each in fields(Settings)}
#: The key for each field of `Settings`.
KEY_OF: Mapping[str, str] = {name: key for key, name in KEYS.items()}

_WHERE = {"server": False, "local": True}
_VARIABLE = re.compile(r"[^=\0\s]+(=[^\0]*)?", re.DOTALL)


def setting(key: str, value: object) -> tuple[str, object]:
    """Return the field of `Settings` for a key, and the field's value for a TOML value.

    Raises `ConfigurationError` if there is no such key, or the value is invalid.

    Examples
    --------
    >>> setting("on", "alpha")
    ('on', ('alpha',))
    >>> setting("where", "local")
    ('here', True)
    >>> setting("map_dir", {"/home/me": "/srv/me"})
    ('map_dir', (('/home/me', '/srv/me'),))
    """
    if key not in KEYS:
        raise ConfigurationError(f"{key!r} is not a setting of prun{nearest(key, list(KEYS))}")
    name = KEYS[key]
    if key == "where":
        return name, _where(value)
    made: object
    if key == "map_dir":
        made = _pairs(value)
    elif _TYPES[name] == tuple[str, ...]:
        made = _texts(key, value)
    elif wrong := fault(key, value, _TYPES[name]):
        raise ConfigurationError(wrong)
    else:
        made = value
    _refuse_null(key, made)
    check = _CHECKS.get(name)
    if check is not None and (wrong := check(made)):
        raise ConfigurationError(f"{key}: {wrong}")
    return name, made


def _where(value: object) -> bool:
    if not isinstance(value, str) or value not in _WHERE:
        raise ConfigurationError(f"where must be one of {', '.join(_WHERE)}, not {value!r}")
    return _WHERE[value]


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(there, str) for there in value.values()):
        raise ConfigurationError('map_dir must be a table of folders, such as {"/home/me" = "/srv/me"}')
    return tuple((os.path.expanduser(here), there) for here, there in value.items())  # noqa: PTH111 - it never raises


def _texts(key: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if key == "on":
        items = [
            str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items
        ]
    for item in items:
        if not isinstance(item, str) or not item:
            raise ConfigurationError(f"{key} must be a string or a list of strings, not {value!r}")
    return tuple(items)


def _refuse_null(key: str, value: object) -> None:
    """Refuse null characters: no path, argument or variable can contain one."""
    if "\0" in str(value):
        raise ConfigurationError(f"{key} must not contain a null character")


def _check_pairs(pairs: tuple[tuple[str, str], ...]) -> str | None:
    for folder in (folder for pair in pairs for folder in pair):
        if not folder.startswith("/"):
            return f"{folder!r} is not an absolute path"
    return None


def _check_folder(folder: str) -> str | None:
    return (
        f"{folder!r}: your home folder may have another path on the server; write the full path"
        if folder[:1] == "~"
        else None
    )


def _check_accept(text: str) -> str | None:
    if text:
        accept.parse(text)  # raises an error with the reason
    return None


def _check_names(names: tuple[str, ...]) -> str | None:
    for name in names:
        if not is_inner_name(name):
            return f"{name!r} is not a file in or below the current folder; give a relative path without .."
    return None


def _check_variables(variables: tuple[str, ...]) -> str | None:
    for variable in variables:
        if not _VARIABLE.fullmatch(variable):
            return f"{variable!r} is not NAME or NAME=VALUE"
    return None


def _check_seconds(seconds: float | None) -> str | None:
    return None if seconds is None or seconds > 0 else "it must be more than 0"


def _check_nice(steps: int) -> str | None:
    return f"it must be at most {MAX_NICE}, not {steps}" if steps > MAX_NICE else None


# Checks of values that have the right type. Each returns the fault, or ``None``.
_CHECKS: Mapping[str, Callable[..., str | None]] = {
    "map_dir": _check_pairs,
    "cwd": _check_folder,
    "accept": _check_accept,
    "send": _check_names,
    "fetch": _check_names,
    "env": _check_variables,
    "time_limit": _check_seconds,
    "queue_limit": _check_seconds,
    "nice": _check_nice,
}
