"""A returning client's request, and how its connection is handed over."""

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.protocol.frames import HELLO
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import decode_messages
from pserver.orphans.answers import TAKEN, not_taken
from pserver.orphans.returning_client import (
    HandedOverError,
    Orders,
    Return,
    ReturningClient,
    hand_over,
    refusal,
    turn_away,
)
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after, run
from tests.support.links import LIMIT, channels
from tests.support.waiting import DEADLINE

BACK = Return(3, b"certificate", b"authority", takes_over=True)
ANSWER: dict[str, Any] = {"node": 3, "authority": b"authority", "back": [b"certificate", True]}


@pytest.fixture
def control() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pair[1].settimeout(DEADLINE)
    yield pair
    for end in pair:
        end.close()


def test_an_answer_says_whether_the_client_comes_back() -> None:
    assert Return.read(ANSWER) == BACK
    assert Return.read({"node": 3}) is None
    assert Return.read(None) is None
    for name, wrong in (("back", [b"certificate", 1]), ("back", None), ("node", "3"), ("authority", None)):
        with pytest.raises(ProtocolError, match="has another form"):
            Return.read(ANSWER | {name: wrong})


def test_its_words_pass_the_daemon() -> None:
    assert Return.unpack(json.dumps({"resume": {}, "back": BACK.pack()}).encode()) == BACK
    for data in (b"{}", b"{", b'{"back": {"certificate": 1}}'):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Return.unpack(data)


@pytest.mark.parametrize(("answer", "why"), [(not_taken(""), ""), (not_taken("it is full"), "it is full")])
def test_a_connection_is_given_away_or_stays(
    answer: bytes, why: str, control: tuple[socket.socket, socket.socket]
) -> None:
    ours, daemons = control
    left, right = socket.socketpair()
    with left, right:
        daemons.send(answer)
        assert hand_over(ours, left, {"user": "alice"}, BACK) == why
        data, descriptors, _, _ = socket.recv_fds(daemons, 4096, 1)
        assert json.loads(data)["resume"] == {"user": "alice"}
        assert Return.unpack(data) == BACK
        os.write(descriptors[0], b"x")
        os.close(descriptors[0])
        assert right.recv(10) == b"x"
        daemons.send(TAKEN)
        with pytest.raises(HandedOverError):
            hand_over(ours, left, {"user": "alice"}, BACK)


def test_a_client_hears_why_it_cannot_come_back() -> None:
    near, far = channels()
    run(turn_away(near, "another is there"), deadline_after(LIMIT))
    data = bytearray(1000)
    count = far.receive_into(memoryview(data))
    assert data[: len(HELLO)] == HELLO
    [message] = decode_messages(Role.CLIENT, bytes(data[len(HELLO) : count]))
    assert (message.kind, message.value) == (Kind.BACK, "another is there")
    assert refusal("") != refusal("another is there")
    near.close()
    far.close()


def test_orders_reach_the_thread_of_a_supervisor() -> None:
    ours, theirs = socket.socketpair()
    orders = Orders(3, ours)
    near, far = channels()
    client = ReturningClient(Channel(socket.socket()), BACK)
    orders.come_back(client)
    orders.stop()
    assert theirs.recv(10) == b"rx"
    assert orders.returning.popleft() is client
    for end in (ours, theirs, near, far, client.channel):
        end.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        orders.stop()
