"""What is around a job in its worker: what it prints, and the limit of its memory."""

import contextlib
import os
import resource
from typing import Any

from pserver.system.flush import flush_output
from pserver.system.processes import address_space_bytes

_MAX_OUTPUT_BYTES = 2**20  # of what a job prints, for each stream; the last of it


def take_output() -> list[Any] | None:
    """Return what a job has printed, if anything: both streams, and how much of each is left out; forget it."""
    taken: list[Any] = []
    flush_output()
    for descriptor in (1, 2):
        try:
            size = os.fstat(descriptor).st_size
            kept = os.pread(descriptor, _MAX_OUTPUT_BYTES, max(0, size - _MAX_OUTPUT_BYTES)) if size else b""
            if size:
                os.ftruncate(descriptor, 0)
        except OSError:  # closed, or a pipe now: it is the user's
            size, kept = 0, b""
        taken += [kept, size - len(kept)]
    return taken if any(taken) else None


@contextlib.contextmanager
def memory_limit(size: int | None) -> Any:
    """Let this process take `size` more bytes of memory and not more, then raise MemoryError."""
    if size is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = address_space_bytes() + size
    hard = before[1]
    resource.setrlimit(
        resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
