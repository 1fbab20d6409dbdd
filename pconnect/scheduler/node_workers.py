"""The workers that one node has for the jobs of this client, and the channel on which its server speaks of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pconnect.scheduler.remote_worker import RemoteWorker
from pconnect.session.server import Server
from srp_tools.channel import Channel

_REFUSED_SECONDS = 1.0  # so long nothing is asked of a node that could not start a worker or be reached
_SHORT_SECONDS = 1.0  # so long a node waits for a first slot before another of ours gives up one of its own
# After so long without a worker that was wanted, the jobs are not for this node alone. A worker takes some hundredths
# of a second where a slot is free and the engine is idle.
_LATE_SECONDS = 0.3


@dataclass
class _Waits:
    """Since when a node lacks something; ``None`` if it does not."""

    short_since: float | None = None  #: a first worker, for which a job waits
    late_since: float | None = None  #: workers that are wanted; none has come


class _Fate(Enum):
    """Whether a node has a session."""

    HERE = auto()
    LOST = auto()
    LEAVING = auto()  # it is being removed; it may be lost meanwhile
    RENEWED = auto()  # it gets another session


class NodeWorkers:
    """The job channel to one node, and its workers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.channel: Connection | None = None
        self.slots: int | None = None  #: of the server, as far as is known
        self.has_offered = False  #: slots, at any time: then it may have some again
        self.ending = ""  #: why its server ends the session; empty as long as it does not
        self.gone = ""  #: why nothing can be run there, for the time being or for ever; empty if it can
        self._fate = _Fate.HERE
        self.wanted = 0  #: how many workers the server is asked for
        self.workers: dict[int, RemoteWorker] = {}
        #: Takes what the server says of jobs that go on without their client.
        self.on_kept: Callable[[NodeWorkers, Message], object] = lambda *_: None
        self.unanswered = 0  #: questions about such jobs
        self._told: tuple[int, bool] = 0, False  # the last wish
        self._holders = 0  # executors that want the server for themselves
        self._resting_until = math.inf  # nothing is asked of it before; infinite while it is dialled
        self._waits = _Waits()

    def __str__(self) -> str:
        return f"node {self.number} ({self.server.host})"

    @property
    def remedy(self) -> str:
        """What to do when it has no server any more, for the end of an error."""
        return f"; to continue: net.reconnect({self.number}), or connect again"

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be run there until it has another session."""
        return self._fate is _Fate.LOST

    @property
    def is_leaving(self) -> bool:
        """Whether the user has it removed, or has it get another session."""
        return self._fate in {_Fate.LEAVING, _Fate.RENEWED}

    @property
    def living(self) -> list[RemoteWorker]:
        """The workers that are there to stay."""
        return [worker for worker in self.workers.values() if not worker.retiring]

    @property
    def place(self) -> tuple[str, int]:
        """The server; nodes of the same one share its slots."""
        return self.server.location.server

    @property
    def number(self) -> int:
        """The node's."""
        return self.server.node

    @property
    def has_answered(self) -> bool:
        """Whether the server has said how many slots it has, or nothing can be run there."""
        return self.slots is not None or bool(self.gone)

    @property
    def is_ready(self) -> bool:
        """Whether workers can be had there."""
        return self.channel is not None and self.slots is not None and not self.gone

    @property
    def is_heard(self) -> bool:
        """Whether its server can say what becomes of its workers."""
        return self.channel is not None and self.channel.error is None

    @property
    def may_run_jobs(self) -> bool:
        """Whether jobs may wait for it: an administrator who has taken its slots may give them back."""
        if self._fate is _Fate.RENEWED:
            return True
        return not self.gone and (self.slots != 0 or self.has_offered)

    @property
    def is_held(self) -> bool:
        """Whether an executor wants the server for itself."""
        return self._holders > 0

    # --- what the server says ---

    def open(
        self, channel: Channel, on_message: Callable[[Message], None], on_lost: Callable[..., Any]
    ) -> Connection:
        """Take over the job channel, and return it as a connection."""
        self.channel = Connection(self.number, self.server.host, channel, role=Role.SCHEDULER)
        self.channel.on_message, self.channel.on_lost = on_message, on_lost
        self._resting_until = 0.0
        return self.channel

    def take_facts(self, facts: dict[str, Any]) -> None:
        """Take what the server tells of itself."""
        if self.is_leaving:
            return
        self.slots = facts["slots"]
        self.has_offered = self.has_offered or self.slots != 0
        died = f"its engine died: {facts['died']}; to continue: net[{self.number}].restart()"
        self.gone = "" if facts["ready"] else died if facts["died"] else "not ready"
        if self.gone:
            self.wanted = 0

    def await_news(self) -> None:
        """Wait for what the server tells of another engine; what it has told of one that died counts no more."""
        if self.gone and self._fate is _Fate.HERE:
            self.gone, self.slots = "", None

    def disable(self, why: str) -> None:
        """Record that no worker can be started with this engine, however often one is asked for."""
        self.gone, self.wanted = why, 0

    def lose(self, why: str) -> None:
        """Record that nothing can be run there until it has another session."""
        self.gone = why
        if not self.is_leaving:
            self._fate = _Fate.LOST

    def leave(self, *, returns: bool) -> None:
        """Record that it is about to be removed, or `returns` with another session: nothing more begins in this one."""
        self.disable("it is getting a new session" if returns else "it is being removed")
        self._fate = _Fate.RENEWED if returns else _Fate.LEAVING

    def revive(self, server: Server) -> None:
        """Begin anew: the node has a session, in which nothing was asked for yet."""
        self.server, self.channel, self.slots, self.has_offered = server, None, None, False
        self.ending, self.gone, self._fate, self.wanted = "", "", _Fate.HERE, 0
        self.workers.clear()
        self._told, self._waits, self._resting_until = (0, False), _Waits(), math.inf

    def refuse(self, now: float) -> None:
        """Record that the server could not start a worker; it has been told to forget those that are not there."""
        self._resting_until = now + _REFUSED_SECONDS
        self.wanted = len(self.workers)
        self._told = self.wanted, self._told[1]

    def add(self, worker: RemoteWorker) -> None:
        """Take a new worker."""
        self.workers[worker.number] = worker
        self._waits.late_since = None

    # --- how many workers are wanted ---

    def can_have_more(self, now: float) -> bool:
        """Whether the server has more slots, and has not refused a worker just now."""
        return now >= self._resting_until and self.wanted < (self.slots or 0)

    @property
    def coming(self) -> int:
        """How many workers are wanted and not there yet."""
        return max(0, self.wanted - len(self.living))

    @property
    def spare(self) -> int:
        """How many workers have nothing to do, or are still to come."""
        return self.coming + sum(worker.is_open and not worker.jobs for worker in self.living)

    def has_been_late(self, now: float) -> bool:
        """Whether none has come for a while, as far as `is_late` was asked; any thread may ask."""
        since = self._waits.late_since
        return since is not None and now - since > _LATE_SECONDS

    def is_late(self, now: float) -> bool:
        """Whether none has come for a while of those that are wanted: the server is full, or its engine is busy."""
        if not self.coming:
            self._waits.late_since = None
            return False
        if self._waits.late_since is None:
            self._waits.late_since = now
        return now - self._waits.late_since > _LATE_SECONDS

    def want_no_more(self) -> None:
        """Want no workers but those that are there."""
        self.wanted = min(self.wanted, len(self.living))

    def want_more(self) -> None:
        """Want one worker more."""
        self.wanted += 1

    def want_fewer(self) -> None:
        """Want one worker less."""
        self.wanted = max(0, self.wanted - 1)

    def hold(self, change: int) -> None:
        """Want the server for this network alone, with all its slots (1), or no longer (-1)."""
        self._holders += change

    def ask(self, now: float) -> None:
        """Tell the server how many workers are wanted, if that has changed."""
        if self.is_held and self.is_ready and now >= self._resting_until:
            self.wanted = self.slots or 0
        if self.channel is not None and self._told != (self.wanted, self.is_held):
            self._told = self.wanted, self.is_held
            self.channel.post(Kind.WANT, *self._told)

    # --- a first worker ---

    def is_short(self, now: float) -> bool:
        """Record that a job waits for a first worker here; return whether it has waited for long."""
        if self._waits.short_since is None:
            self._waits.short_since = now
        return now - self._waits.short_since > _SHORT_SECONDS

    def is_served(self) -> None:
        """Record that no job waits for a first worker any more."""
        self._waits.short_since = None
