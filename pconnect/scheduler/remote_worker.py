"""A worker, as seen by the client: its connection, its jobs, and the functions and arrays that it keeps."""

import itertools
from collections import Counter, OrderedDict
from collections.abc import Iterable

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job
from pconnect.link.connection import Connection
from pconnect.protocol.frames import NO_LIMIT, Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, decode_messages, encode_message
from pconnect.scheduler.prefetch import limit_of
from pconnect.session.server import Server
from srp_tools.channel import Channel

# A worker with more unsent bytes than this gets no more jobs.
_MAX_UNSENT_BYTES = 2**23
# Functions that a worker keeps; the oldest are forgotten.
_KEPT_FUNCTIONS = 64
# Bytes of functions, and of shared arrays, that a worker keeps in addition to those that its jobs need.
_KEPT_BYTES = 2**28


class RemoteWorker:
    """One worker process."""

    def __init__(self, server: Server, number: int, pid: int, command: int, limits: Limits) -> None:
        self.server = server
        self.number = number
        self.pid = pid
        self.command = command  #: the last command that its engine had run before the fork
        #: Between the client and the worker.
        self.connection = Connection(
            server.node, server.host, None, role=Role.EMPLOYER, limits=limits, awaited=True
        )
        self.jobs: dict[int, Job] = {}  #: jobs sent to it that have not ended, by number, in order
        self.served = 0  #: number of jobs that have ended in it
        self.retiring = False  #: whether it begins no more jobs
        self._is_isolated = False  # it runs a single job that needs its own process
        self._idle_since = 0.0
        self._long = 0  # the last job reported as long
        self._recalling = (
            0  # the long job, while the server is asked whether the jobs behind it can be recalled
        )
        self._estimates: Counter[DurationEstimate] = Counter()  # of its jobs
        self._functions: OrderedDict[int, Function] = OrderedDict()
        self._shared: OrderedDict[int, int] = OrderedDict()  # sizes by number

    @property
    def node(self) -> int:
        """The node whose engine it was forked from."""
        return self.server.node

    @property
    def is_open(self) -> bool:
        """Whether it can be sent jobs."""
        return not (self.retiring or self._is_isolated or self.connection.is_awaited or self.connection.error)

    @property
    def may_have_more(self) -> bool:
        """Whether results may still arrive on its connection, even if the worker has exited."""
        return bool(self.jobs) and not self.connection.is_awaited and self.connection.error is None

    @property
    def has_room(self) -> bool:
        """Whether it may get another job, provided that job is short."""
        if not self.is_open or self._recalling or self._long in self.jobs:
            return False
        if self.connection.unsent_bytes > _MAX_UNSENT_BYTES:
            return False
        return not self.jobs or self.limit > len(self.jobs)

    @property
    def limit(self) -> int:
        """The maximum number of jobs for it, given the kinds of the jobs that it has."""
        return limit_of(self._estimates)

    def is_outdated(self, job: Job) -> bool:
        """Return whether it lacks the effects of a command that ended before a job was submitted."""
        # After a restart of the engine, no effects of earlier commands are left.
        return self.command < self.server.commands.finished_by(job.after)

    def idle_seconds(self, now: float, *, is_held: bool) -> float:
        """Return how long it has been idle; 0 if the server is held exclusively."""
        if self.jobs or is_held or not self._idle_since:
            self._idle_since = now
        return now - self._idle_since

    def open(self, channel: Channel) -> None:
        """Take over the data connection."""
        self.connection.open(channel)
        if self.retiring:
            self.connection.post(Kind.RETIRE)

    def retire(self) -> None:
        """Let it complete its current job, begin no others, and exit."""
        if not self.retiring:
            self.retiring = True
            if not self.connection.is_awaited:
                self.connection.post(Kind.RETIRE)

    # --- jobs ---

    def send(self, jobs: Iterable[Job]) -> None:
        """Send jobs; small ones are combined."""
        small: list[bytes | memoryview] = []
        place = self.server.node, self.server.host
        for job in jobs:
            function = job.function
            assert function is not None  # noqa: S101 - every submitted job has one
            job.place, job.is_started = place, False
            self._is_isolated = job.options.isolate
            self.jobs[job.number] = job
            self._estimates[function.estimate] += 1
            if function.number not in self._functions:
                small += function.encode()
                self._functions[function.number] = function
                self._forget_functions(small)
            self._functions.move_to_end(function.number)
            if job.shared:
                self._post(small)
                self._share(job, small)
            if len(job.buffers) == 1:
                small += job.buffers
            else:
                self._post(small)
                self.connection.post_encoded(job.buffers)
        self._post(small)

    def take(self, job: Job, seconds: float | None) -> None:
        """Record that a job has ended, and its duration if that is known."""
        if self._is_isolated:
            self.retire()
        self.forget(job)
        self.served += 1
        assert job.function is not None  # noqa: S101 - it was sent
        if seconds is not None:
            job.function.estimate.learn(seconds)

    def forget(self, job: Job) -> None:
        """Record that the worker no longer has a job."""
        del self.jobs[job.number]
        self._is_isolated = False
        assert job.function is not None  # noqa: S101 - it was sent
        estimate = job.function.estimate
        self._estimates[estimate] -= 1
        if not self._estimates[estimate]:
            del self._estimates[estimate]

    def decode(self, results: bytes) -> list[Message]:
        """Return messages that it had prepared but could not send."""
        return decode_messages(Role.EMPLOYER, results)

    # --- recall: see `pserver.jobs.recall` ---

    def mark_long(self, number: int, seconds: float) -> None:
        """Record that a job has run for `seconds` and still runs; jobs behind it must not wait."""
        job = self.jobs[number]
        job.is_started = True
        if job.function is not None:
            job.function.estimate.learn(seconds)
        self._long = number

    def begin_recall(self) -> int:
        """Send the mark of a recall; return the job before the mark, or 0 if there is nothing to recall."""
        if self._recalling or self._long not in self.jobs or len(self.jobs) == 1:
            return 0
        self._recalling = self._long
        self.connection.post(Kind.RECALL, self._recalling)
        return self._recalling

    def end_recall(self, number: int, *, runs_still: bool) -> list[Job]:
        """Process the answer; return the recalled jobs, which it will not begin, the last one first.

        Jobs before the long one have ended, and their results are being sent.
        """
        self._recalling = 0
        if not runs_still:
            if self._long == number:
                self._long = 0  # its result is being sent
            return []
        behind = itertools.takewhile(lambda job: job.number != number, reversed(self.jobs.values()))
        recalled = list(behind)
        for job in recalled:
            self.forget(job)
        return recalled

    # --- what the worker keeps ---

    def _post(self, small: list[bytes | memoryview]) -> None:
        if small:
            self.connection.post_encoded([b"".join(small)])
            small.clear()

    def _forget_functions(self, buffers: list[bytes | memoryview]) -> None:
        """Make the worker forget the least recently used functions, except those that a job still needs."""
        size = sum(function.size for function in self._functions.values())
        if len(self._functions) <= _KEPT_FUNCTIONS and size <= _KEPT_BYTES:
            return
        needed = {job.function.number for job in self.jobs.values() if job.function is not None}
        for number in [number for number in self._functions if number not in needed]:
            size -= self._functions.pop(number).size
            buffers += encode_message(Kind.FUNCTION, number, None, NO_LIMIT)
            if len(self._functions) <= _KEPT_FUNCTIONS and size <= _KEPT_BYTES:
                return

    def _share(self, job: Job, small: list[bytes | memoryview]) -> None:
        """Send the arrays of a job that the worker lacks; make it forget the least recently used ones."""
        for array in job.shared:
            if array.number not in self._shared:
                self._shared[array.number] = array.size
                self.connection.post_encoded(array.encode())
            self._shared.move_to_end(array.number)
        excess = sum(self._shared.values()) - _KEPT_BYTES
        if excess <= 0:
            return
        needed = {array.number for job in self.jobs.values() for array in job.shared}
        for number in [number for number in self._shared if number not in needed]:
            small += encode_message(Kind.SHARED, number, None, NO_LIMIT)
            excess -= self._shared.pop(number)
            if excess <= 0:
                return
