"""The search for deadlocks: the client's questions and conclusions, and the engines' answers.

While the client waits for more than a second, it asks the engines every two seconds for their states, with PROBE
messages through their supervisors. An engine in a wait answers with STATE; a busy engine answers when it next waits.
`pconnect.session.deadlock_detector` evaluates the answers. If no node can make progress, the client sends the engines
concerned another PROBE, on which they raise where they wait. It waits a moment for the failures of their commands, and
raises too. If the client's own wait has a time limit, it can continue after that, perhaps by sending the awaited
messages. So no node raises before, and the client's `TimeoutError` says which node waits for which.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pconnect.errors import DeadlockError, ProtocolError
from pconnect.link.connection import Connection
from pconnect.loop.network import Mesh
from pconnect.protocol.kinds import Kind
from pconnect.protocol.wait_states import CLIENT, IDLE, State, pack_state
from pconnect.session.deadlock_detector import (
    SETTLING,
    BlockedNode,
    Rounds,
    concerned_nodes,
    deadlock_error,
    make_error,
    stuck_nodes,
)
from pconnect.session.server import Server
from srp_tools.steps import deadline_after

# Seconds that the client waits for the ends of the commands in which the engines have raised.
_ENDING = 1.0


def state_of(mesh: Mesh, command: int, *, has_limit: bool = False, listens: Sequence[int] = ()) -> State:
    """Return the state of this node.

    `command`: the number of the running command. `has_limit`: whether something besides messages may end its wait.
    `listens`: see `State`.
    """
    event_loop = mesh.event_loop
    wait = None if has_limit or event_loop.wait is None or _timer_runs() else event_loop.wait()
    if wait is not None and (not wait.nodes or (wait.has_limit and mesh.node != CLIENT)):
        wait = None  # only the client's own wait may have a limit; see the top of this file
    links = mesh.connections
    return State(
        0 if wait is not None and wait.kind == IDLE else command,
        event_loop.serial,
        wait,
        tuple(link.values_sent if _is_up(link) else -1 for link in links),
        tuple(link.values_received if _is_up(link) else -1 for link in links),
        tuple(listens),
    )


def _is_up(link: Connection) -> bool:
    """Whether a link can only bring messages: an attempt to connect may also fail after some time."""
    return not (link.is_own or link.error or link.is_awaited)


def _timer_runs() -> bool:
    """Whether this process has set a timer, whose handler may end a wait."""
    if sys.platform == "win32":
        return False
    timers = signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF
    return any(signal.getitimer(timer)[0] for timer in timers)


def answer(
    mesh: Mesh, question: object, command: int, *, has_limit: bool
) -> list[object] | DeadlockError | None:
    """Return an engine's answer to a PROBE without a value, or the error with which to end its wait.

    It is ``None`` if the wait that the client means is over.

    Raises `ProtocolError` if the value is malformed.
    """
    if question is None:
        return pack_state(state_of(mesh, command, has_limit=has_limit))
    match question:
        case [int() as serial, str() as text, list() as blocked]:
            if serial != mesh.event_loop.serial:
                return None
            return make_error(text, (BlockedNode(n, h, c, k, tuple(w)) for n, h, c, k, w in blocked))
    raise ProtocolError("a malformed PROBE")


class Timing(NamedTuple):
    """When the client asks, in seconds."""

    #: Shorter waits cost nothing.
    delay: float = 1.0
    #: From one round to the next. Answers must arrive within this time minus `settling`.
    period: float = 2.0
    #: Quiet time required at the end of a round, see "Time" in `pconnect.session.deadlock_detector`.
    settling: float = SETTLING


class Probing:
    """The client's search. `servers`: by node. `timing`: when it asks them."""

    def __init__(self, mesh: Mesh, servers: Mapping[int, Server], timing: Timing = Timing()) -> None:  # noqa: B008 - immutable
        self._mesh = mesh
        self._timing = timing
        self.servers = servers  #: the current ones, by node
        self._rounds = Rounds(timing.settling)
        self._serial = -1
        self._due = 0.0
        #: The text that a wait with a time limit adds to its error, and the number of the round in which it was found.
        self._advice: tuple[DeadlockError, int] | None = None
        for server in servers.values():
            self.take_in(server)

    def take_in(self, server: Server) -> None:
        """Route a server's answers to this search."""
        server.rounds = self._rounds

    def look(self) -> DeadlockError | None:
        """Do the work that is due; called repeatedly in each wait of the client while it is not over.

        Returns the error if no node can make progress. Unless the wait has a time limit, the engines concerned have
        been notified. All connections are usable.
        """
        event_loop = self._mesh.event_loop
        if event_loop.wait is None:
            return None
        now = time.monotonic()
        if event_loop.serial != self._serial:
            self._serial, self._due, self._advice = event_loop.serial, now + self._timing.delay, None
        elif (self._rounds.has_news or now >= self._due) and event_loop.turns.is_alone():
            own = self._own_state()
            if self._rounds.has_news and (found := self._conclude(own)) is not None:
                if own.wait is None or not own.wait.has_limit:
                    return self._free(*found)
                self._advice = self._explain(*found), self._rounds.number
            if now >= self._due:
                self._ask(now, own)
        # The next round confirms or refutes it.
        return self._advice[0] if self._advice and self._advice[1] >= self._rounds.number - 1 else None

    def _own_state(self) -> State:
        listens = [node for node, server in self.servers.items() if server.calls_back]
        state = state_of(self._mesh, 0, listens=listens)
        # Commands and other messages to engines are not among the counted ones, so count them as changes.
        posted = sum(server.command.values_sent for server in self.servers.values())
        return state._replace(serial=state.serial + posted)

    def _ask(self, now: float, own: State) -> None:
        self._due = now + self._timing.period
        alive = [node for node, server in self.servers.items() if server.state == "open"]
        for node in self._rounds.begin(now, own, alive):
            self._post(node, self._rounds.number, None)

    def _post(self, node: int, tag: int, value: object) -> None:
        server = self.servers[node]
        server.command.post(Kind.PROBE, tag, value)
        self._mesh.event_loop.flush(server.command)

    def _conclude(self, own: State) -> tuple[Mapping[int, State], list[int]] | None:
        """Return the states that hold, and the nodes for which the client waits in vain, or ``None``."""
        running = {node: server.running for node, server in self.servers.items()}
        states = self._rounds.unchanged(own, running)
        stuck = stuck_nodes({n: s for n, s in states.items() if n == 0 or self.servers[n].state == "open"})
        return (states, concerned_nodes(states, stuck)) if CLIENT in stuck else None

    def _explain(self, states: Mapping[int, State], nodes: list[int]) -> DeadlockError:
        sources = {
            node: self.servers[node].running[number].source
            for node in nodes
            if (number := states[node].command)
        }
        hosts = [connection.host for connection in self._mesh.connections]
        return deadlock_error(states, nodes, hosts, sources)

    def _free(self, states: Mapping[int, State], nodes: list[int]) -> DeadlockError:
        """Make the engines concerned raise where they wait; return the error for the client."""
        error = self._explain(states, nodes)
        commands = {node: number for node in nodes if (number := states[node].command)}
        running = {node: self.servers[node].running for node in commands}
        self._rounds.found = error.waits
        blocked = [[*line[:-1], list(line.waits_for)] for line in error.waits]
        for node, number in commands.items():
            self.servers[node].failures.tell_of_deadlock(number)
            self._post(node, self._rounds.number, [states[node].serial, str(error), blocked])
        with contextlib.suppress(TimeoutError):
            self._mesh.event_loop.run_until(
                lambda: not any(number in running[node] for node, number in commands.items()),
                deadline_after(_ENDING),
                "the ends of the commands that wait",
            )
        return error
