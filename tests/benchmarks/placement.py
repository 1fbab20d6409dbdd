"""Where processes run while small calls are measured: the client on one processor, all servers on another.

Left to itself, the system has both ends of a plain socket on one processor at one time, where a round trip takes 30 µs,
and on two at another, where it takes 75. A ratio would tell more of that than of this package. On two machines each end
has a processor of its own; so it has here.
"""

import contextlib
import os
from collections.abc import Iterator

import psutil

from pserver.system.pidfile import find_server


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Keep this process on the first processor, and the server and our children on the second, if there is one."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        yield
        return
    _place([os.getpid()], {processors[0]})
    _place(_servers(), {processors[1]})
    try:
        yield
    finally:
        _place([os.getpid(), *_servers()], set(processors))


def _servers() -> list[int]:
    server = find_server("default")
    families = [psutil.Process()] + ([psutil.Process(server.pid)] if server else [])
    return [*([server.pid] if server else []), *(c.pid for p in families for c in p.children(recursive=True))]


def _place(pids: list[int], processors: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            for thread in psutil.Process(pid).threads():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.sched_setaffinity(thread.id, processors)
