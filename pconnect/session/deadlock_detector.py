"""Which node waits for which, and when no wait can ever end. No I/O.

While the client waits, it asks all nodes for their *states* in rounds (`pconnect.session.deadlock_probe`). From two
rounds it concludes that some nodes, including itself, wait for each other and always will. False alarms are impossible;
this is the proof.

*States.* A node in a wait has checked, with all messages that it has received, that the wait is not over. Then it
reports its state: what it waits for, a serial number, and for each other node the numbers of messages it has sent to
and received from that node. The serial number grows whenever a wait begins or ends. A wait lists the nodes whose
messages can end it; a wait that anything else can end (a time limit, a timer, room in a connection) is not counted.

*A common moment.* `Rounds` compares the answers of one round with those of the next, which begins after the former have
arrived. A node with two equal answers was in that wait, and neither sent nor received anything, for the whole time
between them. That time contains the instant T when the second round began; so the states of all these nodes held at T
together. The client knows its own state: it was the same when either round began, and still is.

*Messages in transit.* Messages between two nodes arrive in order, so if the numbers of sent and received messages are
equal, none is in transit. The client's commands and the reports of their ends are such messages. The engines' output
and the client's messages to supervisors are not; but an idle node counts only if the client considers all commands that
it sent there ended, with all their output, and has sent supervisors nothing but questions since the first round began.

*The set.* `stuck_nodes` finds the largest set S of nodes in which each node waits only for messages of nodes in S, none
of which is in transit. It starts with all waiting nodes and removes those that can make progress, until none is left to
remove. (If a wait needs messages of several nodes, one that never sends is enough.) So the wait of no node in S can end
before another node in S sends something, and a node in S sends nothing before its wait ends. So nothing ever ends any
of these waits, whatever the other nodes do, except an outside event such as a user pressing Ctrl-C.

*Time.* Some conditions depend on the clock: after a node fails, others wait a moment for messages that it sent before,
up to a second after the failure. An answer counts for the first round only if it arrived longer than that before T; so
this moment has passed between the answers, and would have ended the wait.

*Callbacks.* On the client, the end of a command may call the user's functions without ending the wait. Nodes with such
commands count like nodes that are waited for: they too must be in S.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from pconnect.errors import DeadlockError, ProtocolError, shown_source
from pconnect.protocol.wait_states import CLIENT, COMMAND_END, IDLE, State, Wait, read_state

# Seconds. An answer that arrives later than this before the next round belongs to neither round; see "Time" above.
SETTLING = 1.1


class BlockedNode(NamedTuple):
    """A blocked node: its command (``None`` without one), the call in which it waits, and the nodes it waits for."""

    node: int
    host: str
    command: str | None
    kind: str
    waits_for: tuple[int, ...]


def stuck_nodes(states: Mapping[int, State]) -> frozenset[int]:
    """Return the nodes whose waits for each other can never end, if all these states hold at the same moment.

    Examples
    --------
    >>> waits_for = lambda node: State(0, 1, Wait("precv", (node,)), (0, 0, 0), (0, 0, 0))
    >>> sorted(stuck_nodes({0: waits_for(1), 1: waits_for(0), 2: waits_for(2)._replace(wait=None)}))
    [0, 1]
    """
    stuck = {node for node, state in states.items() if state.wait is not None}
    while True:
        free = {node for node in stuck if not _is_stuck(node, states, stuck)}
        if not free:
            return frozenset(stuck)
        stuck -= free


def _is_stuck(node: int, states: Mapping[int, State], stuck: set[int]) -> bool:
    own = states[node]
    assert own.wait is not None  # noqa: S101 - nodes without a wait are not in the set

    def is_silent(sender: int) -> bool:
        return sender in stuck and states[sender].sent[node] == own.received[sender] >= 0

    waits = any if own.wait.every else all
    return waits(map(is_silent, own.wait.nodes)) and all(map(is_silent, own.listens))


def concerned_nodes(states: Mapping[int, State], stuck: Iterable[int]) -> list[int]:
    """Return the client and the stuck nodes that it waits for, directly or through others."""
    among = set(stuck)
    found = [CLIENT]
    for node in found:
        wait = states[node].wait
        assert wait is not None  # noqa: S101 - it is stuck
        found += [other for other in wait.nodes if other in among and other not in found]
    return sorted(found)


def deadlock_error(
    states: Mapping[int, State], nodes: Sequence[int], hosts: Sequence[str], sources: Mapping[int, str]
) -> DeadlockError:
    """Return the error that says which of `nodes` waits for which.

    `states`, `nodes`: as in `concerned_nodes`. `hosts`: of all nodes of the network. `sources`: the source texts
    of the commands that these nodes run, by node.
    """
    blocked, lines = [], []
    for node in nodes:
        state = states[node]
        assert state.wait is not None  # noqa: S101 - it is stuck
        awaited = state.wait.nodes if state.wait.awaited is None else state.wait.awaited
        awaited = tuple(other for other in awaited if other in nodes) or awaited
        blocked.append(BlockedNode(node, hosts[node], sources.get(node), state.wait.kind, awaited))
        words = _words(state.wait, awaited)
        where = f", in command {state.command}: {shown_source(sources[node])!r}" if node in sources else ""
        lines.append(f"  node {node} ({hosts[node]}) {words}{where}")
    return make_error("\n".join(["deadlock: no node can make progress:", *lines]), blocked)


def make_error(text: str, blocked: Iterable[BlockedNode]) -> DeadlockError:
    """Return an error with its attributes; also used for one that the client reported."""
    error = DeadlockError(text)
    error.waits = tuple(blocked)
    return error


def _words(wait: Wait, awaited: Sequence[int]) -> str:
    several = [str(node) for node in awaited[:5]] + ["..."] * (len(awaited) > 5)
    names = f"node{'s' * (len(awaited) > 1)} {', '.join(several)}"
    if wait.kind == IDLE:
        return "runs no command and waits for one"
    if wait.kind == COMMAND_END:
        return f"waits for the end of a command on {names}"
    return f"waits in {wait.kind}{f'(tag={wait.tag})' if wait.tag else ''} for {names}"


class Rounds:
    """The client's questions and the nodes' answers.

    A node is not asked again until it has answered.

    `settling`: an answer counts for a round if it arrived this many seconds before the next one. `number`: of the last
    round. `has_news`: whether an answer has arrived since `unchanged` was called. `found`: the nodes of the last
    deadlock.
    """

    def __init__(self, settling: float = SETTLING) -> None:
        self._settling = settling
        self.number = 0
        self.has_news = False
        self.found: Sequence[BlockedNode] = ()
        self._asked: dict[int, int] = {}  # by node, the number of the round
        self._answers: dict[int, tuple[State, float]] = {}
        self._before: dict[int, State] = {}
        self._own: State | None = None

    def begin(self, now: float, own: State, nodes: Iterable[int]) -> list[int]:
        """Begin a round.

        `nodes`: those that are alive. Returns the nodes to ask, which are those that do not owe an answer.
        """
        self._before = {
            node: state for node, (state, came) in self._answers.items() if came + self._settling <= now
        }
        if self._own is not None:
            self._before[CLIENT] = self._own
        self._own = own
        self._answers = {}
        self.number += 1
        chosen = [node for node in nodes if node not in self._asked]
        self._asked |= dict.fromkeys(chosen, self.number)
        return chosen

    def take(self, node: int, number: int, value: object, now: float) -> None:
        """Take an answer. Raises `ProtocolError` if it is malformed, or if there was no question."""
        if self._asked.pop(node, None) != number:
            raise ProtocolError("a STATE without a PROBE")
        state = read_state(value)
        if number == self.number:
            self._answers[node] = state, now
            self.has_news = True

    def forget(self, node: int) -> None:
        """Stop expecting an answer from an engine that has ended, and do not compare it with its successor."""
        self._asked.pop(node, None)
        self._answers.pop(node, None)
        self._before.pop(node, None)

    def unchanged(self, own: State, running: Mapping[int, Collection[int]]) -> dict[int, State]:
        """Return the states that held at the beginning of this round, if the client is still in the same wait.

        `own`: the client's current state. `running`: by node, the commands that have not ended as far as the client
        knows; one of them may be in transit to an idle node.
        """
        self.has_news = False
        if not own == self._own == self._before.get(CLIENT):
            return {}
        same = {
            node: state
            for node, (state, _) in self._answers.items()
            if self._before.get(node) == state and len(state.sent) == len(own.sent)
            if (state.command in running[node] if state.command else not running[node])
        }
        return {CLIENT: own, **same}
