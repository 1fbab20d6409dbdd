"""TOML files that only their owner may change, and errors that name the line.

The configuration of `pconnect` and the rules of `prun` are such files: they say which machines you trust.
"""

import numbers
import os
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pconnect.errors import ConfigurationError, CredentialError
from srp_tools.private_files import check_unwritable

_MAX_FILE_BYTES = 2**20

#: The keys that lead to a value, and the positions of tables in their arrays.
Place = tuple[str | int, ...]

#: Names of the option types in messages, and the accepted classes, which include numpy's numbers.
_NAMES: Mapping[object, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a non-negative integer", (numbers.Integral,)),
    float: ("a non-negative number", (numbers.Real,)),
    str: ("a string", (str,)),
    Path: ("a path", (os.PathLike,)),
}


class TomlFile:
    """The values in a file, and their line numbers.

    Attributes
    ----------
    path
        Path of the file.
    content
        The values by key.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        try:
            self.content: Mapping[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:  # its text has the line
            raise ConfigurationError(f"{path}: {error}") from None
        self._keys = list(_keys(text))

    def error(self, place: Place, text: str) -> ConfigurationError:
        """Return an error about the value at a place."""
        return ConfigurationError(f"{self.where(place)}: {text}")

    def where(self, place: Place) -> str:
        """Return the path, with the line of a place if it is known."""
        line = self.line(place)
        return str(self.path) if line is None else f"{self.path}, line {line}"

    def line(self, place: Place) -> int | None:
        """Return the number of the line where a place begins."""
        # A line may have some of the keys, or more: [profiles] for profiles.lab, and [profile.lab] for profile.
        lines = [
            (min(len(keys), len(place)), -line)
            for line, keys in self._keys
            if keys and place[: len(keys)] == keys[: len(place)]
        ]
        return -max(lines)[1] if lines else None


def read_toml(path: Path) -> TomlFile | None:
    """Read a file; return ``None`` if there is none, or if it is in a folder that this account may not enter.

    Raises `ConfigurationError` if others can write the file, or if it cannot be read or parsed; the text has the line.
    """
    try:
        check_unwritable(path)
    except OSError:
        return None
    except CredentialError as error:
        raise ConfigurationError(str(error)) from None
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise ConfigurationError(f"{path} is too large: the limit is {_MAX_FILE_BYTES} bytes")
        return TomlFile(path, data.decode("utf-8-sig"))  # some editors write a byte order mark
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line}: the file is not UTF-8") from None


def alternatives(annotation: object) -> tuple[object, ...]:
    """Return the alternative types of a parameter's annotation."""
    return typing.get_args(annotation) or (annotation,)


def fault(name: str, value: object, annotation: object) -> str | None:
    """Describe the problem with the value of an option; return ``None`` if there is none.

    Examples
    --------
    >>> fault("timeout", True, float | None)
    'timeout must be a non-negative number, not True'
    """
    kinds = [kind for kind in alternatives(annotation) if kind in _NAMES]
    for kind in kinds:
        is_number = kind in {int, float}
        if isinstance(value, _NAMES[kind][1]) and not (
            is_number and (isinstance(value, bool) or not value >= 0)  # type: ignore[operator] # false for NaN
        ):
            return None
    shown = "a value of another type" if name == "password" else repr(value)
    return f"{name} must be {' or '.join(_NAMES[kind][0] for kind in kinds)}, not {shown}"


def _keys(text: str) -> Iterator[tuple[int, Place]]:
    """Yield the number of each line that begins a table or a value, with the keys that lead there."""
    table: Place = ()
    arrays: dict[Place, int] = {}  # the position of the last table of each array
    for number, line in enumerate(text.split("\n"), 1):
        if found := re.match(r"\s*\[\[([^\[\]]+)\]\]", line):
            name = _numbered(_path(f"[{found[1]}]"), arrays)
            # For an array that exists already, the name ends with the position of its last table.
            array = name[:-1] if name and isinstance(name[-1], int) else name
            arrays[array] = arrays.get(array, -1) + 1
            table = (*array, arrays[array])
            yield number, table
        elif found := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = _numbered(_path(f"[{found[1]}]"), arrays)
            yield number, table
        elif found := re.match(r"\s*([^=#]+?)\s*=", line):
            yield number, (*table, *_path(f"{found[1]} = 0"))


def _numbered(path: Place, arrays: Mapping[Place, int]) -> Place:
    """Return a path with the position of the last table after each name of an array."""
    place: Place = ()
    for key in path:
        place = (*place, key)
        if place in arrays:
            place = (*place, arrays[place])
    return place


def _path(line: str) -> Place:
    """Return the keys of one line of TOML; none if the line is part of a longer value."""
    try:
        found: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    keys: list[str] = []
    while isinstance(found, dict) and found:
        key, found = next(iter(found.items()))
        keys.append(key)
    return tuple(keys)
