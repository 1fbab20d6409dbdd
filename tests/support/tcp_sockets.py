"""The TCP sockets of processes, as the kernel lists them."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

_LISTENING = "0A"  # of the states in net/tcp_states.h
_INODE = 9  # of the fields in proc_net_tcp(5)


def tcp_sockets(pids: Iterable[int], *, listening: bool = False) -> dict[str, int]:
    """Return the TCP sockets among the descriptors of processes, as ``tcp 0100007F:3039``, with the process of each.

    `listening`: only listening sockets.
    """
    known: dict[str, str] = {}
    for kind in ("tcp", "tcp6"):
        for fields in map(str.split, Path("/proc/net", kind).read_text().splitlines()[1:]):
            if not listening or fields[3] == _LISTENING:
                known[f"socket:[{fields[_INODE]}]"] = f"{kind} {fields[1]}"
    found: dict[str, int] = {}
    for pid in pids:
        for target in _targets(pid):
            if target in known:
                found[known[target]] = pid
    return found


def _targets(pid: int) -> Iterator[str]:
    """Return the targets of a process's descriptors, except any that close meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield str(descriptor.readlink())


def processes_with(variable: str, value: str) -> dict[int, str]:
    """Return the names of processes, by number, whose environment has a variable with that value."""
    found: dict[int, str] = {}
    entry = f"{variable}={value}".encode()
    for process in psutil.process_iter():
        try:
            if entry in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found[process.pid] = process.name()
        except (OSError, psutil.Error):  # it belongs to another account, or has ended
            continue
    found.pop(os.getpid(), None)
    return found
