"""The workers that one node has for the jobs of this client, as the dispatcher sees them."""

import collections
from collections.abc import Callable, Iterable
from typing import Any

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.job import Function, Job
from pconnect.link.connection import Connection
from pconnect.protocol.decoder import decode_messages
from pconnect.protocol.frames import NO_LIMIT, Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, encode_message
from pconnect.session.server import Server
from srp_tools.channel import Channel

_MANY = 2**30
# No more is given to a worker that has so much still to receive.
_MAX_UNSENT_BYTES = 2**23
# What a worker keeps of functions; the oldest are forgotten.
_KEPT_FUNCTIONS = 64
# What a worker keeps of functions, and of shared arrays, beyond those that its jobs need.
_KEPT_BYTES = 2**28


class RemoteWorker:
    """One worker process.

    Attributes
    ----------
    number, pid
        At its server.
    command
        The last command that its engine had run when it was forked.
    jobs
        What was sent to it and has not ended, by number, in order.
    """

    def __init__(self, pool: "NodeWorkers", number: int, pid: int, command: int, limits: Limits) -> None:
        self.pool = pool
        self.number = number
        self.pid = pid
        self.command = command
        self.connection = Connection(
            pool.node, pool.host, None, role=Role.EMPLOYER, limits=limits, awaited=True
        )
        self.jobs: dict[int, Job] = {}
        self.served = 0
        self.retiring = False
        self.alone = False  # it runs a job that wants a process of its own, and no other
        self.idle_since = 0.0
        self.stuck = 0  # the last job of which it was heard that it takes long
        self.recalling = 0  # this one, while the server is asked whether those behind it can be called back
        self._estimates: collections.Counter[DurationEstimate] = collections.Counter()  # of its jobs
        self._functions: collections.OrderedDict[int, Function] = collections.OrderedDict()
        self._shared: collections.OrderedDict[int, int] = collections.OrderedDict()  # sizes by number

    @property
    def is_open(self) -> bool:
        """Whether jobs can be sent to it."""
        return not (self.retiring or self.alone or self.connection.is_awaited or self.connection.error)

    @property
    def has_room(self) -> bool:
        """Whether it should have another job, if that is a short one."""
        if not self.is_open or self.recalling or self.stuck in self.jobs:
            return False
        if self.connection.unsent_bytes > _MAX_UNSENT_BYTES:
            return False
        return self.limit > len(self.jobs)

    @property
    def limit(self) -> int:
        """How many jobs it should have at once, as far as it depends on those that it has."""
        return min([estimate.ahead for estimate in self._estimates], default=_MANY)

    def open(self, channel: Channel) -> None:
        """Take over the data connection."""
        self.connection.open(channel)

    def send(self, jobs: Iterable[Job]) -> None:
        """Send jobs, small ones together."""
        small: list[bytes | memoryview] = []
        for job in jobs:
            function = job.function
            assert function is not None  # noqa: S101 - it has one from the beginning
            self.jobs[job.number] = job
            self._estimates[job.estimate] += 1
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

    def _post(self, small: list[bytes | memoryview]) -> None:
        if small:
            self.connection.post_encoded([b"".join(small)])
            small.clear()

    def _forget_functions(self, buffers: list[bytes | memoryview]) -> None:
        """Have the worker forget the functions that were used longest ago, but none that a job still needs."""
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
        """Send the arrays that a job needs and the worker lacks; have it forget those that were used longest ago."""
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

    def take(self, job: Job, seconds: float) -> None:
        """Take note that a job has ended, and how long it took."""
        self.forget(job)
        self.served += 1
        job.estimate.learn(seconds)

    def forget(self, job: Job) -> None:
        """Take note that it does not have a job any more."""
        del self.jobs[job.number]
        self._estimates[job.estimate] -= 1
        if not self._estimates[job.estimate]:
            del self._estimates[job.estimate]

    def retire(self) -> None:
        """Let it end what it does, begin nothing more, and end."""
        if not self.retiring:
            self.retiring = True
            if not self.connection.is_awaited:
                self.connection.post(Kind.RETIRE)

    def decode(self, results: bytes) -> list[Message]:
        """Return messages that it had ready and could not send."""
        return decode_messages(Role.EMPLOYER, results)


class NodeWorkers:
    """The job channel to one node, and its workers.

    Attributes
    ----------
    slots
        Of the server, as far as is known.
    gone
        Why nothing can be run there, for the time being or for ever; empty if it can.
    is_lost
        Whether that is for ever.
    wanted
        How many workers the server was asked for.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.node, self.host = server.node, server.host
        self.channel: Connection | None = None
        self.slots: int | None = None
        self.gone = ""
        self.is_lost = False
        self.wanted = 0
        self.told_wanted: tuple[int, bool] = 0, False
        self.refused_until = 0.0
        self.workers: dict[int, RemoteWorker] = {}
        #: Takes what the server says of jobs that go on without their client.
        self.on_kept: Callable[[NodeWorkers, Message], object] = lambda *_: None
        self.short_since: float | None = None  # when a job began to wait for a first worker here

    @property
    def living(self) -> list[RemoteWorker]:
        """The workers that are there to stay."""
        return [worker for worker in self.workers.values() if not worker.retiring]

    @property
    def place(self) -> tuple[str, int]:
        """The server; nodes of the same one share its slots."""
        return self.server.location.address, self.server.location.data_port

    @property
    def has_answered(self) -> bool:
        """Whether the server has said how many slots it has, or nothing can be run there."""
        return self.slots is not None or bool(self.gone)

    @property
    def is_ready(self) -> bool:
        """Whether workers can be had there."""
        return self.channel is not None and self.slots is not None and not self.gone

    def open(
        self, channel: Channel, on_message: Callable[[Message], None], on_lost: Callable[..., Any]
    ) -> None:
        """Take over the job channel."""
        self.channel = Connection(self.node, self.host, channel, role=Role.DISPATCHER)
        self.channel.on_message, self.channel.on_lost = on_message, on_lost

    def take_facts(self, facts: dict[str, Any]) -> None:
        """Take what the server tells of itself."""
        self.slots = facts["slots"]
        died = f"its engine died: {facts['died']}" if facts["died"] else "not ready"
        self.gone = "" if facts["ready"] else died

    def want(self, *, exclusive: bool) -> None:
        """Tell the server how many workers are wanted, if that has changed."""
        if self.channel is not None and self.told_wanted != (self.wanted, exclusive):
            self.told_wanted = self.wanted, exclusive
            self.channel.post(Kind.WANT, self.wanted, exclusive)
