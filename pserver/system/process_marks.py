"""A mark on all processes of a node, by which they are found and killed wherever they have gone.

A process that leads a session of its own (``setsid``, ``nohup``, a daemon) is in no group that one could kill, and its
parent has ended. What it still has are its resource limits: they pass to children and through exec, also to programs
that clear their environment. One of them, RLIMIT_LOCKS, means nothing since Linux 2.4.25 (getrlimit(2)), but is kept:
its soft value is the mark. Doc/decisions/0021 says why it is neither a cgroup nor the tree of processes.

The mark of a node is a random number with its last bits clear. The node's engine wears it; a worker, with all that its
jobs start, wears it with its own process number in the last bits.
"""

import contextlib
import os
import resource
import secrets
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

_RLIMIT_LOCKS = 10  # asm-generic/resource.h; the module `resource` has no name for it
_WORKER_BITS = 22  # as many as a process number has, see PID_MAX_LIMIT in proc_sys_kernel(5)
_RANDOM_BITS = 40
# What was killed makes no more children, so one look that finds nothing new is the last. A machine on which these are
# not enough starts processes faster than one can look.
_MOST_LOOKS = 100


def make_mark() -> int:
    """Return the mark of one more node."""
    return (secrets.randbits(_RANDOM_BITS) or 1) << _WORKER_BITS


def wear_mark(mark: int) -> None:
    """Mark this process and all that it will start.

    Does nothing where the limit was lowered before: then only the group of the process can be found.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(_RLIMIT_LOCKS, (mark, resource.getrlimit(_RLIMIT_LOCKS)[1]))


def wear_worker_mark() -> None:
    """Mark this process as a worker of the node whose mark it wears."""
    mark = resource.getrlimit(_RLIMIT_LOCKS)[0]
    if mark > 0:
        wear_mark(_node_of(mark) | os.getpid())


def kill_marked(mark: int, worker: int = 0) -> None:
    """Kill all processes of a node, or of one of its workers, which its process number names.

    Does not wait for their end. Those that have become another account's are left alone.
    """
    if mark > 0:
        _kill(lambda: _find_marked(mark, worker))


def has_marked(mark: int, known: Iterable[int]) -> bool:
    """Whether processes of a node run besides those that are known; one that has ended may still wait to be reaped."""
    return any(_runs(pid) for pid in _find_marked(mark, 0).difference(known))


def kill_started_since(ticks: int) -> None:
    """Kill what this worker, or what it has started, has started since a time, as of `ticks_since_boot`.

    Does nothing where the worker wears no mark. Does not wait.
    """
    mark, own = resource.getrlimit(_RLIMIT_LOCKS)[0], os.getpid()
    if mark - _node_of(mark) == own:
        _kill(
            lambda: {pid for pid in _find_marked(_node_of(mark), own) if pid != own and _began(pid) >= ticks}
        )


def ticks_since_boot() -> int:
    """Return the time in the unit, and as exactly, as the system keeps when each process began."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def _kill(find: Callable[[], set[int]]) -> None:
    killed: set[int] = set()
    for _ in range(_MOST_LOOKS):
        found = find() - killed
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found


def _began(pid: int) -> int:
    """Return when a process began, see proc_pid_stat(5); 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, OSError):
        return False


def _node_of(mark: int) -> int:
    return mark >> _WORKER_BITS << _WORKER_BITS


def _find_marked(mark: int, worker: int) -> set[int]:
    found = set()
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            worn = resource.prlimit(pid, _RLIMIT_LOCKS)[0]
            if worn == mark | worker if worker else _node_of(worn) == mark:
                found.add(pid)
    return found
