import contextlib
import errno
import math
import selectors
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from pconnect.protocol.frames import HELLO, PREAMBLE_BYTES, Preamble, Purpose
from pconnect.routes import client_relay
from pconnect.routes.client_relay import dial_leg, relay_here, splice
from srp_tools.channel import Channel
from srp_tools.steps import Steps, TaskRunner, deadline_after
from tests.support.links import LIMIT

NETWORK = bytes(range(16)), bytes(32)


class Loop:
    """An event loop for steps."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.runner = TaskRunner(self._selector)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < end
            for entry, _ in self._selector.select(0.01):
                entry.data()
            self.runner.expire()

    def close(self) -> None:
        self.runner.close()
        self._selector.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    with contextlib.closing(Loop()) as made:
        yield made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def accepted(loop: Loop, listener: socket.socket) -> tuple[socket.socket, Preamble]:
    """Accept a leg of a relay, like an engine."""
    found: list[socket.socket] = []

    def has_come() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.append(listener.accept()[0])
        return bool(found)

    loop.until(has_come)
    [sock] = found
    said = bytearray()
    sock.setblocking(False)

    def has_spoken() -> bool:
        with contextlib.suppress(BlockingIOError):
            said.extend(sock.recv(PREAMBLE_BYTES - len(said)))
        return len(said) == PREAMBLE_BYTES

    loop.until(has_spoken)
    sock.send(HELLO)
    return sock, Preamble.unpack(bytes(said))


def leg(listener: socket.socket, node: int, other: int) -> Steps[Channel]:
    return dial_leg([listener.getsockname()], NETWORK, (node, other), 30.0)


def heard(loop: Loop, sock: socket.socket) -> bytes:
    said: list[bytes] = []

    def has_come() -> bool:
        with contextlib.suppress(BlockingIOError):
            said.append(sock.recv(100))
        return bool(said)

    loop.until(has_come)
    return said[0]


def test_two_nodes_are_connected(loop: Loop, listener: socket.socket) -> None:
    failures: list[str] = []
    legs = {node: leg(listener, node, other) for node, other in ((1, 2), (2, 1))}
    relay_here(loop.runner, legs, deadline_after(LIMIT), failures.append)
    (one, first), (other, second) = accepted(loop, listener), accepted(loop, listener)
    with one, other:
        assert {(each.from_node, each.to_node) for each in (first, second)} == {(1, 2), (2, 1)}
        assert first.purpose is second.purpose is Purpose.RELAYED
        loop.until(lambda: len(loop.runner) == 2)
        one.send(b"forth")
        assert heard(loop, other) == b"forth"
        other.send(b"back")
        assert heard(loop, one) == b"back"
        one.shutdown(socket.SHUT_WR)
        assert heard(loop, other) == b""
        other.close()
        loop.until(lambda: len(loop.runner) == 0)
    assert failures == []


def test_the_reason_for_no_relay_is_reported_once(loop: Loop, listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = gone.getsockname()
    failures: list[str] = []
    legs = {
        1: leg(listener, 1, 2),
        2: dial_leg([closed], NETWORK, (2, 1), 30.0),
    }
    relay_here(loop.runner, legs, deadline_after(LIMIT), failures.append)
    loop.until(lambda: bool(failures))
    loop.until(lambda: len(loop.runner) == 0)
    [why] = failures
    assert why.startswith("no connection to node 2 (")


def test_where_there_is_no_room_for_a_pair_the_reason_is_said(
    loop: Loop, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def splice(_: object, *pair: socket.socket) -> None:
        for sock in pair:
            sock.close()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(client_relay, "splice", splice)
    failures: list[str] = []
    legs = {node: leg(listener, node, other) for node, other in ((1, 2), (2, 1))}
    relay_here(loop.runner, legs, deadline_after(LIMIT), failures.append)
    (one, _), (other, _) = accepted(loop, listener), accepted(loop, listener)
    with one, other:
        loop.until(lambda: bool(failures))
    assert failures == ["Too many open files"]


def test_a_loop_that_ends_closes_what_it_relays(loop: Loop) -> None:
    near, first = socket.socketpair()
    second, far = socket.socketpair()
    with near, far:
        for sock in (first, second):
            sock.setblocking(False)
        splice(loop.runner, first, second)
        assert loop.runner.time_left() == math.inf
        loop.runner.close()
        assert near.recv(1) == far.recv(1) == b""
