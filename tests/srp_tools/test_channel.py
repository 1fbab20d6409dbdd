"""Tests that run on every kind of channel."""

import errno
import math
import os
import selectors
import socket
from collections.abc import Callable, Iterator

import pytest

from srp_tools.channel import Channel, connection_lost
from srp_tools.errors import ConnectionLostError
from srp_tools.steps import Steps, Wait, deadline_after, run, run_all
from tests.support.channels import (
    BIG,
    LIMIT,
    Pair,
    local_pair,
    plain_pair,
    receive_some,
    tcp_pair,
    tls_pair,
)
from tests.support.waiting import wait_until

CLOSED = "^the peer closed the connection$"


@pytest.fixture(params=[plain_pair, local_pair, tcp_pair, tls_pair], ids=["unix", "local", "plain", "TLS"])
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


# All kinds of channel


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
    # Unsent data is sent later, with the same bytes.
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
    with pytest.raises(ConnectionLostError, match=CLOSED):
        run(right.receive_exactly(4), deadline_after(LIMIT))


def test_sending_to_a_peer_that_is_gone(pair: Pair) -> None:
    left, right = pair
    seen = (
        CLOSED
        if right.transport == "unix"
        else "^the (connection was (reset|cut off)|other end closed the connection)"
    )
    right.close()
    with pytest.raises(ConnectionLostError, match=seen):
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


def test_a_channel_says_of_which_kind_it_is_and_whether_it_is_encrypted() -> None:
    kinds = (
        (plain_pair, "unix", False),
        (local_pair, "unix", False),
        (tcp_pair, "plain", False),
        (tls_pair, "tls", True),
    )
    for make, transport, encrypted in kinds:
        ends = make()
        assert [end.encrypted for end in ends] == [encrypted, encrypted]
        assert [end.transport for end in ends] == [transport, transport]
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


def test_a_cut_connection_is_not_an_orderly_end(tls: Pair) -> None:
    left, right = tls
    with socket.socket(fileno=os.dup(left.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)
    with pytest.raises(
        ConnectionLostError, match=r"^the connection was cut off: the peer's process has ended, or"
    ):
        run(receive_some(right, memoryview(bytearray(10))), deadline_after(LIMIT))


def test_errors_of_the_system_become_ours() -> None:
    assert str(connection_lost(TimeoutError(), 12.3)) == "no answer from the peer's machine for 12 s"
    route = OSError(errno.EHOSTUNREACH, "No route to host")
    assert str(connection_lost(route)) == "no answer from the peer's machine (No route to host)"
    assert str(connection_lost(OSError(errno.EIO, "Input/output error"))).startswith(
        "the connection broke: Input"
    )
    assert "was reset" in str(connection_lost(ConnectionResetError()))


def test_how_long_the_peers_machine_is_silent(pair: Pair) -> None:
    left, right = pair
    run(left.send_all(b"x"), deadline_after(LIMIT))
    run(receive_some(right, memoryview(bytearray(1))), deadline_after(LIMIT))
    if right.peer_timeout == math.inf:
        assert right.silent_seconds is None
        return
    before = right.silent_seconds
    assert before is not None and before < LIMIT
    wait_until(lambda: (right.silent_seconds or 0) >= before + 0.1, "the system's clock")
