"""What a host has when `pserver deploy` looks at it, without the minute that an installation takes."""

import contextlib
import json
import secrets
import socket
import sys
from pathlib import Path
from typing import Any


def free_ports() -> tuple[int, int]:
    """Return two ports that nobody has.

    The system gives none of these to a client, which could have it while a server is restarted.
    """
    found: list[int] = []
    while len(found) < 2:
        port = 15_000 + secrets.randbelow(15_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found[0], found[1]


def lend_environment(place: Path, name: str) -> None:
    """Make what looks like a finished environment, and is that of the tests."""
    python = place / name / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (place / name / "complete").touch()


def read_record(place: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((place / "record.json").read_text())
    return record
