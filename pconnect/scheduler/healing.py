"""Healing: lost nodes are brought back for jobs while jobs are open, without a call of the user.

Everything here runs in the scheduler's loop, because the user's thread may compute, or wait for a job, for hours.
Therefore a healed node is not the node that the other engines know: its session has an engine that is connected only to
the client, and the scheduler's loop serves its command channel. Commands still report the node as lost until the user
calls `net.reconnect`.

A new engine has an empty workspace. If commands have left something in the workspace of the lost engine, jobs might
need it, so such a node is not healed. Values of `net.broadcast` are sent again; functions are sent to every new worker
anyway.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pconnect.errors import AuthenticationError, ConnectionLostError, ParallelError
from pconnect.jobs.job import Job
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import JOB_CHANNEL
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.job_session import JobSession, begin_session, come_back_to
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.node_state import SERVER_STOPPED, NodeState
from pconnect.session.server import Server
from srp_tools.channel import Channel
from srp_tools.steps import Steps, Task, pause

log = logging.getLogger("pconnect")

_FIRST_PAUSE = 0.5  # seconds between attempts
_LONGEST_PAUSE = 5.0  # a restarted server is found within this time
_TRY_SECONDS = 20.0  # for one attempt
_PATIENCE = 600.0  # from the first attempt; after that, only a new job starts further attempts
#: Jobs that can run nowhere else, and were submitted before the node was lost, wait this long.
BACK_SECONDS = 20.0
_END_SECONDS = 3.0  # for the end of an abandoned session
_LOOK_SECONDS = 0.02

_GIVEN_UP = f"it did not come back within {_PATIENCE:g} s"


_NOT_WAITED = (
    "its session has not waited for the client, which needs a server with --orphan-timeout; a new session would lack "
    "the data that commands have left in its workspace"
)


class _FinalError(ConnectionLostError):
    """Further attempts cannot succeed."""


@dataclass
class _Attempts:
    """The attempts to bring back one lost node."""

    lost_at: float  #: instant of `time.monotonic`; minus infinity if it was lost before the first job
    began: float  #: the instant at which the loss was noticed
    next_at: float
    pause: float = _FIRST_PAUSE
    count: int = 0
    why: str = ""  #: why the last attempt failed
    over: str = ""  #: why there are no further attempts; empty if there are
    against: str = ""  #: why a new session is not allowed; the old one may still come back
    task: Task | None = None  #: the attempt in progress
    #: Jobs that were running on the node, if its session may have waited.
    held: list[Job] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.count:
            return self.over or self.against or "it is being brought back for jobs"
        times = "once" if self.count == 1 else f"{self.count} times"
        words = [
            f"tried {times} to bring it back for jobs" + (f", last error: {self.why}" if self.why else "")
        ]
        return "; ".join([*words, *([self.over] if self.over else [])])


class JobOwner(Protocol):
    """Decides what happens to jobs."""

    def ended(self, job: Job) -> None:
        """Record that a job has a result."""

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show a part of a job's output."""

    def requeue(self, job: Job) -> None:
        """Return a job to the queue that was sent but not begun."""

    def lose(self, job: Job, why: str, *, away: bool = False) -> None:
        """Run a job of a lost worker again, or mark it as lost; `away`: perhaps only because the client was away."""


class Healer:
    """Brings lost nodes back.

    `nodes`: all nodes of the scheduler, by number. `event_loop`: of the scheduler's thread. `attend`: opens the job
    channel of a node that has a new session, or uses an open channel. `owner`: decides what happens to jobs.
    """

    def __init__(
        self,
        mesh: ClientMesh,
        nodes: Mapping[int, NodeWorkers],
        event_loop: EventLoop,
        attend: Callable[[NodeWorkers, Channel | None], object],
        owner: JobOwner,
    ) -> None:
        self._mesh = mesh
        self._nodes = nodes
        self._event_loop = event_loop
        self._attend = attend
        self._owner = owner
        self._tries: dict[int, _Attempts] = {}
        self._sessions: dict[int, JobSession] = {}  # the sessions begun by this object

    def look(self, now: float, *, is_wanted: bool, is_full: bool) -> None:
        """Start attempts that are due. `is_wanted`: there are jobs; `is_full`: there are more jobs than slots."""
        if is_full and (follower := self._mesh.growth.follower) is not None:
            follower.begin()
        for number, node in self._nodes.items():
            tries = self._tries.get(number)
            if node.is_leaving:
                continue
            if not node.is_lost or not (is_wanted or (tries and tries.task)):
                if tries is not None and tries.task is None:
                    del self._tries[number]
            elif tries is None:
                self.note_loss(node, now)
            elif tries.over and tries.held:
                self._lose_held(node, tries)
            elif tries.task is None and not tries.over and now >= tries.next_at:
                if now - tries.began > _PATIENCE:
                    tries.over = _GIVEN_UP
                    self._publish(number)
                else:
                    self._begin(node, tries)

    def note_loss(self, node: NodeWorkers, lost_at: float, jobs: Sequence[Job] = ()) -> bool:
        """Record that a node has just been lost; return whether its jobs are kept until its state is known."""
        now = time.monotonic()
        tries = self._tries[node.number] = _Attempts(lost_at, now, now)
        tries.over, tries.against = self._why_over(node), self._reason_against(node)
        self._mesh.growth.healing[node.number] = str(tries)
        if tries.over or self._mesh.growth.come_back is None:
            return False
        tries.held = list(jobs)
        return True

    def hopes(self, numbers: Collection[int] | None, since: float, now: float) -> bool:
        """Return whether one of these nodes (or any) may come back soon, for a job submitted at `since`."""
        return any(
            not tries.over
            and not (tries.against and is_over(self._nodes[number].server))
            and (
                self._mesh.growth.come_back is not None
                or (since <= tries.lost_at and now - tries.lost_at < BACK_SECONDS)
            )
            for number, tries in self._tries.items()
            if not numbers or number in numbers
        )

    def stop(self, numbers: Collection[int]) -> None:
        """Stop the attempts for some nodes: they are being removed, or the network reconnects them."""
        for number in numbers:
            if (tries := self._tries.get(number)) is not None and tries.task is not None:
                self._event_loop.background.cancel(tries.task)
                tries.task = None

    def has_session(self, number: int) -> bool:
        """Return whether a node has a session that was begun here."""
        return number in self._sessions

    def end(self, numbers: Collection[int], why: str, *, away: bool = False) -> Steps[None]:
        """Abandon stopped nodes together: end their sessions, then lose the jobs kept for them."""
        servers = [self._sessions.pop(number) for number in numbers if number in self._sessions]
        ending = [server for server in servers if not server.has_waited]
        for server in ending:
            self._close(server)
        deadline = time.monotonic() + _END_SECONDS
        while not all(map(_has_ended, ending)) and time.monotonic() < deadline:
            yield from pause(_LOOK_SECONDS)
        for server in servers:  # a session that has waited keeps waiting, now for the whole client
            self._drop(server)
        for number in numbers:
            self._mesh.growth.healing.pop(number, None)
            if (tries := self._tries.pop(number, None)) is not None:
                for job in reversed(tries.held):
                    self._owner.lose(job, f"{self._nodes[number]} {why} before the job ended", away=away)

    def ask(
        self, kind: Kind, number: int, value_for: Callable[[int], object], timeout: float
    ) -> Steps[dict[int, dict[str, Any]]]:
        """Ask the servers of the sessions begun here a question with this number, and return their answers by node.

        `value_for` returns the question's value for a node.
        """
        answer = Kind.FACTS if kind is Kind.QUERY else kind
        asked = [server for server in self._sessions.values() if server.command.error is None]
        for server in asked:
            server.command.post(kind, number, value_for(server.node))
            self._event_loop.flush(server.command)
        deadline = time.monotonic() + timeout
        while not all(server.has_answered(answer, number) for server in asked):
            if time.monotonic() > deadline:
                break
            yield from pause(_LOOK_SECONDS)
        answers = {server.node: server.answers.pop((answer, number), None) for server in asked}
        return {node: facts for node, facts in answers.items() if facts is not None}

    def close(self) -> None:
        """End the sessions begun here, before the loop ends."""
        for server in self._sessions.values():
            self._close(server)

    def _close(self, server: Server) -> None:
        if server.command.error is None:
            server.ask_to_close(0.0)
            self._event_loop.flush(server.command)

    def _drop(self, server: Server) -> None:
        self._event_loop.discard(server.data)
        self._event_loop.discard(server.command)

    def _why_over(self, node: NodeWorkers) -> str:
        """Return why no attempt is possible; empty if one is."""
        setup = self._mesh.mesh_setup
        if setup is None or setup.terms is None or node.number not in self._mesh.growth.hosts:
            return "no login data is known for it"
        if node.ending and node.ending != SERVER_STOPPED:
            return "its server ended the session on purpose"
        return ""

    def _reason_against(self, node: NodeWorkers) -> str:
        """Return why a node gets no new session automatically; empty if it may get one."""
        if node.server.commands.leave_state:
            return (
                "it does not come back by itself, because commands have left something in its workspace that jobs may "
                f"need: call net.reconnect({node.number}), and send it again"
            )
        return ""

    def _publish(self, number: int) -> None:
        tries, node = self._tries[number], self._nodes[number]
        self._mesh.growth.healing[number] = str(tries)
        if tries.over:
            node.lose(f"{node.gone.removesuffix(node.remedy)}; {tries.over}{node.remedy}")

    # --- one attempt ---

    def _begin(self, node: NodeWorkers, tries: _Attempts) -> None:
        tries.count += 1
        number = node.number

        def end(outcome: tuple[Server, Channel | None] | Exception) -> None:
            tries.task = None
            if not isinstance(outcome, Exception):
                self._on_success(node, *outcome)
                return
            tries.why = str(outcome)
            tries.next_at = time.monotonic() + tries.pause
            tries.pause = min(2 * tries.pause, _LONGEST_PAUSE)
            if isinstance(outcome, AuthenticationError):
                tries.over = "the login is refused"
            elif isinstance(outcome, _FinalError):
                tries.over = str(outcome)
            if self._tries.get(number) is tries:
                self._publish(number)

        task = self._event_loop.background.start(
            self._bring_back(node, tries.against), time.monotonic() + _TRY_SECONDS, end
        )
        if self._tries.get(number) is tries and node.is_lost and tries.next_at <= time.monotonic():
            tries.task = task

    def _on_success(self, node: NodeWorkers, server: Server, channel: Channel | None) -> None:
        tries = self._tries.pop(node.number)
        self._mesh.growth.ids.add(server.location.id)
        seconds = time.monotonic() - tries.began
        if channel is None and isinstance(server, JobSession):
            before, self._sessions[node.number] = self._sessions.get(node.number), server
            if before is not None:
                self._drop(before)
        self._mesh.growth.healing[node.number] = f"it runs jobs again, after {seconds:.1f} s"
        log.info("node %d (%s) is back for jobs, after %.1f s", node.number, server.host, seconds)
        has_waited = server is node.server or (isinstance(server, JobSession) and server.has_waited)
        if has_waited:
            tries.over = "its session ended its workers when the connection was lost"
        self._lose_held(node, tries, away=has_waited and self._mesh.growth.come_back is not None)
        node.revive(server)
        self._attend(node, channel)

    def _bring_back(self, node: NodeWorkers, against: str) -> Steps[tuple[Server, Channel | None]]:
        """Return a session for a node, with a job channel if one is open already."""
        setup = self._mesh.mesh_setup
        assert setup is not None  # noqa: S101 - see `_why_over`
        if self._mesh.growth.come_back is not None:
            server = yield from come_back_to(self._mesh, self._event_loop, node.number)
            if server.refusal is None:
                return server, None
            self._event_loop.discard(server.command)
            if server.refusal:
                raise ConnectionLostError(server.refusal)
            if against:
                raise _FinalError(_NOT_WAITED)
            return (yield from self._begin_new_session(node.number)), None
        try:  # perhaps only a connection was lost
            return node.server, (yield from setup.dial(node.server, JOB_CHANNEL))
        except (ParallelError, OSError):
            if against:
                raise ConnectionLostError(against) from None
            return (yield from self._begin_new_session(node.number)), None

    def _begin_new_session(self, number: int) -> Steps[JobSession]:
        return begin_session(self._mesh, self._event_loop, number, _TRY_SECONDS)

    def _lose_held(self, node: NodeWorkers, tries: _Attempts, *, away: bool = False) -> None:
        held, tries.held = tries.held, []
        for job in reversed(held):
            self._owner.lose(job, f"{node} is lost: {tries.over or tries.why}{node.remedy}", away=away)


def is_over(server: Server) -> bool:
    """Return whether nothing can run there any longer: the session has ended, or its server or machine is gone."""
    return server.life.session_is_over or server.command.error is not None


def _has_ended(server: Server) -> bool:
    return server.command.error is not None or server.life.state is NodeState.CLOSED
