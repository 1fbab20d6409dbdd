"""Shared by tests of stand-ins: a `prun` that only records, folders of programs, and a folder's full state."""

import contextlib
import io
import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

from pconnect.shadow.cli import main

LIMIT = 60.0  # seconds
SAYS = "real"


class Recorder:
    """A `prun` that records its arguments and prints nothing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "prun"
        self._log = folder / "prun.log"
        self.path.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" >{self._log}\n")
        self.path.chmod(0o755)

    def calls(self) -> list[bytes] | None:
        """Return the arguments of the last call and forget them; return ``None`` if there was no call."""
        if not self._log.exists():
            return None
        words = self._log.read_bytes().split(b"\0")[:-1]
        self._log.unlink()
        return words


def make_program(path: Path, says: str = SAYS, mode: int = 0o755) -> Path:
    """Make a program that prints a word and its arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nprintf "%s\\0" {says} "$@"\n')
    path.chmod(mode)
    return path


def output_of(
    command: Sequence[str | bytes | Path], environment: Mapping[str, str] | None = None
) -> list[bytes]:
    """Run a program that must succeed; return the NUL-terminated words that it prints."""
    done = subprocess.run(
        list(command), check=True, capture_output=True, timeout=LIMIT, env=clean_environment(environment)
    )
    assert done.stderr == b""
    return done.stdout.split(b"\0")[:-1]


def clean_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which no agent works without a network."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PCONNECT_", "PSERVER_", "XDG_"))
    }
    return kept | {"XDG_RUNTIME_DIR": "/nonexistent"} | dict(more or {})


def pshadow(
    *words: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "pconnect.shadow.cli", *map(str, words)]
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=clean_environment(environment),
    )


def pshadow_here(*words: str | Path, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run the command in this process, without the time of its start; return its status and its output."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, clean_environment(environment), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main([str(word) for word in words])
    return status, out.getvalue(), err.getvalue()


def tree(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Return the full state of a folder's files: modes, owners, times, links, bytes, attributes, identity."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        kept = facts.st_mode, facts.st_uid, facts.st_gid, facts.st_size, facts.st_nlink, facts.st_ino
        content: object = None
        if stat.S_ISLNK(facts.st_mode):
            content = path.readlink()
        elif stat.S_ISREG(facts.st_mode):
            content = path.read_bytes()
        more = (
            {name: os.getxattr(path, name) for name in os.listxattr(path, follow_symlinks=False)}
            if content
            else {}
        )
        # A folder's times and size change with its entries.
        times = (facts.st_mtime_ns,) if not path.is_dir() or path.is_symlink() else ()
        found[os.fsencode(path.relative_to(folder))] = *kept, content, more, *times
    return found


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())
