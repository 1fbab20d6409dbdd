"""Processes: their memory, their limits, and how the life of one is tied to that of others, by prctl(2)."""

import ctypes
import os
import resource
import signal

import psutil


def resident_bytes(pid: int) -> int | None:
    """Return how much memory a process occupies, or None if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):  # it has ended, or this process has no room for a descriptor
        return None


def address_space_bytes() -> int:
    """Return the size of this process's address space, which ``RLIMIT_AS`` bounds."""
    return int(psutil.Process().memory_info().vms)


def raise_descriptor_limit() -> tuple[int, int]:
    """Let this process have as many descriptors as it may; return the limits from before, for `set_descriptor_limit`.

    The usual limit of 1024 is for programs that use select(2), such as a user's may be. We need some twenty for a node.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_descriptor_limit((before[1], before[1]))
    return before


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def limit_descriptors(count: int) -> None:
    """Let this process, and those that it starts, have so many descriptors, if it may have as many at all."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    set_descriptor_limit((min(count, hard) if hard != resource.RLIM_INFINITY else count, hard))


def set_descriptor_limit(limits: tuple[int, int]) -> None:
    """Set how many descriptors this process may have: the soft and the hard limit."""
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def adopt_orphans() -> None:
    """Become the parent of all descendants of this process whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the system kill this process when its present parent ends; not for one whose parent is about to."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
