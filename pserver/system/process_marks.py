"""A mark on all processes of a node, used to find and kill them wherever they are.

A process that leads a session of its own (``setsid``, ``nohup``, a daemon) is in no process group of the node, and its
parent may have exited. But it keeps its resource limits, which pass to children and through exec, even to programs that
clear their environment. One limit, RLIMIT_LOCKS, has had no effect since Linux 2.4.25 (getrlimit(2)) but is still
inherited: its soft value is the mark. Doc/decisions/0021 explains why cgroups or the process tree do not serve.

The mark of a node is a random number whose last bits are zero. The engine of the node has this mark; a worker, and
everything that its jobs start, has the mark with the worker's process id in the last bits.
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

_RLIMIT_LOCKS = 10  # asm-generic/resource.h; the `resource` module does not define it
_WORKER_BITS = 22  # the size of a process id, see PID_MAX_LIMIT in proc_sys_kernel(5)
_RANDOM_BITS = 40
# Killed processes create no more children, so a search that finds nothing new is the last one. If this many searches
# are not enough, processes start faster than this one can find them.
_MOST_LOOKS = 100


def make_mark() -> int:
    """Return a mark for a new node."""
    return (secrets.randbits(_RANDOM_BITS) or 1) << _WORKER_BITS


def wear_mark(mark: int) -> None:
    """Mark this process and all processes that it will start.

    Does nothing where the limit was lowered before: then only the process group can be found.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(_RLIMIT_LOCKS, (mark, resource.getrlimit(_RLIMIT_LOCKS)[1]))


def wear_worker_mark() -> None:
    """Mark this process as a worker of the node whose mark it has."""
    mark = resource.getrlimit(_RLIMIT_LOCKS)[0]
    if mark > 0:
        wear_mark(_node_of(mark) | os.getpid())


def kill_marked(mark: int, worker: int = 0) -> None:
    """Kill all processes of a node, or only those of one of its workers, given by its process id.

    Does not wait until they have exited. Processes that have switched to another account are left alone.
    """
    if mark > 0:
        _kill(lambda: _find_marked(mark, worker))


def has_marked(mark: int, known: Iterable[int]) -> bool:
    """Whether a node has running processes besides the known ones; a zombie does not count."""
    return any(_runs(pid) for pid in _find_marked(mark, 0).difference(known))


def kill_started_since(ticks: int) -> None:
    """Kill the processes that this worker and its children started since a time, as given by `ticks_since_boot`.

    Does nothing if the worker has no mark. Does not wait until they have exited.
    """
    mark, own = resource.getrlimit(_RLIMIT_LOCKS)[0], os.getpid()
    if mark - _node_of(mark) == own:
        _kill(
            lambda: {pid for pid in _find_marked(_node_of(mark), own) if pid != own and _began(pid) >= ticks}
        )


def ticks_since_boot() -> int:
    """Return the time in the unit and precision in which the system records when processes start."""
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
    """Return the start time of a process, see proc_pid_stat(5); 0 if it is gone."""
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
