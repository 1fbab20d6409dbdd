"""Jobs: calls of functions under way in worker processes, as futures of the standard library."""

import concurrent.futures
import enum
import hashlib
import itertools
import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import _base
from dataclasses import dataclass
from typing import Any, Protocol

from pconnect.commands.function_pickling import describe, pack_call
from pconnect.errors import ConfigurationError, JobLostError, RemoteError, UnsupportedValueError
from pconnect.jobs.duration_estimate import DurationEstimate, DurationEstimates
from pconnect.jobs.light_condition import LightCondition
from pconnect.jobs.output_files import NO_OUTPUTS
from pconnect.jobs.shared_arrays import SharedArray
from pconnect.protocol.frames import NO_LIMIT
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message, encode_small
from pconnect.values.encoder import ATOMS

log = logging.getLogger("pconnect")

# What a RESULT is: [kind, value or account, when it began, seconds, output of both streams if there is any].
PLAIN, PICKLED, FAILED, DROPPED, LOST = range(5)  # the last is said by the server, for a worker that died

# So many functions are kept, for those that are used again, as long as they take no more than so many bytes.
_KEPT_FUNCTIONS = 256
_KEPT_BYTES = 2**28


_UNKNOWN = DurationEstimate()


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


class Function:
    """A function as workers get it, once each."""

    _numbers = itertools.count(1)

    def __init__(self, name: str, contents: list[Any], estimate: DurationEstimate) -> None:
        self.number = next(self._numbers)
        self.estimate = estimate
        self.name = name
        self.contents = contents  # [pickled function, source texts]
        self.size = sum(len(buffer) for buffer in self.encode())

    def encode(self) -> list[bytes | memoryview]:
        """Return the message for a worker."""
        return encode_message(Kind.FUNCTION, self.number, self.contents, NO_LIMIT)


class Functions:
    """The functions that were used last, so that each is sent to a worker but once."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[bytes, Function] = OrderedDict()
        self._by_identity: OrderedDict[int, tuple[Any, Function]] = OrderedDict()
        self._estimates = DurationEstimates()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, function: Callable[..., Any] | str) -> Function:
        """Return a function as it is now.

        Raises
        ------
        ConfigurationError
            It cannot be pickled.
        """
        if isinstance(function, str):
            return self._keep(function, function.encode(), [function, {}])
        known = self._by_identity.get(id(function))
        if known is not None and known[0] is function:
            return known[1]
        data, _, _, sources = pack_call(function, (), {}, pickled=False)
        found = self._keep(function, data, [data, sources])
        # A function that is pickled by its name stays what it is; another may refer to what has changed.
        if _is_importable(function):
            with self._lock:
                self._by_identity[id(function)] = function, found
                if len(self._by_identity) > _KEPT_FUNCTIONS:
                    self._by_identity.popitem(last=False)
        return found

    def _keep(self, function: Callable[..., Any] | str, data: bytes, contents: list[Any]) -> Function:
        digest = hashlib.blake2b(data, digest_size=16).digest()
        with self._lock:
            found = self._by_digest.get(digest)
            if found is None:
                estimate = self._estimates.get(function, digest)
                found = self._by_digest[digest] = Function(describe(function), contents, estimate)
                self._size += found.size
            self._by_digest.move_to_end(digest)
            while len(self._by_digest) > (_KEPT_FUNCTIONS if self._size <= _KEPT_BYTES else 1):
                _, forgotten = self._by_digest.popitem(last=False)
                self._size -= forgotten.size
        return found


def _is_importable(function: Callable[..., Any]) -> bool:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in {None, "__main__"} or "." in name:
        return False
    return getattr(sys.modules.get(str(module)), name, None) is function


class Owner(Protocol):
    """What a job needs of the dispatcher that looks after it."""

    def purge(self, job: "Job") -> None:
        """Take note that a job which was not sent is cancelled."""

    def stop(self, job: "Job", patience: float) -> None:
        """Interrupt a job which was sent, and kill its worker if that does not help."""


class Job(concurrent.futures.Future[Any]):
    """A call of a function in a worker process: a future of the standard library that knows more.

    Attributes
    ----------
    number
        Of the job in its network.
    name
        How the function was called.
    node, host
        Where it was sent last; ``None`` before.
    started
        When it began, in seconds since 1970 by the clock of its machine; ``None`` before it has ended.
    duration
        Seconds that it ran; ``None`` before it has ended.
    losses
        How often a worker was lost with it.
    progress
        What it has reported last with `pconnect.loop.event_loop`; ``None`` before.
    stdout, stderr
        What it has printed, the last MiB; there when it has ended.
    outputs
        The files that it has left in ``outputs``, see `pconnect.jobs.worker_api.job_folder`; there when it has ended.
    """

    # What most jobs never change is kept here, not in each: there may be a hundred thousand of them.
    losses = 0
    progress: Any = None
    stdout = stderr = ""
    outputs = NO_OUTPUTS
    avoid: frozenset[int] = frozenset()
    cancel_asked = False
    suspicions = 0
    items = 1  # of a map
    _progress_callbacks: "tuple[Callable[[Job], object], ...]" = ()

    def __init__(
        self, number: int, name: str, buffers: Sequence[bytes | memoryview], options: JobOptions, owner: Owner
    ) -> None:
        # As the standard library's does it, but for the condition.
        self._condition: Any = LightCondition()
        self._state = _base.PENDING
        self._result = self._exception = None
        self._waiters: list[Any] = []
        self._done_callbacks: list[Callable[[Job], object]] = []
        self.number = number
        self.name = name
        self.options = options
        self.node: int | None = None
        self.host: str | None = None
        self.started: float | None = None
        self.duration: float | None = None
        #: For the executor: its jobs that have not ended.
        self.siblings: set[Job] | None = None
        #: For the dispatcher: what is sent; freed when the job has ended.
        self.buffers = buffers
        self.shared: tuple[SharedArray, ...] = ()
        self.function: Function | None = None
        self.estimate = _UNKNOWN
        self.after: tuple[int, ...] = ()  # the commands that must have been run before, by node from 1
        self.is_started = False  # as far as is known
        self._owner = owner

    def __repr__(self) -> str:
        where = "" if self.node is None else f" at node {self.node} ({self.host})"
        return f"<job {self.number} {self.name}{where}, {self.state}>"

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
            self._owner.purge(self)
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
        self._progress_callbacks += (callback,)

    # --- for the dispatcher ---

    def begin(self) -> bool:
        """Take note that it is sent, or let all who wait know that it is cancelled; return whether it is to be run.

        It may be called again, and from several threads: who cancels a job may meet the dispatcher that takes it up.
        """
        with self._condition:
            if self._state == _base.PENDING:
                self._state = _base.RUNNING
                return True
            if self._state == _base.CANCELLED:
                return self.set_running_or_notify_cancel()
            return self._state == _base.RUNNING

    def report(self, value: object) -> None:
        """Take what the job says of its progress."""
        self.progress = value
        for callback in self._progress_callbacks:
            try:
                callback(self)
            except BaseException:
                log.exception("exception calling progress callback for %r", self)

    def finish(self, value: object) -> None:
        """Take the result."""
        self._end(self.set_result, value)

    def fail(self, error: BaseException) -> None:
        """Take note that there is no result."""
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


def _may_be_large(arg: object) -> bool:
    return type(arg) not in ATOMS or (type(arg) is str and len(arg) >= 100)


def encode_job(
    job: Job, args: Sequence[object], kwargs: Mapping[str, object], max_message_bytes: int
) -> Sequence[bytes | memoryview]:
    """Return the message for a job; arrays are sent from their own memory.

    Raises
    ------
    ConfigurationError, MessageTooLargeError
        The arguments cannot be sent.
    """
    assert job.function is not None  # noqa: S101 - whoever calls this has found it
    number, options = job.function.number, job.options
    if not kwargs and not any(map(_may_be_large, args)):
        small = encode_small(Kind.JOB, job.number, [number, list(args), {}, options.wire(pickled=False)])
        if small is not None:
            return (small,)
    try:
        contents = [number, list(args), dict(kwargs), options.wire(pickled=False)]
        return encode_message(Kind.JOB, job.number, contents, max_message_bytes)
    except UnsupportedValueError:
        _, _, arguments, _ = pack_call("", args, kwargs, pickled=True)
        contents = [number, arguments, None, options.wire(pickled=True)]
        return encode_message(Kind.JOB, job.number, contents, max_message_bytes)
