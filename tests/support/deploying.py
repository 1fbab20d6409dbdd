"""The state of a host that `pserver deploy` inspects, without an installation, which takes a minute."""

import contextlib
import json
import secrets
import socket
import sys
from pathlib import Path
from typing import Any


def free_ports() -> tuple[int, int]:
    """Return two unused ports.

    They are outside the range that the system gives to clients: a client could take the port while a server restarts.
    """
    found: list[int] = []
    while len(found) < 2:
        port = 15_000 + secrets.randbelow(15_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found[0], found[1]


def lend_environment(place: Path, name: str) -> None:
    """Make a folder that looks like a finished environment and leads to the one of the tests."""
    python = place / name / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (place / name / "complete").touch()


def read_record(place: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((place / "record.json").read_text())
    return record
