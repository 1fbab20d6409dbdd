"""Garbage, port scans and silence on both ports cost the server only a socket and a line in its log."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import Network, precv, reval
from pconnect.protocol.frames import Preamble, Purpose
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE

SILENCE = 4.0  # seconds; shorter than DEADLINE, longer than honest clients need on a busy machine


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server that waits only briefly for the first message."""
    folder = tmp_path_factory.mktemp("impatient")
    with run_server(folder, f"--silence-timeout={SILENCE}", users=users) as running:
        yield running


@pytest.fixture
def working(impatient: Server) -> Iterator[Network]:
    """Yield a network that exchanges values during the test, and check it afterwards."""
    with impatient.connect(2) as net:
        reval(
            "for i in range(300): psend(i, sockets[3 - sockets.node]); precv(sockets[3 - sockets.node])", net
        )
        yield net
        reval("psend('done', sockets[0])", net)
        assert [precv(c, timeout=DEADLINE) for c in net[1:]] == ["done", "done"]
        with impatient.connect() as other:  # and new clients can connect
            reval("psend('new', sockets[0])", other)
            assert precv(other[1], timeout=DEADLINE) == "new"


def ports(server: Server) -> list[int]:
    return [server.cmd_port, server.data_port]


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE)


def assert_closed(sock: socket.socket) -> None:
    """Wait until the server has closed the connection; it may send something first."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(2**16):
            pass


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 5000,
        b"\xff\xfe" * 500,
        b"\x16\x03\x01\x00\x05hello" + b"x" * 300,  # looks like TLS for a moment
        b"\x16\xff" * 100,
        b"PSRV" + b"\xff" * 100,  # our own protocol, with a version that does not exist
    ],
)
def test_garbage_at_both_ports(impatient: Server, working: Network, garbage: bytes) -> None:
    assert len(working) == 3
    for port in ports(impatient):
        with dial(port) as sock:
            with contextlib.suppress(OSError):  # the server may have closed the connection already
                sock.sendall(garbage)
                sock.shutdown(socket.SHUT_WR)
            assert_closed(sock)


def test_port_scan(impatient: Server, working: Network) -> None:
    assert len(working) == 3
    before = impatient.log.count("closed: the peer sent nothing")
    for number in range(100):
        for port in ports(impatient):
            with dial(port) as sock:
                if number % 2:  # reset instead of an orderly end
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The log does not have a line for each connection.
    impatient.wait_for_log("closed: the peer sent nothing", before + 1)


@pytest.mark.slow
def test_silence_is_closed_after_its_time(impatient: Server, working: Network) -> None:
    assert len(working) == 3
    before = impatient.log.count("silent for")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(dial(port)) for port in ports(impatient) * 20]
        for sock in silent:
            assert_closed(sock)
    impatient.wait_for_log("silent for", before + 1)


def test_silence_does_not_keep_others_from_logging_in(impatient: Server) -> None:
    with contextlib.ExitStack() as stack:
        for port in ports(impatient) * 50:
            stack.enter_context(dial(port))
        with impatient.connect() as net:
            reval("psend(1, sockets[0])", net)
            assert precv(net[1], timeout=DEADLINE) == 1


def test_data_connection_for_an_unknown_network(impatient: Server, working: Network) -> None:
    assert len(working) == 3
    with dial(impatient.data_port) as sock:
        sock.sendall(Preamble(Purpose.DATA, b"x" * 16, 0, 1).pack())
        assert_closed(sock)
    impatient.wait_for_log("no such network and node on this server")


def test_data_connection_to_a_node_by_a_stranger(impatient: Server, working: Network) -> None:
    """An eavesdropper who has seen the network's number on the wire does not have its key."""
    with dial(impatient.data_port) as sock:
        sock.sendall(Preamble(Purpose.DATA, bytes.fromhex(working.network_id), 0, 1).pack())
        sock.sendall(b"\x16\x03\x01\x00\x05hello")
        assert_closed(sock)
    impatient.wait_for_log("it does not have the key of the network")
