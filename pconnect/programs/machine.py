"""Facts about a machine: programs with their versions, free memory, processors. Used on nodes and on the client.

Versions come from the output of ``--version``. The program runs without input, in its own process group, and for a
limited time.
"""

import contextlib
import hashlib
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Path, first line of ``--version`` or ``None``, SHA-256 of the file or ``None``. Just ``None`` for a missing program.
Found = tuple[str, str | None, bytes | None] | None

VERSION_SECONDS = 2.0
_MAX_VERSION_BYTES = 2**16
_MAX_LINE_CHARACTERS = 200
# The same as in `pconnect.shadow.guard`, a higher layer: makes a stand-in run the real program.
_SHADOW = "PSERVER_SHADOW"


def find_programs(names: Sequence[str]) -> dict[str, Found]:
    """Find programs in ``PATH``, and call them with ``--version``.

    Parameters
    ----------
    names
        Names to find in ``PATH``, or absolute paths.

    Returns
    -------
    dict
        By name: path, version and digest. The version is ``None`` for a program that does not know ``--version``.

    Examples
    --------
    >>> find_programs(["no-such-program"])
    {'no-such-program': None}
    """
    paths = {name: _path_of(name) for name in names}
    return {
        name: None if path is None else (path, version_of(path), _digest(path))
        for name, path in paths.items()
    }


def machine_facts(names: Sequence[str] = ()) -> dict[str, Any]:
    """Return ``memory`` (free memory in bytes), ``cpus``, ``load`` (average of one minute) and ``programs``.

    ``programs`` lists the given names that are programs here. Facts that the system does not provide are ``None``.

    Examples
    --------
    >>> machine_facts(["no-such-program", "/bin/sh"])["programs"]
    ['/bin/sh']
    """
    load: float | None = None
    with contextlib.suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
    there = [name for name in names if _path_of(name)]
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"memory": _available_memory(), "cpus": cpus, "load": load, "programs": there}


def version_of(path: str, seconds: float = VERSION_SECONDS) -> str | None:
    """Return the first line of a program's ``--version`` output, ``None`` if there is none.

    A program that does not end in time is killed with its child processes.
    """
    deadline = time.monotonic() + seconds
    try:
        process = subprocess.Popen(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={**os.environ, "LC_ALL": "C", _SHADOW: "1"},
            process_group=0,
        )
    except OSError:
        return None
    try:
        text = _read(process, deadline).decode("utf-8", "replace")
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)
    lines = (line.strip() for line in text.splitlines())
    return next((line[:_MAX_LINE_CHARACTERS] for line in lines if line), None) if status == 0 else None


def _path_of(name: str) -> str | None:
    return shutil.which(name) if name and "\0" not in name else None


def _read(process: "subprocess.Popen[bytes]", deadline: float) -> bytes:
    """Return the start of the output."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    data = b""
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    while len(data) < _MAX_VERSION_BYTES and (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            piece = os.read(process.stdout.fileno(), _MAX_VERSION_BYTES)
            if not piece:
                break
            data += piece
    return data


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the remaining processes of the group: children may outlive the program itself."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    process.stdout.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _digest(path: str) -> bytes | None:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:  # it may be executable but not readable
        return None


def _available_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
