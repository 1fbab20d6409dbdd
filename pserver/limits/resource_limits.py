"""Limits of this process and its children through setrlimit(2): they work on every system, and need no privileges.

Each limit applies to a single process, except the number of processes, which applies to the account.
"""

import contextlib
import os
import resource
from pathlib import Path

from pserver.config.limit_options import SessionLimits
from pserver.system.processes import private_bytes

CPU_GRACE = 5  #: seconds of processor time from SIGXCPU to SIGKILL


def apply_limits(limits: SessionLimits) -> None:
    """Permanently lower the limits and the priority of this process; values that are already lower stay."""
    # Do not use RLIMIT_AS: libraries reserve much address space and use little of it.
    _lower(resource.RLIMIT_DATA, limits.memory)
    _lower(resource.RLIMIT_CPU, int(limits.cpu), CPU_GRACE)
    _lower(resource.RLIMIT_NOFILE, limits.files)
    if not (limits.cgroup and Path(limits.cgroup, "pids.max").exists()):  # that one counts this session alone
        _lower(resource.RLIMIT_NPROC, limits.processes)
    if limits.nice:
        os.setpriority(os.PRIO_PROCESS, 0, max(limits.nice, os.getpriority(os.PRIO_PROCESS, 0)))


def limit_growth(size: int) -> None:
    """Permanently limit this process to `size` bytes more memory than it has now; 0 sets no limit."""
    if size:
        _lower(resource.RLIMIT_DATA, private_bytes() + size)


def _lower(which: int, value: int, grace: int = 0) -> None:
    if not value:
        return
    soft, hard = (
        value + more if before == resource.RLIM_INFINITY else min(value + more, before)
        for before, more in zip(resource.getrlimit(which), (0, grace), strict=True)
    )
    with contextlib.suppress(ValueError):  # the limit was lowered at the same moment
        resource.setrlimit(which, (soft, hard))
