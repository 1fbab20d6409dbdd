"""The acceptor classifies each connection, and waits for none of them for long."""

import contextlib
import dataclasses
import itertools
import logging
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect.link.local_link import connect
from pconnect.protocol.frames import PREAMBLE_BYTES, VERSION, Preamble, Purpose
from pserver.config.server_config import ServerConfig
from pserver.daemon.door.acceptor import Acceptor
from pserver.daemon.door.arrivals import PendingConnection
from pserver.daemon.door.client_hello import Alert
from srp_tools.errors import ConfigurationError
from tests.support.hellos import hello_of, message_of, name_extension, records_of

DATA = Preamble(Purpose.DATA, bytes(range(16)), 1, 2)


class Loop:
    """The daemon's loop around an acceptor, with the resulting clients and data connections."""

    def __init__(self, config: ServerConfig, bind: str = "127.0.0.1") -> None:
        config = dataclasses.replace(config, bind=[bind] if bind else [])
        self.clients: list[PendingConnection] = []
        self.data: list[tuple[PendingConnection, Preamble]] = []
        self.selector = selectors.DefaultSelector()
        self.acceptor = Acceptor(
            config, self.selector, self.clients.append, lambda *taken: self.data.append(taken)
        )

    def close(self) -> None:
        for pending in [*self.clients, *(pending for pending, _ in self.data)]:
            pending.sock.close()
        self.acceptor.close()
        self.selector.close()

    def turn(self) -> None:
        left = self.acceptor.time_to_next_deadline()
        for key, _ in self.selector.select(5.0 if left is None else left):
            key.data()
        self.acceptor.expire()

    def until_closed(self, sock: socket.socket) -> bytes:
        """Run until the acceptor closes a connection; return its answer."""
        sock.setblocking(False)
        said = b""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            self.turn()
            try:
                while chunk := sock.recv(100):
                    said += chunk
            except BlockingIOError:
                continue
            except ConnectionResetError:
                pass
            return said
        raise AssertionError("not closed")


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    use_tls = getattr(request, "param", True)
    made = Loop(ServerConfig(cmd_port=0, data_port=0, use_tls=use_tls, silence_timeout=0.3))
    yield made
    made.close()


def dial(port: int, data: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 5)
    sock.sendall(data)
    return sock


def test_a_whole_hello_with_a_user_is_a_client(loop: Loop) -> None:
    hello = hello_of("alice")
    with dial(loop.acceptor.cmd_port, hello) as sock:
        sock.sendall(b"what follows")
        while not loop.clients:
            loop.turn()
        pending = loop.clients[0]
        assert pending.peer == f"127.0.0.1 port {sock.getsockname()[1]}"
        assert (pending.user, bytes(pending.received)) == ("alice", hello)
        assert pending.sock.recv(100) == b"what follows"
        assert loop.acceptor.time_to_next_deadline() is None


def test_a_hello_in_pieces_is_a_client_and_nothing_spins_meanwhile(loop: Loop) -> None:
    hello = hello_of("alice")
    with dial(loop.acceptor.cmd_port) as sock:
        loop.turn()
        for piece in (hello[:1], hello[1:3], hello[3:60], hello[60:-1]):
            sock.sendall(piece)
            loop.turn()
            assert not loop.selector.select(0.02)  # until more bytes arrive
        assert loop.clients == []
        sock.sendall(hello[-1:])
        while not loop.clients:
            loop.turn()
        assert loop.clients[0].received == hello


def test_who_says_it_slowly_has_no_more_time(loop: Loop) -> None:
    with dial(loop.acceptor.cmd_port) as sock:
        loop.turn()
        for byte in hello_of("alice"):
            sock.sendall(bytes([byte]))
            time.sleep(0.02)
            for key, _ in loop.selector.select(0):
                key.data()
            loop.acceptor.expire()
            if loop.acceptor.time_to_next_deadline() is None:
                break
        assert loop.until_closed(sock) == b""
    assert loop.clients == []


@pytest.mark.parametrize(
    ("hello", "alert"),
    [
        (hello_of(None), Alert.UNKNOWN_PSK_IDENTITY),
        (b"\x16\x03\x01\x00\x05hello" + bytes(100), Alert.DECODE_ERROR),
        (records_of(message_of(name_extension("alice") * 2)), Alert.DECODE_ERROR),
    ],
    ids=["no user", "no ClientHello", "two users"],
)
def test_another_handshake_is_answered_with_an_alert(loop: Loop, hello: bytes, alert: Alert) -> None:
    with dial(loop.acceptor.cmd_port, hello) as sock:
        assert loop.until_closed(sock) == alert.record()
    assert loop.clients == []


def test_a_preamble_in_pieces_is_a_data_connection(loop: Loop) -> None:
    packed = DATA.pack()
    with dial(loop.acceptor.data_port, packed[:10]) as sock:
        loop.turn()
        loop.turn()
        sock.sendall(packed[10:] + b"what follows")
        while not loop.data:
            loop.turn()
        pending, preamble = loop.data[0]
        assert preamble == DATA
        assert pending.received == packed
        assert pending.sock.recv(100) == b"what follows"


@pytest.mark.parametrize("loop", [False], indirect=True)
def test_a_preamble_is_a_client_where_there_is_no_tls(loop: Loop) -> None:
    with dial(loop.acceptor.cmd_port, Preamble(Purpose.COMMAND).pack()):
        while not loop.clients:
            loop.turn()
        assert len(loop.clients[0].received) == PREAMBLE_BYTES


@pytest.mark.parametrize("loop", [False, True], indirect=True)
@pytest.mark.parametrize("purpose", [Purpose.DATA, Purpose.JOIN])
def test_data_may_come_through_the_command_port(loop: Loop, purpose: Purpose) -> None:
    preamble = Preamble(purpose, bytes(range(16)), 1, 2)
    for pieces in ([PREAMBLE_BYTES], [1, 4, PREAMBLE_BYTES]):
        with dial(loop.acceptor.cmd_port) as sock:
            for begin, end in itertools.pairwise([0, *pieces]):
                sock.sendall(preamble.pack()[begin:end])
                loop.turn()
            sock.sendall(b"more")
            while not loop.data:
                loop.turn()
            pending, found = loop.data.pop()
            assert found == preamble and pending.received == preamble.pack()
            assert pending.sock.recv(100) == b"more"
            pending.sock.close()
    assert not loop.clients


def test_one_port_is_enough() -> None:
    loop = Loop(ServerConfig(cmd_port=0, data_port=0, one_port=True, silence_timeout=5.0))
    with contextlib.closing(loop):
        port = loop.acceptor.cmd_port
        assert loop.acceptor.data_port == port
        with dial(port, Preamble(Purpose.DATA, bytes(16), 1, 2).pack()), dial(port, hello_of("alice")):
            while not (loop.data and loop.clients):
                loop.turn()


@pytest.mark.parametrize("loop", [False, True], indirect=True)
def test_a_client_at_the_data_port_is_told_the_command_port(loop: Loop) -> None:
    with dial(loop.acceptor.data_port, Preamble(Purpose.COMMAND).pack() + b"\r\n\r\n") as sock:
        answer = Preamble.unpack(loop.until_closed(sock))
    assert (answer.purpose, answer.endpoint) == (Purpose.WRONG_PORT, loop.acceptor.cmd_port)
    assert loop.data == []


def test_a_client_without_tls_is_told(loop: Loop) -> None:
    with dial(loop.acceptor.cmd_port, Preamble(Purpose.COMMAND).pack()) as sock:
        assert Preamble.unpack(loop.until_closed(sock)).purpose is Purpose.NEEDS_TLS


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"PSRV" + bytes([VERSION]) + b"\x63" + b"\0" * 40]
)
def test_garbage_is_closed(loop: Loop, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pserver")
    with dial(loop.acceptor.data_port, garbage) as sock:
        assert loop.until_closed(sock) == b""
    assert loop.data == []
    assert len(caplog.records) == 1


@pytest.mark.parametrize("loop", [False], indirect=True)
@pytest.mark.parametrize("is_data", [False, True])
@pytest.mark.parametrize(("version", "older"), [(VERSION - 1, "the client"), (VERSION + 1, "this side")])
def test_another_version_is_answered(
    loop: Loop, is_data: bool, version: int, older: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pserver")
    words = b"PSRV" + bytes([version]) + b"what only that version knows" * 10
    with dial(loop.acceptor.data_port if is_data else loop.acceptor.cmd_port, words) as sock:
        said = loop.until_closed(sock)
        assert Preamble.unpack(said).purpose is Purpose.OTHER_VERSION
    while loop.acceptor.time_to_next_deadline() is not None:
        loop.turn()
    assert (loop.clients, loop.data) == ([], [])
    [record] = caplog.records
    told = (
        f"the client speaks version {version} of the protocol, this side version {VERSION}: {older} is older"
    )
    assert told in record.getMessage()


@pytest.mark.parametrize("words", [b"", DATA.pack()[:20]])
def test_silence_is_borne_for_a_while(loop: Loop, words: bytes) -> None:
    begin = time.monotonic()
    with dial(loop.acceptor.data_port, words) as sock:
        assert loop.until_closed(sock) == b""
    assert time.monotonic() - begin >= 0.25


def test_a_port_scan_is_nothing(loop: Loop) -> None:
    for port in (loop.acceptor.cmd_port, loop.acceptor.data_port):
        dial(port).close()
    while loop.acceptor.time_to_next_deadline() is None:
        loop.turn()
    while loop.acceptor.time_to_next_deadline() is not None:
        loop.turn()
    assert (loop.clients, loop.data) == ([], [])


@pytest.mark.parametrize(("allowed", "is_let_in"), [("127.0.0.0/8", True), ("10.0.0.0/8,::1", False)])
def test_addresses_can_be_listed(allowed: str, is_let_in: bool) -> None:
    loop = Loop(ServerConfig(cmd_port=0, data_port=0, allow_from=allowed))
    try:
        with dial(loop.acceptor.data_port, DATA.pack()) as sock:
            if is_let_in:
                while not loop.data:
                    loop.turn()
            else:
                assert loop.until_closed(sock) == b""
                assert loop.data == []
    finally:
        loop.close()


def test_too_many_silent_ones_make_room(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pserver.daemon.door.acceptor._MAX_ARRIVALS", 3)
    socks = [dial(loop.acceptor.cmd_port) for _ in range(5)]
    assert loop.until_closed(socks[0]) == b""
    for sock in socks:
        sock.close()


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=rf"--data-port: .* port {port} \(127.0.0.1\): Address already in use"
        ):
            Loop(ServerConfig(cmd_port=0, data_port=port))


def test_all_addresses_take_both_protocols() -> None:
    loop = Loop(ServerConfig(cmd_port=0, data_port=0), bind="")
    try:
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, loop.acceptor.cmd_port), 5) as sock:
                sock.sendall(hello_of("alice"))
                before = len(loop.clients)
                while len(loop.clients) == before:
                    loop.turn()
    finally:
        loop.close()


def test_without_tcp_it_listens_at_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(tmp_path))
    config = ServerConfig(name="quiet", use_tcp=False, allow_root=True)
    loop = Loop(config)
    try:
        assert (loop.acceptor.cmd_port, loop.acceptor.data_port) == (0, 0)
        path = loop.acceptor.socket
        assert path == tmp_path / "pserver" / "quiet.logins"
        assert loop.acceptor.where == f"the socket {path}"
        with connect(path) as sock:
            sock.send(hello_of("alice"))
            while not loop.clients:
                loop.turn()
        assert (loop.clients[0].user, loop.clients[0].peer) == ("alice", "this machine")
        with pytest.raises(ConfigurationError, match="--no-tcp: cannot listen on the socket"):
            loop.acceptor.listen_locally(tmp_path / "missing" / "quiet.socket")
    finally:
        loop.close()
    assert not path.exists()
    (tmp_path / "pserver" / "quiet.logins").mkdir()
    with pytest.raises(ConfigurationError, match=r"--no-tcp: cannot listen on the socket .*quiet.logins"):
        Loop(config)


def test_without_tcp_there_is_one_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ConfigurationError, match="--no-tcp works for one account only"):
        Loop(ServerConfig(use_tcp=False))
