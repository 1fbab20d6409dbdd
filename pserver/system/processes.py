"""The memory of processes."""

import psutil


def resident_bytes(pid: int) -> int | None:
    """Return how much memory a process occupies, or None if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def address_space_bytes() -> int:
    """Return the size of this process's address space, which ``RLIMIT_AS`` bounds."""
    return int(psutil.Process().memory_info().vms)
