import re
import socket
import time
from collections.abc import Iterator

import pytest

from pconnect.errors import ConnectionLostError
from pconnect.link import dialing
from pconnect.link.dialing import bound_buffers, connect_first, dial, expect_hello, prepare
from pconnect.protocol.frames import HELLO, PREAMBLE_BYTES, Preamble, Purpose
from pconnect.protocol.preamble_check import PreambleCheck
from srp_tools.channel import Channel
from srp_tools.steps import Steps, Wait, deadline_after, pause, receive_exactly, run, run_all, send_all
from tests.support.links import LIMIT, channels

PREAMBLE = Preamble(Purpose.DATA, bytes(16), 0, 1, key=bytes(32))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def answer(listener: socket.socket, word: bytes) -> Steps[bytes]:
    """Act as a server that accepts one data connection. Return the preamble."""
    yield Wait(listener.fileno())
    sock, _ = listener.accept()
    with sock:
        sock.setblocking(False)
        data = yield from receive_exactly(sock, PREAMBLE_BYTES)
        yield from send_all(sock, word)
    return data


def dialled(listener: socket.socket, word: bytes, *before: tuple[str, int]) -> dict[str, object]:
    addresses = [*before, ("127.0.0.1", listener.getsockname()[1])]
    steps: dict[str, Steps[object]] = {
        "client": dial(addresses, PREAMBLE, None, 30.0),
        "server": answer(listener, word),
    }
    return run_all(steps, deadline_after(LIMIT))


def test_the_preamble_goes_first_and_the_hello_is_awaited(listener: socket.socket) -> None:
    outcomes = dialled(listener, HELLO)
    said = outcomes["server"]
    assert isinstance(said, bytes)
    assert Preamble.unpack(said) == PREAMBLE
    assert PreambleCheck(PREAMBLE.key).is_of_member(said)
    channel = outcomes["client"]
    assert isinstance(channel, Channel)
    channel.close()


def test_the_next_address_is_tried(listener: socket.socket) -> None:
    channel = dialled(listener, HELLO, ("127.0.0.1", closed_port()))["client"]
    assert isinstance(channel, Channel)
    channel.close()


def test_a_node_whose_daemon_is_started_again_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "_RETURN_SECONDS", 1.0)
    port = closed_port()
    unsaid = dial([("127.0.0.1", port)], PREAMBLE, None, 30.0)
    with pytest.raises(ConnectionLostError, match="refused"):
        run(unsaid, deadline_after(LIMIT))  # immediately

    def serve() -> Steps[bytes]:
        yield from pause(1.2)  # the server was away for longer than its sessions need to find it
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.setblocking(False)
            yield from answer(listener, b"")  # the server does not know its sessions yet
            return (yield from answer(listener, HELLO))

    steps: dict[str, Steps[object]] = {
        "client": dial([("127.0.0.1", port)], PREAMBLE, None, 30.0, patience=LIMIT),
        "server": serve(),
    }
    channel = run_all(steps, deadline_after(LIMIT))["client"]
    assert isinstance(channel, Channel)
    channel.close()


def test_patience_ends_with_the_reason() -> None:
    begin = time.monotonic()
    with pytest.raises(ConnectionLostError, match="refused"):
        run(dial([("127.0.0.1", closed_port())], PREAMBLE, None, 30.0, patience=0.3), deadline_after(LIMIT))
    assert time.monotonic() - begin >= 0.3


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (b"", "the peer closed the connection"),
        (b"x" * len(HELLO), "does not speak the pserver protocol"),
        (
            b"PM\x01" + HELLO[3:],
            "the server speaks version 1 of the protocol, this side version 8: the server is older",
        ),
        (
            b"PSRV\x09" + bytes(29),
            "the server speaks version 9 of the protocol, this side version 8: this side is older",
        ),
    ],
)
def test_each_address_has_its_reason(listener: socket.socket, word: bytes, reason: str) -> None:
    refused = closed_port()
    error = dialled(listener, word, ("127.0.0.1", refused))["client"]
    assert isinstance(error, ConnectionLostError)
    assert f"127.0.0.1 port {refused}: Connection refused; 127.0.0.1 port " in str(error)
    assert "node 1" in str(error)
    assert re.search(reason, str(error))


def test_no_address_at_all() -> None:
    with pytest.raises(OSError, match="no address"):
        run(connect_first([], 30.0), deadline_after(LIMIT))


def test_options_of_a_link(listener: socket.socket) -> None:
    sock = run(connect_first([("127.0.0.1", listener.getsockname()[1])], 12.0), deadline_after(LIMIT))
    with sock:
        assert not sock.getblocking()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 2
        bound_buffers(sock)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            assert sock.getsockopt(socket.SOL_SOCKET, option) <= 2**19  # the system doubles the value
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def test_a_socket_of_this_machine_has_no_such_options() -> None:
    left, right = socket.socketpair()
    with left, right:
        prepare(left, 30.0)
        assert not left.getblocking()


def test_a_channel_without_hello_is_closed() -> None:
    left, right = channels()
    right.close()
    with pytest.raises(ConnectionLostError):
        run(expect_hello(left), deadline_after(LIMIT))
    assert left.fileno() == -1
