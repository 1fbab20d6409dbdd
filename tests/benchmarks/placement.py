"""The placement of processes for measuring small calls: the client on one processor, all servers on another.

By itself, the system sometimes runs both ends of a plain socket on one processor, where a round trip takes 30 µs, and
sometimes on two, where it takes 75 µs. A ratio would show this effect more than the package's speed. With two machines,
each end has its own processor, so it has one here, too.
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
