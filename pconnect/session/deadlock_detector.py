"""Who waits for whom, and when that can never end. No I/O.

The client asks all nodes for their *states* in rounds, while it waits itself (`pconnect.session.deadlock_probe`). From
two rounds it concludes that some nodes, itself among them, wait for each other and always will. There is never a false
alarm; this is the proof.

*States.* A node that is in a wait has looked whether the wait is over, with all messages that it has received, and then
tells its state: what it waits for, a serial number, and for each other node how many messages it has sent there and
received from there. The serial number grows whenever a wait begins and whenever one ends. A wait tells which nodes'
messages can end it; one that anything else can end (a time limit, a timer, room in a connection) counts as none.

*A moment.* `Rounds` compares the answers to one round with those to the next, which begins after the former have come.
A node whose two answers are the same was in that wait, and has sent and received nothing, in all the time between. That
time contains the instant T at which the second round began; so the states of all these nodes held at T together. Its
own state the client knows: it was the same when either round began, and still is.

*What is on its way.* Messages between two nodes arrive in order, so if as many have been received as were sent, none is
on its way. Commands of the client and their ends are such messages. What engines print and what the client says to
supervisors are not; but an idle node counts only if the client takes all commands that it sent there as ended, with all
that they have printed, and it has sent supervisors nothing but questions since the first round began.

*The set.* `stuck_nodes` finds the largest set S of nodes, by taking away for as long as possible those that can go on,
such that each node in S waits for messages of nodes in S only, and none of those is on its way. (If messages of several
nodes are all needed, one that never sends is enough.) So the wait of no node in S can end before another node in S has
sent something. But a node in S sends nothing before its wait has ended. So nothing ever ends any of these waits,
whatever the other nodes do, except somebody from outside, such as a user who presses Ctrl-C.

*Time.* Some conditions look at the clock: when a node failed, others wait a moment for what it sent before. They do so
for a second after the failure. An answer counts as one of the first round only if it came more than that before T; so
such a moment has passed between the answers, and would have ended the wait.

*Callbacks.* On the client, the end of a command may call the user's functions without ending the wait. Nodes with such
commands count like those waited for: they too have to be in S.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from pconnect.errors import DeadlockError, ProtocolError, shown_source
from pconnect.protocol.wait_states import CLIENT, COMMAND_END, IDLE, State, Wait, read_state

# Seconds. An answer that came later than this before the next round belongs to neither; see "Time" above.
SETTLING = 1.1


class BlockedNode(NamedTuple):
    """A node that cannot go on: its command (``None``: it runs none), and for whom it waits in which call."""

    node: int
    host: str
    command: str | None
    kind: str
    waits_for: tuple[int, ...]


def stuck_nodes(states: Mapping[int, State]) -> frozenset[int]:
    """Return the nodes that wait for each other in a way that nothing can end, if these states hold at one moment.

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
    assert own.wait is not None  # noqa: S101 - the others were left out

    def is_silent(sender: int) -> bool:
        return sender in stuck and states[sender].sent[node] == own.received[sender] >= 0

    waits = any if own.wait.every else all
    return waits(map(is_silent, own.wait.nodes)) and all(map(is_silent, own.listens))


def concerned_nodes(states: Mapping[int, State], stuck: Iterable[int]) -> list[int]:
    """Return those of the stuck nodes for which the client waits, directly or through others, and the client."""
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
    """Return the error that says who of `nodes` waits for whom.

    `states`, `nodes`: as in `concerned_nodes`. `hosts`: of all nodes of the network. `sources`: the texts
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
    return make_error("\n".join(["nobody can go on:", *lines]), blocked)


def make_error(text: str, blocked: Iterable[BlockedNode]) -> DeadlockError:
    """Return an error with its attributes, also where it was told by the client."""
    error = DeadlockError(text)
    error.waits = tuple(blocked)
    return error


def _words(wait: Wait, awaited: Sequence[int]) -> str:
    several = [str(node) for node in awaited[:5]] + ["..."] * (len(awaited) > 5)
    names = f"node{'s' * (len(awaited) > 1)} {', '.join(several)}"
    if wait.kind == IDLE:
        return "runs no command and waits for one"
    if wait.kind == COMMAND_END:
        return f"waits for the end of a command at {names}"
    return f"waits in {wait.kind}{f'(tag={wait.tag})' if wait.tag else ''} for {names}"


class Rounds:
    """The questions of the client and the answers to them.

    A node that has not answered is not asked again before it has.

    `settling`: an answer counts for a round if it came so many seconds before the next one. `number`: of the last
    round. `has_news`: whether an answer has come since `unchanged` was called. `found`: the nodes of the last deadlock.
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
        """Take an answer. Raises `ProtocolError` if it is malformed, or answers no question."""
        if self._asked.pop(node, None) != number:
            raise ProtocolError("a STATE that answers no PROBE")
        state = read_state(value)
        if number == self.number:
            self._answers[node] = state, now
            self.has_news = True

    def forget(self, node: int) -> None:
        """Expect no answer from an engine that has ended, and do not compare it with one that follows it."""
        self._asked.pop(node, None)
        self._answers.pop(node, None)
        self._before.pop(node, None)

    def unchanged(self, own: State, running: Mapping[int, Collection[int]]) -> dict[int, State]:
        """Return the states that held at the beginning of this round, if the client is still in the wait of then.

        `own`: the client's state now. `running`: the commands of whose end it has not heard, by node; one of them may
        be on its way to an idle node.
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
