import contextlib
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import HELLO, PREAMBLE_BYTES, Preamble, Purpose
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.routes import relays as module
from pserver.routes.relays import Relays
from srp_tools.steps import deadline_after

LIMIT = 20.0
KEY = bytes(32)


class Node:
    """The relays of a node, in a loop."""

    def __init__(self) -> None:
        self.event_loop = EventLoop()
        self.relays = Relays(self.event_loop, (bytes(16), KEY))
        self.answers: list[str | None] = []
        self.sent: list[tuple[Kind, int, object]] = []

    def prepare(self, pair: tuple[int, int] = (1, 2), seconds: float = LIMIT, **dialled: Any) -> None:
        places = {int(node[1:]): [place] for node, place in dialled.items()}
        self.relays.prepare(pair, places, seconds, self.answers.append)

    def come(self, node: int, other: int) -> socket.socket:
        """Act as a node that dials the relay."""
        near, far = socket.socketpair()
        near.settimeout(LIMIT)
        far.setblocking(False)
        self.relays.take(Preamble(Purpose.RELAY, bytes(16), node, 9, other, KEY), far)
        return near

    def until_answered(self) -> None:
        self.event_loop.run_until(lambda: bool(self.answers), deadline_after(LIMIT), "the answer")

    def close(self) -> None:
        self.relays.close()
        self.event_loop.close()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(module, "prepare", lambda *_: None)  # these are not TCP sockets
    with contextlib.closing(Node()) as made:
        yield made


def test_two_that_dial_are_connected(node: Node) -> None:
    node.prepare()
    assert node.answers == [None]
    with node.come(1, 2) as one, node.come(2, 1) as other:
        assert one.recv(len(HELLO)) == other.recv(len(HELLO)) == HELLO
        one.send(b"forth")
        other.send(b"back")
        assert (one.recv(9), other.recv(9)) == (b"back", b"forth")


def test_one_is_dialled(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        node.prepare(n2=listener.getsockname())
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(LIMIT)
            assert not node.answers
            node.event_loop.poll(0.2)
            said = Preamble.unpack(sock.recv(PREAMBLE_BYTES, socket.MSG_WAITALL))
            assert (said.purpose, said.from_node, said.to_node) == (Purpose.RELAYED, 1, 2)
            with node.come(2, 1) as early:  # it is dialled, so it must not dial itself
                assert early.recv(1) == b""
            sock.send(HELLO)
            node.until_answered()
            with node.come(1, 2) as one:
                assert one.recv(len(HELLO)) == HELLO
                one.send(b"forth")
                assert sock.recv(9) == b"forth"
    assert node.answers == [None]


def test_why_one_cannot_be_dialled_is_the_answer(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()
    node.prepare(n2=closed)
    node.until_answered()
    [why] = node.answers
    assert why is not None and why.startswith("no connection to node 2 (")
    with node.come(1, 2) as late:
        assert late.recv(1) == b""


def test_only_two_of_whom_the_client_has_spoken_get_in(node: Node) -> None:
    node.prepare()
    with node.come(1, 3) as stranger, node.come(1, 2) as one, node.come(1, 2) as again:
        assert stranger.recv(1) == again.recv(1) == b""
        assert one.recv(len(HELLO)) == HELLO


def test_who_waits_too_long_is_let_go(node: Node) -> None:
    node.prepare(seconds=0.05)
    with node.come(1, 2) as one:
        assert one.recv(len(HELLO)) == HELLO
        node.event_loop.poll(1.0)
        assert one.recv(1) == b""


def test_there_is_an_end_of_pairs_that_are_relayed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAIRS", 1)
    node.prepare((1, 2))
    with node.come(1, 2) as one, node.come(2, 1) as other:
        assert one.recv(len(HELLO)) == other.recv(len(HELLO)) == HELLO
        one.send(b"forth")
        assert other.recv(9) == b"forth"
        node.prepare((1, 3))
        assert node.answers == [None, "it already relays 1 pairs of nodes, the maximum"]
        monkeypatch.setattr(module, "MOST_PAIRS", 3)
        for number in (3, 3, 4, 5):  # pairs that are being connected count as well, each once
            node.prepare((1, number))
        assert node.answers[2:] == [None, None, None, "it already relays 3 pairs of nodes, the maximum"]


def test_where_no_thread_can_begin_the_two_are_let_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(module, "Splicer", no_room)
    node.prepare((1, 2))
    with node.come(1, 2) as one, node.come(2, 1) as other:
        assert one.recv(len(HELLO)) == other.recv(len(HELLO)) == HELLO
        assert one.recv(9) == other.recv(9) == b""
    node.prepare((1, 3))
    assert node.answers == [None, None]


def test_the_client_asks_on_its_command_channel(node: Node) -> None:
    others: list[Message] = []
    command: Any = SimpleNamespace(
        on_message=others.append, post=lambda *said: node.sent.append(said), node=0
    )
    node.event_loop.flush = lambda _: None  # type: ignore[method-assign,assignment]
    node.relays.attend(command)
    command.on_message(Message(Kind.RELAY, 7, [[1, 2], {}, 5.0], 0))
    command.on_message(Message(Kind.QUERY, 8, None, 0))
    assert node.sent == [(Kind.RELAY, 7, None)] and [each.kind for each in others] == [Kind.QUERY]
    for wrong in (None, [[2, 1], {}, 5.0], [[1, 2], {3: []}, 5.0], [[1, 2], {1: [["a", 0]]}, 5.0]):
        with pytest.raises(ProtocolError):
            command.on_message(Message(Kind.RELAY, 9, wrong, 0))
