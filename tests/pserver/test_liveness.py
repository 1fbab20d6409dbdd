"""A machine that does not answer, and one whose program only does not read."""

import contextlib
import ctypes
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from pserver.liveness import Liveness
from tests.integration.servers import wait_until

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
TIMEOUT = 0.5


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
    """Have the system throw away what arrives at a socket, before TCP sees it."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # return 0: keep nothing
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def fill(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(2**16))


@pytest.mark.parametrize("full", [False, True])
def test_a_machine_that_vanished(pair: tuple[socket.socket, socket.socket], full: bool) -> None:
    ours, theirs = pair
    if full:
        fill(ours)
    liveness = Liveness(ours.fileno(), TIMEOUT)
    vanish(theirs)
    begin = time.monotonic()
    with contextlib.suppress(BlockingIOError):
        ours.send(b"anybody there?")
    wait_until(lambda: liveness.is_gone, "the end of patience")
    assert time.monotonic() - begin > TIMEOUT
    liveness.close()


def test_a_program_that_does_not_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    fill(ours)
    liveness = Liveness(ours.fileno(), TIMEOUT)
    until = time.monotonic() + 6 * TIMEOUT
    while time.monotonic() < until:
        assert not liveness.is_gone
        time.sleep(liveness.next_look)
    liveness.close()
    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
