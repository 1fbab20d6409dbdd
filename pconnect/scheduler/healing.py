"""Nodes that are lost while jobs are open come back by themselves, for jobs.

It all happens in the loop of the jobs, because the user's thread may compute, or wait for a job, for hours. So what
comes back is not the node that other engines know: the session has an engine that knows nobody but the client, its
command channel is served here, and commands find the node lost as before, until the user calls `net.reconnect`.

An engine that begins has an empty workspace. Where commands have left something in that of the lost one, jobs might
look for it: such a node does not come back by itself. Values that were sent by `net.broadcast` are sent again, and
functions are sent to every new worker anyway.
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

_FIRST_PAUSE = 0.5  # seconds from one try to the next
_LONGEST_PAUSE = 5.0  # so a server that is there again is found within this time
_TRY_SECONDS = 20.0  # for one
_PATIENCE = 600.0  # from the first try on; after that, another one only when there are jobs anew
#: So long jobs wait that cannot run anywhere else, if they were there before the node was lost.
BACK_SECONDS = 20.0
_END_SECONDS = 3.0  # for the end of a session that is given up
_LOOK_SECONDS = 0.02

_GIVEN_UP = f"it was not there within {_PATIENCE:g} s"


_NOT_WAITED = (
    "its session has not waited for the client, which takes a server with --orphan-timeout; another one would lack "
    "what commands have left in its workspace"
)


class _OverError(ConnectionLostError):
    """It makes no sense to try again."""


@dataclass
class _Tries:
    """What is done for one lost node."""

    lost_at: float  #: instant of `time.monotonic`; before all, if it was lost when the first job came
    began: float  #: when that was known here, another one
    next_at: float
    pause: float = _FIRST_PAUSE
    count: int = 0
    why: str = ""  #: why the last one failed
    over: str = ""  #: why there will be no other; empty: there will
    against: str = ""  #: why there is to be no new session; the old one may be there, though
    task: Task | None = None  #: the one that is on its way
    #: Jobs that were running there, if the session may have waited.
    held: list[Job] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.count:
            return self.over or self.against or "it is brought back for jobs"
        times = "once" if self.count == 1 else f"{self.count} times"
        words = [f"tried {times} to bring it back for jobs" + (f", last: {self.why}" if self.why else "")]
        return "; ".join([*words, *([self.over] if self.over else [])])


class JobOwner(Protocol):
    """Decides what becomes of jobs."""

    def ended(self, job: Job) -> None:
        """Record that a job has a result."""

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show what a job has printed."""

    def requeue(self, job: Job) -> None:
        """Put a job back that was sent and not begun."""

    def lose(self, job: Job, why: str, *, away: bool = False) -> None:
        """Run a job again whose worker is gone, maybe only because the client was away, or say that it is lost."""


class Healer:
    """What brings nodes back.

    `nodes`: all that the scheduler knows, by number. `event_loop`: of its thread. `attend`: opens the job channel of a
    node that has a session again, on a channel if there is one already. `owner`: decides what becomes of jobs.
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
        self._tries: dict[int, _Tries] = {}
        self._sessions: dict[int, JobSession] = {}  # those that were begun here

    def look(self, now: float, *, is_wanted: bool, is_full: bool) -> None:
        """Begin what is due; `is_wanted`: whether there are jobs; `is_full`: whether there are more than slots."""
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
                    self._tell(number)
                else:
                    self._begin(node, tries)

    def note_loss(self, node: NodeWorkers, lost_at: float, jobs: Sequence[Job] = ()) -> bool:
        """Record that a node is lost just now; return whether its jobs are kept until more is known."""
        now = time.monotonic()
        tries = self._tries[node.number] = _Tries(lost_at, now, now)
        tries.over, tries.against = self._why_over(node), self._reason_against(node)
        self._mesh.growth.healing[node.number] = str(tries)
        if tries.over or self._mesh.growth.come_back is None:
            return False
        tries.held = list(jobs)
        return True

    def hopes(self, numbers: Collection[int] | None, since: float, now: float) -> bool:
        """Whether some nodes, or any, may be back soon for a job that waits since an instant."""
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
        """Try no more to bring some nodes back: they are being removed, or come back as a whole."""
        for number in numbers:
            if (tries := self._tries.get(number)) is not None and tries.task is not None:
                self._event_loop.background.cancel(tries.task)
                tries.task = None

    def has_session(self, number: int) -> bool:
        """Whether a node has a session that was begun here."""
        return number in self._sessions

    def end(self, numbers: Collection[int], why: str, *, away: bool = False) -> Steps[None]:
        """Give up nodes that are stopped, all at once: end their sessions, then lose the jobs kept for them."""
        servers = [self._sessions.pop(number) for number in numbers if number in self._sessions]
        ending = [server for server in servers if not server.has_waited]
        for server in ending:
            self._close(server)
        deadline = time.monotonic() + _END_SECONDS
        while not all(map(_has_ended, ending)) and time.monotonic() < deadline:
            yield from pause(_LOOK_SECONDS)
        for server in servers:  # one that has waited does so again, for the whole client
            self._drop(server)
        for number in numbers:
            self._mesh.growth.healing.pop(number, None)
            if (tries := self._tries.pop(number, None)) is not None:
                for job in reversed(tries.held):
                    self._owner.lose(job, f"{self._nodes[number]} {why} before it had ended", away=away)

    def ask(
        self, kind: Kind, number: int, value_for: Callable[[int], object], timeout: float
    ) -> Steps[dict[int, dict[str, Any]]]:
        """Return what the servers of the sessions that were begun here answer to a question with this number.

        `value_for`: returns what a node is asked.
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
        """End the sessions that were begun here: the loop is about to end."""
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
        """Return why there is nothing that could be tried; empty if there is something."""
        setup = self._mesh.mesh_setup
        if setup is None or setup.terms is None or node.number not in self._mesh.growth.hosts:
            return "nothing is known of how to log in there"
        if node.ending and node.ending != SERVER_STOPPED:
            return "its server wanted the session to end"
        return ""

    def _reason_against(self, node: NodeWorkers) -> str:
        """Return why a node gets no new session by itself; empty if it does."""
        if node.server.commands.leave_state:
            return (
                "it does not come back by itself, because commands have left something in its workspace that jobs may "
                f"need: call net.reconnect({node.number}), and send that again"
            )
        return ""

    def _tell(self, number: int) -> None:
        tries, node = self._tries[number], self._nodes[number]
        self._mesh.growth.healing[number] = str(tries)
        if tries.over:
            node.lose(f"{node.gone.removesuffix(node.remedy)}; {tries.over}{node.remedy}")

    # --- one try ---

    def _begin(self, node: NodeWorkers, tries: _Tries) -> None:
        tries.count += 1
        number = node.number

        def end(outcome: tuple[Server, Channel | None] | Exception) -> None:
            tries.task = None
            if not isinstance(outcome, Exception):
                self._take(node, *outcome)
                return
            tries.why = str(outcome)
            tries.next_at = time.monotonic() + tries.pause
            tries.pause = min(2 * tries.pause, _LONGEST_PAUSE)
            if isinstance(outcome, AuthenticationError):
                tries.over = "the login is refused"
            elif isinstance(outcome, _OverError):
                tries.over = str(outcome)
            if self._tries.get(number) is tries:
                self._tell(number)

        task = self._event_loop.background.start(
            self._bring_back(node, tries.against), time.monotonic() + _TRY_SECONDS, end
        )
        if self._tries.get(number) is tries and node.is_lost and tries.next_at <= time.monotonic():
            tries.task = task

    def _take(self, node: NodeWorkers, server: Server, channel: Channel | None) -> None:
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
            tries.over = "its session has ended its workers, when the connection was lost"
        self._lose_held(node, tries, away=has_waited and self._mesh.growth.come_back is not None)
        node.revive(server)
        self._attend(node, channel)

    def _bring_back(self, node: NodeWorkers, against: str) -> Steps[tuple[Server, Channel | None]]:
        """Return the session of a node, with a job channel if there is one already."""
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
                raise _OverError(_NOT_WAITED)
            return (yield from self._anew(node.number)), None
        try:  # it may be that nothing is lost but a connection
            return node.server, (yield from setup.dial(node.server, JOB_CHANNEL))
        except (ParallelError, OSError):
            if against:
                raise ConnectionLostError(against) from None
            return (yield from self._anew(node.number)), None

    def _anew(self, number: int) -> Steps[JobSession]:
        return begin_session(self._mesh, self._event_loop, number, _TRY_SECONDS)

    def _lose_held(self, node: NodeWorkers, tries: _Tries, *, away: bool = False) -> None:
        held, tries.held = tries.held, []
        for job in reversed(held):
            self._owner.lose(job, f"{node} is lost: {tries.over or tries.why}{node.remedy}", away=away)


def is_over(server: Server) -> bool:
    """Whether nothing can run there any more: the session has ended, or its server or machine is gone."""
    return server.life.session_is_over or server.command.error is not None


def _has_ended(server: Server) -> bool:
    return server.command.error is not None or server.life.state is NodeState.CLOSED
