"""The client's search with scripted engines, and the answers of an engine."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from pconnect import DeadlockError, Network, RemoteError, precv, psend, reval
from pconnect.errors import ParallelError, ProtocolError
from pconnect.link.connection import Connection
from pconnect.protocol.kinds import ACCEPTS, Kind, Role
from pconnect.protocol.messages import Message
from pconnect.protocol.wait_states import IDLE, State, Wait, pack_state
from pconnect.session.deadlock_probe import answer, state_of
from tests.support.deadlocks import HURRY, hurry
from tests.support.links import LIMIT, FakeServer, client_of, connection_pair, networks

Client = tuple[Network, list[FakeServer]]


@pytest.fixture
def client() -> Iterator[Client]:
    with client_of(1) as made:
        hurry(made[0])
        yield made


class Engine:
    """An engine that answers each question with a given state, in a thread."""

    def __init__(self, far: FakeServer, *states: State) -> None:
        self._far = far
        self._states = list(states)
        self.questions: list[float] = []
        self.freed: Message | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._states:
            message = self._far.hear(Kind.PROBE)
            self.questions.append(time.monotonic())
            self._far.say(Kind.STATE, pack_state(self._states.pop(0)), message.tag)
        self.freed = self._far.hear(Kind.PROBE)
        failure: dict[str, object] = {
            "type": "DeadlockError",
            "bases": ["DeadlockError", "RuntimeError"],
            "message": "m",
        }
        failure |= {"traceback": "t", "values_sent": 0, "seconds": 1.0}
        for number in [message.tag for message in self._far.heard if message.kind is Kind.COMMAND] or [1]:
            self._far.end(number, failure)

    def join(self) -> None:
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


def waits(serial: int, *, command: int = 1, sent: int = 0, received: int = 0) -> State:
    return State(command, serial, Wait("precv", (0,)), (sent, -1), (received, -1))


def test_a_deadlock_ends_the_wait_and_the_command(client: Client) -> None:
    net, (far,) = client
    command = reval("x = precv(sockets[0])", net[1])
    engine = Engine(far, waits(5, received=1), waits(6, received=1), waits(6, received=1))
    begin = time.monotonic()
    with pytest.raises(DeadlockError) as caught:
        precv(net[1])
    engine.join()
    assert engine.questions[0] - begin > 0.9 * HURRY.delay
    assert engine.freed is not None
    serial, text, blocked = engine.freed.value
    assert (serial, text) == (6, str(caught.value))
    assert blocked == [[*line[:-1], list(line.waits_for)] for line in caught.value.waits]
    with pytest.raises(RemoteError) as remote:
        command.result(LIMIT)
    assert isinstance(remote.value, DeadlockError)
    with pytest.raises(TimeoutError):
        precv(net[1], timeout=0.05)  # the failure has been reported


def test_a_shorter_wait_asks_no_node(client: Client) -> None:
    net, (far,) = client
    with pytest.raises(TimeoutError, match=r"waiting for [^:]*$"):
        precv(net[1], timeout=0.5 * HURRY.delay)
    far.event_loop.poll(0)
    assert far.heard == []


def test_a_state_without_a_probe_ends_the_channel(client: Client) -> None:
    net, (far,) = client
    far.say(Kind.STATE, pack_state(waits(1)), 1)
    with pytest.raises(Exception, match="a STATE without a PROBE"):
        precv(net[1], timeout=LIMIT)


# --- the answers of an engine ---


def test_the_state_of_a_node_counts_messages() -> None:
    with networks(2) as (one, two):
        psend("a", two[0])
        psend("b", two[0], tag=1)
        psend("c", one[1])
        assert precv(one[1], timeout=LIMIT) == "a"
        state = state_of(one.mesh, 4)
        assert state.wait is None
        assert (state.command, state.sent, state.received) == (4, (-1, 1), (-1, 2))


def in_a_wait(net: Network, wait: Wait, question: object = None, *, has_limit: bool = False) -> object:
    """Return a node's answer while it waits."""
    event_loop, said = net.mesh.event_loop, list[object]()

    def attend() -> ParallelError:
        said.append(answer(net.mesh, question, 4, has_limit=has_limit))
        return ParallelError("that was all")

    event_loop.attention = attend
    with pytest.raises(ParallelError, match="that was all"):
        event_loop.run_until(lambda: False, float("inf"), "an answer", lambda: wait)
    return said[0]


def test_an_engine_reports_its_wait() -> None:
    with networks(2) as (one, _):
        wait = Wait("precv", (1,), tag=3)
        assert in_a_wait(one, wait) == [4, 1, ["precv", [1], None, 3], [-1, 0], [-1, 0]]
        assert in_a_wait(one, Wait(IDLE, (1,))) == [0, 3, [IDLE, [1], None, 0], [-1, 0], [-1, 0]]


def test_a_wait_that_something_else_may_end_does_not_count() -> None:
    with networks(2) as (one, _):
        wait = Wait("precv", (1,))
        assert in_a_wait(one, wait, has_limit=True) == [4, 1, None, [-1, 0], [-1, 0]]
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            assert in_a_wait(one, wait) == [4, 3, None, [-1, 0], [-1, 0]]
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_only_the_intended_wait_of_an_engine_is_ended() -> None:
    blocked = [[0, "client", None, "precv", [1]]]
    with networks(2) as (one, _):
        wait = Wait("precv", (1,))
        error = in_a_wait(one, wait, [1, "deadlock: no node can make progress", blocked])
        assert isinstance(error, DeadlockError)
        assert (str(error), error.waits) == (
            "deadlock: no node can make progress",
            ((0, "client", None, "precv", (1,)),),
        )
        assert in_a_wait(one, wait, [1, "deadlock: no node can make progress", blocked]) is None
        with pytest.raises(ProtocolError, match="a malformed PROBE"):
            answer(one.mesh, "nonsense", 4, has_limit=False)


def test_nested_waits_count_as_changes() -> None:
    with networks(2) as (one, _):
        event_loop = one.mesh.event_loop
        event_loop.longest_sleep = 0.05
        serials = []

        def look() -> None:
            if event_loop.wait is None:
                return  # in the inner wait, which has a time limit
            serials.append(event_loop.serial)
            if len(serials) == 1:
                with pytest.raises(TimeoutError):
                    event_loop.run_until(lambda: False, time.monotonic() + 0.01, "an inner wait")

        event_loop.attention = look
        event_loop.run_until(lambda: len(serials) > 2, float("inf"), "a change", lambda: Wait("precv", (1,)))
        assert serials == [1, 3, 3]
        assert (event_loop.serial, event_loop.wait) == (4, None)


# Whether a message from the client to a supervisor can change something on the node, so that an earlier answer no
# longer holds. Add each new kind here: the proof in `pconnect.session.deadlock_detector` depends on it.
CHANGES = {
    Kind.RENEW: True,
    Kind.SETUP: True,
    Kind.INTERRUPT: True,
    Kind.CANCEL: True,
    Kind.KILL: True,
    Kind.QUERY: True,  # it changes nothing either, and is rare
    Kind.CLOSE: True,
    Kind.RESTART: True,
    Kind.MEMBERS: True,
    Kind.ROUTE: True,
    Kind.RELAY: True,
    Kind.NEIGHBOURS: False,
    Kind.STATISTICS: False,
    Kind.PROBE: False,
    Kind.TAKEN: False,
}
# Messages between nodes: each is counted on both ends.
BETWEEN_NODES: dict[Kind, object] = {
    Kind.VALUE: 1,
    Kind.COLLECTIVE: [bytes(16), 0, "barrier", 1, None],
    Kind.LEFT: [0, 1, "it failed"],
}
BETWEEN_CLIENT_AND_ENGINE: dict[Kind, object] = {
    Kind.COMMAND: ["x", 1, {}],
    Kind.CALL: ["who", 1, {}],
    Kind.DONE: [0.5, 0, 0, 0],
    Kind.RECEIVED: None,
    Kind.KNOWN: ["x", False],
}


def test_every_kind_for_a_supervisor_is_known_to_change_something_or_not() -> None:
    assert CHANGES.keys() == ACCEPTS[Role.SUPERVISOR]


@pytest.mark.parametrize("kind", Kind)
def test_messages_that_change_something_are_counted(kind: Kind) -> None:
    link = Connection(1, "host1", None, awaited=True)
    link.post(kind)
    assert link.values_sent == CHANGES.get(kind, True)


def test_both_ends_of_a_link_between_nodes_count_alike() -> None:
    assert BETWEEN_NODES.keys() == ACCEPTS[Role.NODE]
    roles = Role.CLIENT_DATA, Role.ENGINE_DATA
    kinds = BETWEEN_NODES | BETWEEN_CLIENT_AND_ENGINE
    assert kinds.keys() == ACCEPTS[roles[0]] | ACCEPTS[roles[1]]
    for role in (Role.NODE, *roles):
        left, right = connection_pair(role=role)
        right.on_message = lambda _: None
        for count, kind in enumerate(ACCEPTS[role], 1):
            left.post(kind, 0, kinds[kind])
            left.flush()
            right.fill()
            assert left.values_sent == right.values_received == count
        left.close()
        right.close()
