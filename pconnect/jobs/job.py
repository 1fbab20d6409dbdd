"""Jobs: calls of functions in worker processes, as futures of the standard library."""

import concurrent.futures
import enum
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pconnect.errors import ConfigurationError, JobLostError, RemoteError
from pconnect.jobs.function_cache import Function
from pconnect.jobs.light_future import LightFuture
from pconnect.jobs.output_files import NO_OUTPUTS
from pconnect.jobs.shared_arrays import SharedArray

log = logging.getLogger("pconnect")


NOWHERE: frozenset[int] = frozenset()


class JobCancelledError(concurrent.futures.CancelledError):
    """The job was cancelled after it had been sent to a worker."""


class State(enum.StrEnum):
    """What has become of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True)
class JobOptions:
    """How a job is run; see `pconnect.executors.executor.Executor.submit`."""

    retries: int = 0
    time_limit: float | None = None
    memory_limit: int | None = None
    isolate: bool = False
    allow_pickle: bool = False
    grace: float = 5.0
    on: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ConfigurationError(f"retries={self.retries}: it is how often a lost job is run again")
        for name in ("time_limit", "memory_limit"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name}={value}: it must be more than 0")

    def wire(self, *, pickled: bool) -> dict[str, Any] | None:
        """Return what the worker has to know."""
        told: dict[str, Any] = {}
        if pickled:
            told["pickled"] = True
        if self.allow_pickle:
            told["pickle"] = True
        if self.time_limit is not None:
            told["seconds"] = float(self.time_limit)
        if self.memory_limit is not None:
            told["memory"] = int(self.memory_limit)
        return told or None


class Owner(Protocol):
    """What a job needs of the scheduler that looks after it."""

    def drop(self, job: "Job") -> None:
        """Forget a job that was cancelled before it was sent."""

    def stop(self, job: "Job", grace: float) -> None:
        """Interrupt a job which was sent, and kill its worker if that does not help."""


class _Reports:
    """What a job has reported of its progress last, and the callbacks for it."""

    last: object = None
    callbacks: "tuple[Callable[[Job], object], ...]" = ()


class Job(LightFuture):
    """A call of a function in a worker process: a future of the standard library that knows more.

    Attributes
    ----------
    number
        Of the job in its network.
    name
        How the function was called.
    started
        When it began, in seconds since 1970 by the clock of its machine; ``None`` before it has ended.
    duration
        Seconds that it ran; ``None`` before it has ended.
    losses
        How often a worker was lost with it.
    stdout, stderr
        What it has printed, the last MiB; there when it has ended.
    outputs
        The files that it has left in ``outputs``, see `pconnect.jobs.worker_api.job_folder`; there when it has ended.
    """

    # What most jobs never change is kept here, not in each: there may be a hundred thousand of them.
    losses = 0
    stdout = stderr = ""
    outputs = NO_OUTPUTS
    suspicions = 0
    items = 1  # of a map
    cancel_asked = False
    avoid = NOWHERE
    _reports: _Reports | None = None

    def __init__(
        self, number: int, name: str, buffers: Sequence[bytes | memoryview], options: JobOptions, owner: Owner
    ) -> None:
        super().__init__()
        self.number = number
        self.name = name
        self.options = options
        #: Node and host; for `node` and `host`.
        self.place: tuple[int, str] | tuple[None, None] = None, None
        self.started: float | None = None
        self.duration: float | None = None
        #: For the executor: its jobs that have not ended.
        self.siblings: set[Job] | None = None
        #: For the scheduler: what is sent; freed when the job has ended.
        self.buffers = buffers
        self.shared: tuple[SharedArray, ...] = ()
        self.function: Function | None = None
        self.after: tuple[int, ...] = ()  # the commands that must have been run before, by node from 1
        self.is_started = False  # as far as is known
        self._owner = owner

    def __repr__(self) -> str:
        where = "" if self.node is None else f" at node {self.node} ({self.host})"
        return f"<job {self.number} {self.name}{where}, {self.state}>"

    @property
    def node(self) -> int | None:
        """The node where it was sent last; ``None`` before."""
        return self.place[0]

    @property
    def host(self) -> str | None:
        """The host of that node; ``None`` before."""
        return self.place[1]

    @property
    def progress(self) -> Any:
        """What it has reported last with `pconnect.jobs.worker_api.progress`; ``None`` before."""
        return None if self._reports is None else self._reports.last

    @property
    def state(self) -> State:
        """What has become of it."""
        if not self.done():
            return State.RUNNING if self.is_started else State.QUEUED
        if self.cancelled():
            return State.CANCELLED
        error = self.exception()
        if error is None:
            return State.DONE
        return State.LOST if isinstance(error, JobLostError) else State.FAILED

    def cancel(self) -> bool:
        """Take it from the queue, or interrupt it if it runs; ``grace`` seconds later its worker is killed.

        Returns
        -------
        bool
            Whether it had not ended. One that ends by itself before it is interrupted has its result as ever.
        """
        if super().cancel():
            self._leave()
            self._owner.drop(self)
            return True
        if self.done():
            return False
        self.cancel_asked = True
        self._owner.stop(self, self.options.grace)
        return True

    def cancelled(self) -> bool:
        """Return whether it ended because of `cancel`."""
        return super().cancelled() or (self.done() and isinstance(self._exception, JobCancelledError))

    def add_progress_callback(self, callback: "Callable[[Job], object]") -> None:
        """Call `callback` with this job whenever it reports progress, in the thread that looks after jobs."""
        self._all_reports().callbacks += (callback,)

    def _all_reports(self) -> _Reports:
        with self._condition:
            if self._reports is None:
                self._reports = _Reports()
            return self._reports

    # --- for the scheduler ---

    def report(self, value: object) -> None:
        """Take what the job says of its progress."""
        reports = self._all_reports()
        reports.last = value
        for callback in reports.callbacks:
            try:
                callback(self)
            except BaseException:
                log.exception("exception calling progress callback for %r", self)

    def finish(self, value: object) -> None:
        """End it with its result."""
        self._end(self.set_result, value)

    def fail(self, error: BaseException) -> None:
        """End it with an error."""
        if self.cancel_asked and isinstance(error, JobLostError | RemoteError | KeyboardInterrupt):
            is_interrupt = not isinstance(error, RemoteError) or error.is_interrupt
            if is_interrupt:
                cause, error = error, JobCancelledError(f"{self.name} was cancelled while it ran")
                error.__cause__ = cause
        self._end(self.set_exception, error)

    def _end(self, settle: Callable[[Any], None], outcome: object) -> None:
        self.buffers = self.shared = ()
        try:
            settle(outcome)
        except BaseException:  # of a callback; it must not end the thread that looks after all jobs
            log.exception("exception calling callback for %r", self)
        self._leave()

    def _leave(self) -> None:
        if self.siblings is not None:
            self.siblings.discard(self)
