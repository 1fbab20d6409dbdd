"""Limits of this process and of all that it starts, by setrlimit(2): they hold on every system, and need no rights.

They count for each process by itself, but that of processes, which counts for the account.
"""

import contextlib
import os
import resource
from pathlib import Path

from pserver.config.limit_options import SessionLimits
from pserver.system.processes import private_bytes

CPU_GRACE = 5  #: seconds of processor time from SIGXCPU to SIGKILL


def apply_limits(limits: SessionLimits) -> None:
    """Lower the limits of this process for good, and its niceness; those that are lower already stay."""
    # Not RLIMIT_AS: libraries reserve much of the address space, and use little of it.
    _lower(resource.RLIMIT_DATA, limits.memory)
    _lower(resource.RLIMIT_CPU, int(limits.cpu), CPU_GRACE)
    _lower(resource.RLIMIT_NOFILE, limits.files)
    if not (limits.cgroup and Path(limits.cgroup, "pids.max").exists()):  # that counts for this session alone
        _lower(resource.RLIMIT_NPROC, limits.processes)
    if limits.nice:
        os.setpriority(os.PRIO_PROCESS, 0, max(limits.nice, os.getpriority(os.PRIO_PROCESS, 0)))


def limit_growth(size: int) -> None:
    """Let this process have `size` bytes of memory more than now, for good; 0 sets no limit."""
    if size:
        _lower(resource.RLIMIT_DATA, private_bytes() + size)


def _lower(which: int, value: int, grace: int = 0) -> None:
    if not value:
        return
    soft, hard = (
        value + more if before == resource.RLIM_INFINITY else min(value + more, before)
        for before, more in zip(resource.getrlimit(which), (0, grace), strict=True)
    )
    with contextlib.suppress(ValueError):  # somebody lowers it at this moment
        resource.setrlimit(which, (soft, hard))
