"""What is asked of a worker for a program, as it is sent: see JOB in doc/protocol.md."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.files.listing import is_inner_name

MAX_NICE = 19


def folder_request(
    folder: bool, files: Mapping[str, tuple[int, bytes]] | None, outputs: Sequence[str] | None
) -> dict[str, Any]:
    """Return what is asked for a private folder; raise `ConfigurationError` if that cannot be."""
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
    """Return an argument, a path or the like as it is sent; raise `ConfigurationError` if it cannot be."""
    try:
        data = os.fsencode(value)
    except TypeError:
        raise ConfigurationError(f"{what}: {value!r} is no text, bytes or path") from None
    if b"\0" in data:
        raise ConfigurationError(f"{what}: {value!r} has a NUL character in it")
    return data
