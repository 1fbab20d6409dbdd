"""One worker, as its supervisor holds it."""

import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from typing import IO, Any

from pserver.status_page import StatusPage

_LAST_BYTES = 2**11  # of what a worker printed, for the account of its death


@dataclass(eq=False)
class WorkerProcess:
    """One worker."""

    number: int
    lease: int
    pipe: socket.socket
    page: StatusPage
    outputs: list[IO[bytes]]
    pid: int = 0  # once it has said it
    pidfd: int = -1
    told_running: int = 0  # the last job of which the client was told that it runs
    yields_since: float | None = None
    stopping: int = 0  # the job that is to end
    kill_at: float = 0.0
    why_killed: str = ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Close our ends; the process goes on, or has ended."""
        self.pipe.close()
        self.page.close()
        for file in self.outputs:
            file.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)


def tail_of(file: IO[bytes]) -> list[Any]:
    """Return the end of what was printed, and how many bytes there were before it."""
    size = os.fstat(file.fileno()).st_size
    begin = max(0, size - _LAST_BYTES)
    return [os.pread(file.fileno(), _LAST_BYTES, begin), begin]
