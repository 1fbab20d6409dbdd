"""One suite for encrypted and plain channels, and who is let in."""

import os
import secrets
import selectors
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from srp_tools import channel as channel_module
from srp_tools.certificates import NetworkAuthority, NodeKey
from srp_tools.channel import Channel, start_tls, tls_context
from srp_tools.errors import AuthenticationError, ConnectionLostError
from srp_tools.steps import Steps, Wait, deadline_after, run, run_all

Pair = tuple[Channel, Channel]
LIMIT = 20.0  # seconds; only a broken test comes near it
NETWORK_ID = bytes(range(16))
AUTHORITY = NetworkAuthority(NETWORK_ID)
BIG = secrets.token_bytes(3 * 2**20 + 1)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def handshake(
    sock: socket.socket,
    node: int,
    expected: int,
    *,
    server_side: bool,
    authority: NetworkAuthority = AUTHORITY,
) -> Steps[Channel]:
    key = NodeKey()
    certificate = authority.sign(key.public_bytes(), node)
    identity = key.identity(authority.network_id, node, certificate, authority.certificate)
    context = tls_context(identity, server_side=server_side)
    return start_tls(sock, context, NETWORK_ID, expected, server_side=server_side)


def plain_pair() -> Pair:
    left, right = socket_pair()
    return Channel(left), Channel(right)


def tls_pair() -> Pair:
    left, right = socket_pair()
    steps = {
        "left": handshake(left, 1, 2, server_side=False),
        "right": handshake(right, 2, 1, server_side=True),
    }
    ends = run_all(steps, deadline_after(LIMIT))
    assert isinstance(ends["left"], Channel) and isinstance(ends["right"], Channel), ends
    return ends["left"], ends["right"]


@pytest.fixture(params=[plain_pair, tls_pair], ids=["plain", "TLS"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    make: Callable[[], Pair] = request.param
    left, right = make()
    yield left, right
    left.close()
    right.close()


@pytest.fixture
def tls() -> Iterator[Pair]:
    left, right = tls_pair()
    yield left, right
    left.close()
    right.close()


def receive_some(channel: Channel, buffer: memoryview) -> Steps[int]:
    while (count := channel.receive_into(buffer)) is None:
        yield Wait(channel.fileno())
    return count


def exchange(channel: Channel, data: bytes, count: int) -> Steps[bytes]:
    """Send and receive at the same time."""
    outgoing, received, buffer = memoryview(data), bytearray(), memoryview(bytearray(100_000))
    while outgoing or len(received) < count:
        sent = channel.send(outgoing) if outgoing else 0
        outgoing = outgoing[sent:]
        arrived = channel.receive_into(buffer)
        assert arrived != 0, "the end of the stream"
        received += buffer[: arrived or 0]
        if not sent and not arrived:
            yield Wait(channel.fileno(), selectors.EVENT_READ | (selectors.EVENT_WRITE if outgoing else 0))
    return bytes(received)


# Both kinds of channel


def test_big_transfers_both_ways_at_once(pair: Pair) -> None:
    left, right = pair
    back = BIG[::-1]
    steps = {"left": exchange(left, BIG, len(back)), "right": exchange(right, back, len(BIG))}
    assert run_all(steps, deadline_after(LIMIT)) == {"left": back, "right": BIG}


def test_send_all_and_receive_exactly(pair: Pair) -> None:
    left, right = pair
    steps: dict[str, Steps[bytes | None]] = {
        "send": left.send_all(memoryview(BIG)),
        "receive": right.receive_exactly(len(BIG)),
    }
    assert run_all(steps, deadline_after(LIMIT)) == {"send": None, "receive": BIG}


def test_nothing_has_arrived_yet(pair: Pair) -> None:
    left, right = pair
    assert left.receive_into(memoryview(bytearray(10))) is None
    assert right.receive_into(memoryview(bytearray(10))) is None


def test_a_full_system_takes_nothing(pair: Pair) -> None:
    left, right = pair
    total = 0
    while sent := left.send(BIG[total : total + 2**16]):
        total += sent
    assert 0 < total < len(BIG)
    # What could not be sent is sent later, with the same bytes.
    steps: dict[str, Steps[bytes | None]] = {
        "send": left.send_all(BIG[total:]),
        "receive": right.receive_exactly(len(BIG)),
    }
    assert run_all(steps, deadline_after(LIMIT))["receive"] == BIG


def test_what_was_sent_before_the_end_arrives(pair: Pair) -> None:
    left, right = pair
    run(left.send_all(b"the last words"), deadline_after(LIMIT))
    left.close()
    buffer = memoryview(bytearray(100))
    assert run(receive_some(right, buffer), deadline_after(LIMIT)) == 14
    assert bytes(buffer[:14]) == b"the last words"
    assert run(receive_some(right, buffer), deadline_after(LIMIT)) == 0


def test_an_end_in_the_middle_of_a_word(pair: Pair) -> None:
    left, right = pair
    run(left.send_all(b"wo"), deadline_after(LIMIT))
    left.close()
    with pytest.raises(ConnectionLostError, match="the peer closed the connection"):
        run(right.receive_exactly(4), deadline_after(LIMIT))


def test_sending_to_one_who_is_gone(pair: Pair) -> None:
    left, right = pair
    right.close()
    with pytest.raises(ConnectionLostError, match="the peer closed the connection"):
        run(left.send_all(BIG), deadline_after(LIMIT))


def test_closing_twice(pair: Pair) -> None:
    left, _ = pair
    assert left.fileno() >= 0
    left.close()
    assert left.fileno() == -1
    left.close()


def test_closing_does_not_wait_for_the_peer(pair: Pair) -> None:
    left, _ = pair
    while left.send(BIG[:50_000]):
        pass
    left.close()
    assert left.fileno() == -1


def test_pending_and_poll_together_show_all_that_has_arrived(pair: Pair) -> None:
    left, right = pair
    run(left.send_all(b"x" * 10_000), deadline_after(LIMIT))
    assert run(receive_some(right, memoryview(bytearray(1))), deadline_after(LIMIT)) == 1
    with selectors.DefaultSelector() as selector:
        selector.register(right.fileno(), selectors.EVENT_READ)
        assert right.pending() or selector.select(0)
    assert right.pending() == (9_999 if right.encrypted else 0)


def test_a_channel_says_whether_it_is_encrypted() -> None:
    for make, encrypted in ((plain_pair, False), (tls_pair, True)):
        ends = make()
        assert [end.encrypted for end in ends] == [encrypted, encrypted]
        for end in ends:
            end.close()


# Encryption


def test_nothing_passes_in_clear() -> None:
    left, right = tls_pair()
    secret = b"a secret that is long enough"
    run(left.send_all(secret), deadline_after(LIMIT))
    passed = os.read(right.fileno(), 10_000)
    assert len(passed) > len(secret)
    assert secret not in passed
    left.close()
    right.close()


def test_bytes_of_a_stranger_end_the_connection(tls: Pair) -> None:
    left, right = tls
    os.write(left.fileno(), b"not a record of TLS")
    with pytest.raises(ConnectionLostError, match="the connection broke"):
        run(right.receive_exactly(1), deadline_after(LIMIT))


def test_a_cut_connection_is_no_orderly_end(tls: Pair) -> None:
    left, right = tls
    with socket.socket(fileno=os.dup(left.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionLostError, match="the peer closed the connection"):
        run(receive_some(right, memoryview(bytearray(10))), deadline_after(LIMIT))


# Who is let in


def attempt(left: Steps[Channel], right: Steps[Channel]) -> tuple[Channel | Exception, Channel | Exception]:
    ends = run_all({"left": left, "right": right}, deadline_after(LIMIT))
    return ends["left"], ends["right"]


def close_all(*ends: object) -> None:
    for end in ends:
        if isinstance(end, Channel):
            end.close()


@pytest.mark.parametrize("server_side", [False, True])
def test_another_node_than_expected(server_side: bool) -> None:
    one, other = socket_pair()
    careful, wrong = attempt(
        handshake(one, 1, 3, server_side=server_side),
        handshake(other, 2, 1, server_side=not server_side),
    )
    assert isinstance(careful, AuthenticationError)
    assert str(careful) == "the peer is not node 3 of this network"
    assert one.fileno() == -1
    close_all(wrong)


def test_another_network_of_the_same_authority() -> None:
    one, other = socket_pair()
    same_key = NetworkAuthority(NETWORK_ID)
    careful = handshake(one, 1, 2, server_side=True, authority=same_key)
    same_key.network_id = bytes(16)
    ends = attempt(careful, handshake(other, 2, 1, server_side=False, authority=same_key))
    assert isinstance(ends[0], AuthenticationError)
    close_all(*ends)


def test_a_server_of_a_foreign_authority() -> None:
    one, other = socket_pair()
    client, server = attempt(
        handshake(one, 1, 2, server_side=False),
        handshake(other, 2, 1, server_side=True, authority=NetworkAuthority(NETWORK_ID)),
    )
    assert isinstance(client, AuthenticationError)
    assert "not of this network" in str(client)
    assert isinstance(server, ConnectionLostError)
    assert one.fileno() == other.fileno() == -1


def test_a_client_of_a_foreign_authority_learns_it_at_its_first_read() -> None:
    one, other = socket_pair()
    foreign = NetworkAuthority(NETWORK_ID)
    key = NodeKey()
    # It trusts the server, but cannot show a certificate of the same network.
    certificate = foreign.sign(key.public_bytes(), 1)
    identity = key.identity(NETWORK_ID, 1, certificate, AUTHORITY.certificate)
    context = tls_context(identity, server_side=False)
    client, server = attempt(
        start_tls(one, context, NETWORK_ID, 2, server_side=False), handshake(other, 2, 1, server_side=True)
    )
    assert isinstance(server, AuthenticationError)
    assert isinstance(client, Channel)
    with pytest.raises(ConnectionLostError):
        run(client.receive_exactly(1), deadline_after(LIMIT))
    client.close()


@pytest.mark.parametrize("server_side", [False, True])
def test_a_plain_peer_against_tls(server_side: bool) -> None:
    one, other = socket_pair()
    other.send(b"SSH-2.0-OpenSSH_9.6\r\n" * 10)
    with pytest.raises(ConnectionLostError):
        run(handshake(one, 1, 2, server_side=server_side), deadline_after(LIMIT))
    assert one.fileno() == -1
    other.close()


@pytest.mark.parametrize("server_side", [False, True])
def test_a_peer_that_hangs_up(server_side: bool) -> None:
    one, other = socket_pair()
    other.close()
    with pytest.raises(ConnectionLostError, match="the peer closed the connection"):
        run(handshake(one, 1, 2, server_side=server_side), deadline_after(LIMIT))
    assert one.fileno() == -1


def test_a_silent_peer_costs_no_socket() -> None:
    one, other = socket_pair()
    with pytest.raises(TimeoutError):
        run(handshake(one, 1, 2, server_side=True), deadline_after(0.05))
    assert one.fileno() == -1
    other.close()


def test_a_handshake_through_small_buffers() -> None:
    one, other = socket_pair()
    for sock in (one, other):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    while True:
        try:
            one.send(bytes(100))  # fills the way, so that the first write has to wait
        except BlockingIOError:
            break

    def late() -> Steps[Channel]:
        drained = 0
        while True:
            try:
                drained += len(other.recv(100_000))
            except BlockingIOError:
                break
        return (yield from handshake(other, 2, 1, server_side=True))

    ends = run_all({1: handshake(one, 1, 2, server_side=False), 2: late()}, deadline_after(LIMIT))
    assert isinstance(ends[1], Channel) and isinstance(ends[2], Channel)
    close_all(*ends.values())


def test_keys_lie_in_no_file_where_there_is_no_memory_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for end in tls_pair():
        end.close()
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_system_become_ours() -> None:
    assert "does not answer" in str(channel_module._lost(TimeoutError()))
    assert "No route to host" in str(channel_module._lost(OSError(113, "No route to host")))
