"""What a host has when `pserver deploy` looks at it, without the minute that an installation takes."""

import json
import socket
import sys
from pathlib import Path
from typing import Any


def free_ports() -> tuple[int, int]:
    """Return two ports that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


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
