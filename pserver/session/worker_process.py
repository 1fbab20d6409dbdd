"""The supervisor's record of one worker."""

import contextlib
import fcntl
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from pserver.config.option import duration_text
from pserver.jobs.shared_status import SharedStatus, Status
from pserver.limits.limit_words import set_by
from pserver.statistics.work_report import work_of
from pserver.system.descriptors import receive_from
from pserver.system.processes import interrupt_main_thread
from pserver.system.session_folder import require_folder

LOOK_SECONDS = 0.2  # between two checks of a worker
_LIMIT_GRACE = 5.0  # seconds for a job to end after the interrupt at its time limit
_IDLE_GRACE = 1.0  # seconds for the client to give up an idle worker whose slot the server wants
_MAX_FILE_BYTES = 2**26  # of output of one job; beyond that, its old output is discarded
_SHOWN_BYTES = 2**16  # of output on each stream that the client gets while a job runs
_PART_BYTES = 2**14  # of that output in one message
_WORD_BYTES = 100
_LAST_BYTES = 2**11  # of output, for the report of a worker's death


@dataclass
class ToldJob:
    """The last report to the client about a running job."""

    job: int
    printed: list[int] = field(default_factory=lambda: [0, 0])  #: bytes of output sent, for both streams


@dataclass(eq=False)
class WorkerProcess:
    """One worker."""

    number: int
    lease: int
    pipe: socket.socket
    page: SharedStatus
    outputs: list[IO[bytes]]
    pid: int = 0  # set after its first message
    command: int = 0  # the last command that its engine had run before the fork
    pidfd: int = -1
    told: ToldJob = field(default_factory=lambda: ToldJob(0))
    yields_since: float | None = None
    stopping: int = 0  # the job that must end
    kill_at: float = 0.0
    why_killed: str = ""
    remedy: str = ""  #: advice for the user after its end, if the job is not the cause
    is_spent: bool = False  # it has a job that needs its own process

    def first_word(self) -> tuple[int, int]:
        """Read its first message: return its pid, and the last command that its engine had run before the fork.

        The pid comes from the system: code in the engine could name any process, and we send signals to this one.
        Raises `OSError` or `ValueError` if the worker has ended, or its message is not valid.
        """
        word, pid = receive_from(self.pipe, _WORD_BYTES)
        self.pipe.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return pid, int(word)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def stop(self, job: int, grace: float, why: str) -> None:
        """Interrupt a job; `look` kills the process if the job has not ended `grace` seconds later."""
        self.stopping, self.kill_at, self.why_killed = job, time.monotonic() + grace, why
        self.page.interrupt(job)
        with contextlib.suppress(ProcessLookupError):
            interrupt_main_thread(self.pid, self.pidfd)

    def cancel(self, job: int, grace: float) -> None:
        """Stop a cancelled job, if this worker runs it."""
        if self.page.read().job == job and self.stopping != job:
            self.stop(job, grace, f"job {job} was cancelled and did not end by itself")

    def look(self, now: float, job_time: float = 0.0) -> list[Any] | None:
        """Enforce the limits of a worker that has started; `job_time`: the server's time limit for jobs, 0: none.

        Return its job and the job's running time in seconds, if the client must learn that the job is running.
        """
        if self.page.is_detached() and self.page.is_sending():
            return None  # its job has ended; the result waits for space on the disk
        status = self.page.read()
        seconds = now - status.started
        if not status.job:
            if self.yields_since is not None and now - self.yields_since > _IDLE_GRACE:
                self.signal(signal.SIGKILL)  # the client has not given it up
            return None
        self._enforce_time(status, seconds, job_time)
        if self.stopping == status.job and now > self.kill_at:
            self.signal(signal.SIGKILL)
        self.bound_outputs()
        if status.job == self.told.job or seconds <= LOOK_SECONDS:
            return None
        self.told = ToldJob(status.job)
        return [status.job, seconds]

    def _enforce_time(self, status: Status, seconds: float, job_time: float) -> None:
        """Interrupt a job at its time limit."""
        is_servers = bool(job_time) and not 0 < status.limit < job_time
        limit = job_time if is_servers else status.limit
        if limit and seconds > limit and self.stopping != status.job:
            why = f"job {status.job} did not end within {_LIMIT_GRACE:g} s of its time limit"
            who = f"; {set_by('--job-time', duration_text(job_time))}" if is_servers else ""
            self.stop(status.job, _LIMIT_GRACE, why + who)

    def printed(self) -> Iterator[list[Any]]:
        """Yield the new output of the job that was reported to the client as running, in parts."""
        told = self.told
        for index, file in enumerate(self.outputs):
            start = told.printed[index]
            if not told.job or self.page.read().job != told.job or start >= _SHOWN_BYTES:
                continue
            data = os.pread(file.fileno(), min(_PART_BYTES, _SHOWN_BYTES - start), start)
            # After a job, its worker truncates the file, and the next job may print.
            if data and self.page.read().job == told.job:
                told.printed[index] += len(data)
                yield [told.job, index + 1, start, data]

    def report(self, how: str, status: Status) -> dict[str, Any]:
        """Return the report of its end for the client."""
        # A job that ended after its interrupt is not the reason for a later kill.
        why = self.why_killed if self.stopping in {0, status.job} else ""
        return {
            "how": how + (f" ({why})" if why else "") + self.remedy,
            "job": status.job,
            "seconds": time.monotonic() - status.started if status.job else 0.0,
            "results": bytes(self.page.results(status.unsent)),
            "outputs": [tail_of(file) for file in self.outputs],
        }

    def early_results(self, job: int) -> dict[str, Any]:
        """Return the results before a long job that is being recalled, so none of them arrives after the recall."""
        results = bytes(self.page.results(self.page.read().unsent))
        return {"how": "", "job": job, "seconds": 0.0, "results": results, "outputs": [[b"", 0], [b"", 0]]}

    def bound_outputs(self) -> None:
        """Discard the output of a job if there is too much."""
        for file in self.outputs:
            if os.fstat(file.fileno()).st_size > _MAX_FILE_BYTES:
                os.ftruncate(file.fileno(), 0)

    def facts(self, now: float) -> list[Any]:
        """Return the work that it has done so far."""
        status = self.page.read()
        done = work_of(self.page).shown()
        # A job may have begun since `now`.
        running = max(0.0, now - status.started) if status.job else None
        return [self.number, self.pid, done, running]

    def close(self) -> None:
        """Close our ends; the process keeps running, or has ended."""
        self.pipe.close()
        self.page.close()
        for file in self.outputs:
            file.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)


def start_worker(  # noqa: PLR0917 - all parts of a worker
    forks: socket.socket, folder: str, number: int, lease: int, threads: int, more: Sequence[int] = ()
) -> WorkerProcess:
    """Ask an engine to fork a worker, without waiting for it; the worker sends its first message on its pipe.

    `forks`: the socket for requests to the engine. `folder`: for the files with its output. `threads`: the number of
    threads for its libraries. `more`: further descriptors for the worker. Raises `OSError` if the request fails;
    everything is then closed.
    """
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as stack:
        pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.enter_context(pipe)
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # for the first message
        stack.enter_context(theirs)
        memory = SharedStatus.make()
        stack.callback(os.close, memory)
        outputs: list[IO[bytes]] = [ours.enter_context(output_file(folder)) for _ in range(2)]
        page = SharedStatus(memory)
        ours.callback(page.close)
        ends = [theirs.fileno(), memory, *(file.fileno() for file in outputs), *more]
        socket.send_fds(forks, [str(threads).encode()], ends)
        pipe.setblocking(False)
        ours.pop_all()
        return WorkerProcess(number, lease, pipe, page, outputs)


def output_file(folder: str) -> IO[bytes]:
    """Return a file for the output of a worker."""
    file = tempfile.TemporaryFile(dir=require_folder(folder))  # noqa: SIM115 - it lives as long as the worker
    # The worker truncates the file after each job. Without O_APPEND, the next job would write after a gap of zeros.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def tail_of(file: IO[bytes]) -> list[Any]:
    """Return the end of the output, and the number of bytes before it."""
    size = os.fstat(file.fileno()).st_size
    begin = max(0, size - _LAST_BYTES)
    return [os.pread(file.fileno(), _LAST_BYTES, begin), begin]
