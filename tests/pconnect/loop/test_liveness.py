"""A machine that does not answer, and a machine whose program is not reading."""

import contextlib
import ctypes
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from pconnect.link.connection import Connection
from pconnect.link.dialing import prepare
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.liveness import Liveness
from pconnect.protocol.kinds import Kind
from srp_tools.channel import Channel

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
PEER_TIMEOUT = 1.0
LIMIT = 60.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as theirs,
        server.accept()[0] as ours,
    ):
        ours.setblocking(False)
        yield ours, theirs


def vanish(sock: socket.socket) -> None:
    """Make the system drop packets for a socket before TCP sees them."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # return 0: accept no bytes
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def fill(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(2**16))


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_a_machine_that_vanished_is_found_by_the_loop(
    pair: tuple[socket.socket, socket.socket], full: bool
) -> None:
    ours, theirs = pair
    if full:
        fill(ours)
    prepare(ours, PEER_TIMEOUT)
    connection = Connection(1, "hostB", Channel(ours))
    event_loop = EventLoop()
    event_loop.add(connection)
    vanish(theirs)
    begin = time.monotonic()
    connection.post(Kind.VALUE, 0, "anybody there?")
    event_loop.flush(connection)
    event_loop.run_until(lambda: connection.error is not None, begin + LIMIT, "the end of grace")
    assert (
        str(connection.error)
        == f"no answer from the peer's machine for {connection_patience(PEER_TIMEOUT):.0f} s"
    )
    assert time.monotonic() - begin > connection_patience(PEER_TIMEOUT)
    event_loop.close()


@pytest.mark.slow
def test_a_program_that_does_not_read_is_not_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    prepare(ours, PEER_TIMEOUT)
    fill(ours)
    connection = Connection(1, "hostB", Channel(ours))
    event_loop = EventLoop()
    event_loop.add(connection)
    connection.post(Kind.VALUE, 0, "waits")
    event_loop.flush(connection)
    with pytest.raises(TimeoutError):
        event_loop.run_until(
            lambda: connection.error is not None, time.monotonic() + 3 * connection_patience(PEER_TIMEOUT), ""
        )
    assert connection.wants_to_write
    event_loop.close()


def connection_patience(peer_timeout: float) -> float:
    """Return the remaining time in whole seconds of keep-alive, at least six."""
    return 6.0 * max(1, round(peer_timeout / 6))


class FakeLink:
    peer_timeout = 1e-9

    def __init__(self, in_vain: int) -> None:
        self.unanswered_retransmits = in_vain


def test_only_what_goes_unanswered_twice_counts() -> None:
    links = [FakeLink(0), FakeLink(1), FakeLink(2)]
    liveness = Liveness()
    assert liveness.gone(links) == []  # the silence begins now
    assert liveness.gone(links) == []  # not time for a check yet
    assert 0 < liveness.next_look - time.monotonic() <= 1
    liveness.next_look = 0
    assert liveness.gone(links) == links[2:]
    links[2].unanswered_retransmits = 0
    liveness.next_look = 0
    assert liveness.gone(links) == []


def test_a_link_without_tcp_never_counts_as_gone() -> None:
    left, right = socket.socketpair()
    with left, right:
        channel = Channel(left)
        assert channel.unanswered_retransmits == 0
        assert channel.peer_timeout == float("inf")
