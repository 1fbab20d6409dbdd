"""One worker, as its supervisor holds it."""

import contextlib
import fcntl
import os
import signal
import socket
import tempfile
import time
from dataclasses import dataclass
from typing import IO, Any

from pserver.jobs.shared_status import SharedStatus

_MAX_FILE_BYTES = 2**26  # of what one job prints; beyond, the oldest is thrown away
_LAST_BYTES = 2**11  # of what a worker printed, for the account of its death


@dataclass(eq=False)
class WorkerProcess:
    """One worker."""

    number: int
    lease: int
    pipe: socket.socket
    page: SharedStatus
    outputs: list[IO[bytes]]
    pid: int = 0  # once it has said it
    command: int = 0  # the last that its engine had run when it was forked
    pidfd: int = -1
    told_running: int = 0  # the last job of which the client was told that it runs
    yields_since: float | None = None
    stopping: int = 0  # the job that is to end
    kill_at: float = 0.0
    why_killed: str = ""
    is_spent: bool = False  # it has a job that wants a process of its own

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def stop(self, job: int, patience: float, why: str) -> None:
        """Interrupt a job; whoever looks after it kills the process if it has not ended `patience` seconds later."""
        self.stopping, self.kill_at, self.why_killed = job, time.monotonic() + patience, why
        self.page.interrupt(job)
        self.signal(signal.SIGINT)

    def cancel(self, job: int, patience: float) -> None:
        """Stop a job that nobody wants any more, if it runs here."""
        if self.page.read().job == job and self.stopping != job:
            self.stop(job, patience, f"job {job} was cancelled and did not end by itself")

    def bound_outputs(self) -> None:
        """Throw away what a job has printed, if it is very much."""
        for file in self.outputs:
            if os.fstat(file.fileno()).st_size > _MAX_FILE_BYTES:
                os.ftruncate(file.fileno(), 0)

    def facts(self, now: float) -> list[Any]:
        """Return what it has done so far."""
        status = self.page.read()
        running = now - status.started if status.job else None
        return [self.number, self.pid, status.jobs, status.seconds, status.transfer, running]

    def close(self) -> None:
        """Close our ends; the process goes on, or has ended."""
        self.pipe.close()
        self.page.close()
        for file in self.outputs:
            file.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)


def output_file(folder: str) -> IO[bytes]:
    """Return a file for what a worker prints."""
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives with the worker
    # The worker truncates it after each job; without this the next would leave a gap of zeros in front of its text.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def tail_of(file: IO[bytes]) -> list[Any]:
    """Return the end of what was printed, and how many bytes there were before it."""
    size = os.fstat(file.fileno()).st_size
    begin = max(0, size - _LAST_BYTES)
    return [os.pread(file.fileno(), _LAST_BYTES, begin), begin]
