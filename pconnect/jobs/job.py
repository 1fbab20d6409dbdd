"""Jobs: calls of functions in worker processes, as standard futures, and the encoding of a job as a message."""

import concurrent.futures
import enum
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pconnect.commands.function_pickling import pack_call
from pconnect.errors import ConfigurationError, JobLostError, RemoteError, UnsupportedValueError
from pconnect.jobs.function_cache import Function
from pconnect.jobs.late_result import Arrival, LateFuture
from pconnect.jobs.shared_arrays import SharedArray
from pconnect.loop.asyncio_bridge import future_in_loop
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, Unfinished, encode_message
from pconnect.public_names import PublicNames
from srp_tools.rules.numbers import is_count, is_positive
from srp_tools.steps import deadline_after, remaining

log = logging.getLogger("pconnect")

NOWHERE: frozenset[int] = frozenset()


class JobCancelledError(concurrent.futures.CancelledError):
    """The job was cancelled after it had been sent to a worker."""


class State(enum.StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True)
class JobOptions:
    """How a job is run; see `pconnect.executors.executor.Executor.submit`."""

    retries: int | None = (
        None  #: ``None``: 0, but jobs that servers ended while the client was away run again
    )
    time_limit: float | None = None
    memory_limit: int | None = None
    isolate: bool = False
    allow_pickle: bool = False
    grace: float = 5.0
    on: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if self.retries is not None and not is_count(self.retries):
            raise ConfigurationError(
                f"retries={self.retries!r} is not allowed: give 0 or more runs after a lost one"
            )
        for name in ("time_limit", "memory_limit"):
            value = getattr(self, name)
            if value is not None and not is_positive(value):
                raise ConfigurationError(f"{name}={value!r} is not allowed: give a number greater than 0")

    def wire(self, *, pickled: bool, stream: list[int] | None = None) -> dict[str, Any] | None:
        """Return the options that the worker needs, as sent to it."""
        told: dict[str, Any] = {}
        if pickled:
            told["pickled"] = True
        if self.allow_pickle:
            told["pickle"] = True
        if self.time_limit is not None:
            told["seconds"] = float(self.time_limit)
        if self.memory_limit is not None:
            told["memory"] = int(min(self.memory_limit, 2**62))  # the system takes no larger one
        if stream is not None:
            told["stream"] = stream
        return told or None


class Owner(Protocol):
    """The methods of the scheduler that a job calls."""

    def drop(self, job: "Job") -> None:
        """Forget a job that was cancelled before it was sent."""

    def stop(self, job: "Job", grace: float) -> None:
        """Interrupt a job that was sent, and kill its worker if the job does not end within `grace` seconds."""

    def attend(self, job: "Job", deadline: float) -> None:
        """Process events for a job in the calling thread, if that is faster; may return before the job has ended."""

    def call_back(self, function: Callable[[], object]) -> None:
        """Call a function that the user has registered for events of a job."""

    def show(self, job: "Job", stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show a part of a job's output, which begins `start` bytes after the beginning of the output."""

    def fetch(self, job: "Job", error: Exception, timeout: float | None) -> Any:
        """Fetch the result that the node kept because only pickle can send it; raise `error` if it kept none."""

    def why(self, job: "Job") -> str:
        """Return why a job was not sent to a worker yet; empty if unknown. Callable from any thread."""


class _Reports:
    """The latest progress report of a job, and the callbacks for reports."""

    last: object = None
    callbacks: "tuple[Callable[[Job], object], ...]" = ()


class Job(PublicNames, LateFuture):
    """A call of a function in a worker process: a standard future with further attributes.

    In a coroutine, or a notebook, ``await job`` waits like ``job.result()`` while other tasks run. Cancelling the
    waiting task cancels the job.

    Attributes
    ----------
    number
        The number of the job in its network.
    name
        A description of the call, such as ``f(...)``.
    started
        When the function began, in seconds since 1970 by the clock of its machine; ``None`` before the job has ended.
    duration
        Running time in seconds; ``None`` before the job has ended.
    losses
        How often a worker was lost while it ran this job.
    stdout, stderr
        The last MiB of the job's output; available when the job has ended.
    outputs
        The files that the job left in ``outputs``, see `pconnect.jobs.worker_api.job_folder`; available when it has
        ended.
    """

    _for_users = (
        "add_done_callback", "add_progress_callback", "cancel", "cancelled", "done", "duration", "exception", "host",
        "losses", "name", "node", "number", "outputs", "progress", "result", "running", "started", "state", "stderr",
        "stdout", "why",
    )  # fmt: skip

    # Attributes that most jobs never change are kept in the class: there may be a hundred thousand jobs.
    losses = 0
    suspicions = 0
    items = 1  # more for a chunk of a map
    stream: list[int] | None = None  # of random numbers, if the user gave a seed; see `pconnect.jobs.seeds`
    cancel_asked = False
    held = ""  # why its executor or pool has not submitted it yet
    avoid = NOWHERE
    quiet = NOWHERE  # nodes whose output of this job is not shown
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
        #: For the executor: its jobs that have not ended.
        self.siblings: set[Job] | None = None
        #: For the scheduler: the message to send; freed when the job has ended.
        self.buffers = buffers
        self.shared: tuple[SharedArray, ...] = ()
        self.function: Function | None = None
        self.after = 0.0  # the worker must see all commands that had ended at this instant
        self.is_started = False  # as far as the client knows
        self._owner = owner

    def __repr__(self) -> str:
        where = "" if self.node is None else f" on node {self.node} ({self.host})"
        why = self.why
        return f"<job {self.number} {self.name}{where}, {self.state}{': ' * bool(why)}{why}>"

    @property
    def node(self) -> int | None:
        """The node to which the job was sent last; ``None`` before."""
        return self.place[0]

    @property
    def host(self) -> str | None:
        """The host of `node`; ``None`` before the job was sent."""
        return self.place[1]

    @property
    def why(self) -> str:
        """The reason why the job is queued, for each node where it may run; empty if it is not queued."""
        return (self.held or self._owner.why(self)) if self.state is State.QUEUED else ""

    @property
    def progress(self) -> Any:
        """The latest value that the job passed to `pconnect.jobs.worker_api.progress`; ``None`` before the first."""
        reports = self._reports
        if reports is None:
            return None
        last = reports.last
        if type(last) is Unfinished:  # it is large
            made = last.finish()
            if reports.last is last:
                reports.last = made
            return made
        return last

    @property
    def state(self) -> State:
        """The state of the job: queued, running, done, failed, cancelled or lost."""
        if not self.done():
            return State.RUNNING if self.is_started else State.QUEUED
        if self.cancelled():
            return State.CANCELLED
        error = None if self.is_unmade else self.exception()
        if error is None:
            return State.DONE
        return State.LOST if isinstance(error, JobLostError) else State.FAILED

    def result(self, timeout: float | None = None, *, allow_pickle: bool = False) -> Any:
        """Wait for the result; see `concurrent.futures.Future.result`.

        If only pickle can send the result, its node keeps it and the job fails with an error that says so. With
        `allow_pickle`, this call then fetches the kept result. Unpickling runs code that the server chooses.

        Large results are decoded in this call. Decoding counts against `timeout`, but is attempted even if that is 0.
        When the call times out, the text of the `TimeoutError` tells why the job is waiting, see `why`.
        """
        deadline = deadline_after(timeout or None)
        if allow_pickle:
            error = self.exception(timeout)
            if isinstance(error, RemoteError) and isinstance(error, UnsupportedValueError):
                return self._owner.fetch(self, error, remaining(deadline))
        value = self._within(timeout, super().result)
        if type(value) is not Arrival:
            return value
        self.finish_making(deadline)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait until the job has ended, and return its error; see `concurrent.futures.Future.exception`."""
        deadline = deadline_after(timeout or None)
        error: BaseException | None = self._within(timeout, super().exception)
        if not self.is_unmade:
            return error
        self.finish_making(deadline)
        return super().exception(0)

    @property
    def calls_back(self) -> bool:
        """Whether the user has registered callbacks, which the scheduler's thread calls."""
        return bool(self._done_callbacks or (self._reports and self._reports.callbacks))

    def _within(self, timeout: float | None, wait: Callable[[float | None], Any]) -> Any:
        """Wait; if the wait times out, report what the job is waiting for."""
        left = self._attend(timeout)
        try:
            return wait(left)
        except TimeoutError:
            if self.done():  # most likely the error of the job itself
                raise
        raise TimeoutError(f"timed out after {timeout:g} s waiting for {self!r}")

    def _attend(self, timeout: float | None) -> float | None:
        """Process events of this job in the calling thread; return the rest of the time limit."""
        if self.done() or self.calls_back or (timeout is not None and timeout <= 0):
            return timeout
        deadline = deadline_after(timeout)
        self._owner.attend(self, deadline)
        return remaining(deadline)

    def _invoke_callbacks(self) -> None:
        if self._done_callbacks:
            self._owner.call_back(super()._invoke_callbacks)  # type: ignore[misc] # private in the standard library

    def cancel(self) -> bool:
        """Remove the job from the queue, or interrupt it if it runs; after `grace` seconds its worker is killed.

        Returns
        -------
        bool
            True if the job had not ended, or was already cancelled. A job that ends by itself before the interrupt
            reaches it keeps its result.
        """
        if super().cancel():
            self._leave()
            self._owner.drop(self)
            return True
        if self.done():
            return self.cancelled()
        self.cancel_asked = True
        self._owner.stop(self, self.options.grace)
        return True

    def cancelled(self) -> bool:
        """Return whether it ended because of `cancel`."""
        return super().cancelled() or (self.done() and isinstance(self._exception, JobCancelledError))

    def __await__(self) -> Generator[Any, None, Any]:
        return future_in_loop(self).__await__()

    def add_progress_callback(self, callback: "Callable[[Job], object]") -> None:
        """Call `callback` with this job for each progress report, in the scheduler's thread."""
        self._all_reports().callbacks += (callback,)

    def _all_reports(self) -> _Reports:
        with self._condition:
            if self._reports is None:
                self._reports = _Reports()
            return self._reports

    # --- for the scheduler ---

    def begin_again(self) -> None:
        """Mark the job as not started before it is sent again: it had not begun, or its worker is gone."""
        self.is_started = False

    def judge(self, value: object) -> tuple[Any, BaseException | None]:
        """Return the job's result and error, one of them ``None``, for the value that the worker returned."""
        return value, None

    def hear(self, message: Message) -> None:
        """Process a message that the worker sends while the job runs."""
        if message.kind is Kind.REPORT:
            self.is_started = True
            self.report(message.value)

    def show(self, stream: int, start: int, data: bytes) -> None:
        """Show the last part of the job's output."""
        self._owner.show(self, stream, start, data, is_last=True)

    def report(self, value: object) -> None:
        """Store a progress report and call the callbacks for it."""
        reports = self._all_reports()
        reports.last = value
        for callback in reports.callbacks:
            try:
                callback(self)
            except BaseException:
                log.exception("exception calling progress callback for %r", self)

    def finish(self, value: object) -> None:
        """End the job with its result."""
        self._end(self.set_result, value)

    def fail(self, error: BaseException) -> None:
        """End the job with an error."""
        if self.cancel_asked and isinstance(error, JobLostError | RemoteError | KeyboardInterrupt):
            is_interrupt = not isinstance(error, RemoteError) or error.is_interrupt
            if is_interrupt:
                cause, error = error, JobCancelledError(f"{self.name} was cancelled while it ran")
                error.__cause__ = cause
        self._end(self.set_exception, error)

    def abandon(self, error: BaseException) -> None:
        """End the job in a forked copy of the process that submitted it; callbacks run only in the original."""
        self.forget_waiters()
        self._reports = None
        if not self.done():
            self._end(self.set_exception, error)

    def _end(self, settle: Callable[[Any], None], outcome: object) -> None:
        self.buffers = self.shared = ()
        try:
            settle(outcome)
        except BaseException:  # from a callback; it must not end the scheduler's thread
            log.exception("exception calling callback for %r", self)
        self._leave()

    def _leave(self) -> None:
        if self.siblings is not None:
            self.siblings.discard(self)


# A RESULT holds: [code, value or failure account, start time, seconds, output of both streams if there is any].
PLAIN, PICKLED, FAILED, DROPPED, LOST = range(5)  # the server sends the last one for a worker that died


def encode_job(
    job: Job,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    max_message_bytes: int,
    foreign: str = "",
) -> Sequence[bytes | memoryview]:
    """Return the message for a job; arrays are sent from their own memory. For `foreign` see `pack_call`.

    Raises `ConfigurationError` or `MessageTooLargeError` if the arguments cannot be sent.
    """
    assert job.function is not None  # noqa: S101 - the caller has found it
    number, options = job.function.number, job.options
    try:
        contents = [number, list(args), dict(kwargs), options.wire(pickled=False, stream=job.stream)]
        buffers = encode_message(Kind.JOB, job.number, contents, max_message_bytes, by_name=False)
    except UnsupportedValueError:
        _, _, arguments, _ = pack_call("", args, kwargs, pickled=True, foreign=foreign)
        contents = [number, arguments, None, options.wire(pickled=True, stream=job.stream)]
        buffers = encode_message(Kind.JOB, job.number, contents, max_message_bytes)
    return tuple(buffers)  # the garbage collector stops tracking a tuple of buffers, but not a list
