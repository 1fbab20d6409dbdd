"""The workers that one node has for this client's jobs, and the channel on which its server reports about them."""

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

_REFUSED_SECONDS = 1.0  # pause before the next request to a node that could not start a worker or be reached
_SHORT_SECONDS = 1.0  # a node waits this long for a first slot before another of our nodes gives up one
# If no requested worker has started after this time, the jobs may go to other nodes. Starting a worker takes some
# hundredths of a second if a slot is free and the engine is idle.
_LATE_SECONDS = 0.3


@dataclass
class _Waits:
    """The instants since which a node lacks something; ``None`` if it does not."""

    short_since: float | None = None  #: a first worker, for which a job waits
    late_since: float | None = None  #: requested workers, of which none has started


class _Fate(Enum):
    """The state of a node's session."""

    HERE = auto()
    LOST = auto()
    LEAVING = auto()  # it is being removed, and may be lost meanwhile
    RENEWED = auto()  # it is getting a new session


class NodeWorkers:
    """The job channel to one node, and the node's workers."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.channel: Connection | None = None
        self.slots: int | None = None  #: of the server; ``None`` until it has reported them
        self.has_offered = False  #: whether it ever offered slots; it may offer some again
        self.ending = ""  #: why its server ends the session; empty if it does not
        self.gone = ""  #: why it can run nothing, temporarily or permanently; empty if it can
        self._fate = _Fate.HERE
        self.wanted = 0  #: number of workers requested from the server
        self.workers: dict[int, RemoteWorker] = {}
        #: Receives the server's messages about jobs that continue without their client.
        self.on_kept: Callable[[NodeWorkers, Message], object] = lambda *_: None
        self.unanswered = 0  #: questions about such jobs
        self._last_request: tuple[int, bool] = 0, False  # the last request sent
        self._holders = 0  # number of executors that want exclusive use of the server
        self._resting_until = math.inf  # no request before this instant; infinite while connecting
        self._waits = _Waits()

    def __str__(self) -> str:
        return f"node {self.number} ({self.server.host})"

    @property
    def remedy(self) -> str:
        """Advice for the end of an error when the node has no server any longer."""
        return f"; to continue: net.reconnect({self.number}), or connect again"

    @property
    def is_lost(self) -> bool:
        """Whether it can run nothing until it has another session."""
        return self._fate is _Fate.LOST

    @property
    def is_leaving(self) -> bool:
        """Whether the user is removing it, or is having it reconnected."""
        return self._fate in {_Fate.LEAVING, _Fate.RENEWED}

    @property
    def living(self) -> list[RemoteWorker]:
        """The workers that are not retiring."""
        return [worker for worker in self.workers.values() if not worker.retiring]

    @property
    def place(self) -> tuple[str, int]:
        """The address of the server; nodes of the same server share its slots."""
        return self.server.location.server

    @property
    def number(self) -> int:
        """The node's number."""
        return self.server.node

    @property
    def has_answered(self) -> bool:
        """Whether the server has reported its slots, or the node can run nothing."""
        return self.slots is not None or bool(self.gone)

    @property
    def is_ready(self) -> bool:
        """Whether it can start workers."""
        return self.channel is not None and self.slots is not None and not self.gone

    @property
    def is_heard(self) -> bool:
        """Whether its server can report what happens to its workers."""
        return self.channel is not None and self.channel.error is None

    @property
    def may_run_jobs(self) -> bool:
        """Whether jobs may wait for it: an administrator who has taken away its slots may give them back."""
        if self._fate is _Fate.RENEWED:
            return True
        return not self.gone and (self.slots != 0 or self.has_offered)

    @property
    def is_held(self) -> bool:
        """Whether an executor wants exclusive use of the server."""
        return self._holders > 0

    # --- messages of the server ---

    def open(
        self, channel: Channel, on_message: Callable[[Message], None], on_lost: Callable[..., Any]
    ) -> Connection:
        """Take over the job channel, and return it as a connection."""
        self.channel = Connection(self.number, self.server.host, channel, role=Role.SCHEDULER)
        self.channel.on_message, self.channel.on_lost = on_message, on_lost
        self._resting_until = 0.0
        return self.channel

    def take_facts(self, facts: dict[str, Any]) -> None:
        """Process the server's report about itself."""
        if self.is_leaving:
            return
        self.slots = facts["slots"]
        self.has_offered = self.has_offered or self.slots != 0
        died = f"its engine died: {facts['died']}; to continue: net[{self.number}].restart()"
        self.gone = "" if facts["ready"] else died if facts["died"] else "its engine is not ready"
        if self.gone:
            self.wanted = 0

    def await_news(self) -> None:
        """Wait for the server's report about a new engine; its report about a dead one is obsolete."""
        if self.gone and self._fate is _Fate.HERE:
            self.gone, self.slots = "", None

    def disable(self, why: str) -> None:
        """Record that this engine can never start a worker."""
        self.gone, self.wanted = why, 0

    def lose(self, why: str) -> None:
        """Record that the node can run nothing until it has another session."""
        self.gone = why
        if not self.is_leaving:
            self._fate = _Fate.LOST

    def leave(self, *, returns: bool) -> None:
        """Record that the node is being removed, or reconnected (`returns`): this session begins no more jobs."""
        self.disable("it is getting a new session" if returns else "it is being removed")
        self._fate = _Fate.RENEWED if returns else _Fate.LEAVING

    def revive(self, server: Server) -> None:
        """Start over with a new session, in which nothing was requested yet."""
        self.server, self.channel, self.slots, self.has_offered = server, None, None, False
        self.ending, self.gone, self._fate, self.wanted = "", "", _Fate.HERE, 0
        self.workers.clear()
        self._last_request, self._waits, self._resting_until = (0, False), _Waits(), math.inf

    def refuse(self, now: float) -> None:
        """Record that the server could not start a worker; the server drops its requests for missing workers."""
        self._resting_until = now + _REFUSED_SECONDS
        self.wanted = len(self.workers)
        self._last_request = self.wanted, self._last_request[1]

    def add(self, worker: RemoteWorker) -> None:
        """Add a new worker."""
        self.workers[worker.number] = worker
        self._waits.late_since = None

    # --- number of workers wanted ---

    def can_have_more(self, now: float) -> bool:
        """Return whether the server has more slots, and has not just refused a worker."""
        return now >= self._resting_until and self.wanted < (self.slots or 0)

    @property
    def coming(self) -> int:
        """Number of requested workers that have not started."""
        return max(0, self.wanted - len(self.living))

    @property
    def spare(self) -> int:
        """Number of workers that are idle or have not started."""
        return self.coming + sum(worker.is_open and not worker.jobs for worker in self.living)

    def has_been_late(self, now: float) -> bool:
        """Return whether `is_late` held when it was last called; callable from any thread."""
        since = self._waits.late_since
        return since is not None and now - since > _LATE_SECONDS

    def is_late(self, now: float) -> bool:
        """Return whether requested workers are overdue: the server is full, or its engine is busy."""
        if not self.coming:
            self._waits.late_since = None
            return False
        if self._waits.late_since is None:
            self._waits.late_since = now
        return now - self._waits.late_since > _LATE_SECONDS

    def want_no_more(self) -> None:
        """Request no workers beyond the present ones."""
        self.wanted = min(self.wanted, len(self.living))

    def want_more(self) -> None:
        """Request one more worker."""
        self.wanted += 1

    def want_fewer(self) -> None:
        """Request one worker fewer."""
        self.wanted = max(0, self.wanted - 1)

    def hold(self, change: int) -> None:
        """Want exclusive use of the server and all its slots (1), or no longer (-1)."""
        self._holders += change

    def ask(self, now: float) -> None:
        """Send the server the number of workers wanted, if it has changed."""
        if self.is_held and self.is_ready and now >= self._resting_until:
            self.wanted = self.slots or 0
        if self.channel is not None and self._last_request != (self.wanted, self.is_held):
            self._last_request = self.wanted, self.is_held
            self.channel.post(Kind.WANT, *self._last_request)

    # --- the first worker ---

    def is_short(self, now: float) -> bool:
        """Record that a job waits for a first worker here; return whether it has waited too long."""
        if self._waits.short_since is None:
            self._waits.short_since = now
        return now - self._waits.short_since > _SHORT_SECONDS

    def is_served(self) -> None:
        """Record that no job waits for a first worker any longer."""
        self._waits.short_since = None
