"""The wire form of a request for a program: see JOB in doc/protocol.md."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.files.listing import is_inner_name

MAX_NICE = 19


def folder_request(
    folder: bool, files: Mapping[str, tuple[int, bytes]] | None, outputs: Sequence[str] | None
) -> dict[str, Any]:
    """Return the part of the request for a private folder; raise `ConfigurationError` if it is invalid."""
    if not folder:
        if files or outputs is not None:
            raise ConfigurationError("files and outputs are for programs that run in a private folder")
        return {}
    for name in files or ():
        if not is_inner_name(name):
            raise ConfigurationError(f"files: {name!r} is not the name of a file inside a folder")
    request: dict[str, Any] = {"folder": True}
    if files:
        request["files"] = {name: [mode & 0o777, bytes(data)] for name, (mode, data) in files.items()}
    if outputs is not None:
        request["outputs"] = [outputs] if isinstance(outputs, str) else list(outputs)
    return request


def to_bytes(what: str, value: Any) -> bytes:
    """Encode an argument, a path or the like; raise `ConfigurationError` if it cannot be sent."""
    try:
        data = os.fsencode(value)
    except TypeError:
        raise ConfigurationError(f"{what}: {value!r} is not a string, bytes or a path") from None
    if b"\0" in data:
        raise ConfigurationError(f"{what}: {value!r} contains a NUL character")
    return data
