"""The daemon passes a client's connection to the session that the client names, if that is the client's own."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pconnect.protocol.preamble_check import PreambleCheck
from pserver.daemon.held_session import Node, Session
from pserver.daemon.returned_clients import give_back
from pserver.orphans.answers import read_answer
from pserver.starter.session_starts import Started
from tests.support.waiting import DEADLINE

KEY = bytes(range(32))
WORDS: dict[str, Any] = {"user": "alice", "network": "ab", "node": 1, "key": KEY.hex()}


class Place:
    """A session that waits for its client, and the process where the client logs in."""

    def __init__(self, stack: ExitStack) -> None:
        def pair() -> tuple[socket.socket, socket.socket]:
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in ends:
                stack.enter_context(end)
                end.settimeout(DEADLINE)
            return ends

        self.control, theirs = pair()
        self.joins, its_joins = pair()
        session = Session(Started(7, -1, theirs, lambda _: None), "there", 0.0, "alice", network="ab")
        session.check = PreambleCheck(KEY)
        self.node = Node(session, theirs, 1, (theirs, theirs, its_joins))
        self.login = Node(Session(Started(8, -1, theirs, lambda _: None), "here", 0.0), theirs)
        self.connection = stack.enter_context(socket.socket())

    def give(self, candidates: tuple[Node, ...] | None = None, **words: Any) -> str | None:
        nodes = (self.node,) if candidates is None else candidates
        give_back(self.login, WORDS | words, b"the message", os.dup(self.connection.fileno()), nodes)
        return read_answer(self.control.recv(100))


@pytest.fixture
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack)


def test_it_goes_to_its_session_and_counts_as_a_right_password(place: Place) -> None:
    place.login.session.claimed = "alice"
    assert place.give() is None
    data, descriptors, _, _ = socket.recv_fds(place.joins, 100, 2)
    assert data == b"the message"
    assert len(descriptors) == 1
    os.close(descriptors[0])
    failure = place.login.session.failure
    assert failure is not None
    assert (failure.has_proved, failure.is_refused, place.login.session.is_logging_in) == (True, False, False)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"user": "mallory"}, ""),
        ({"key": bytes(32).hex()}, ""),
        ({"key": ""}, ""),
        ({"key": 7}, "the server does not understand its own session"),
        ({"candidates": ()}, ""),
    ],
)
def test_others_learn_nothing(place: Place, words: dict[str, Any], why: str) -> None:
    assert place.give(**words) == why
    assert place.login.session.failure is None
    place.joins.setblocking(False)
    with pytest.raises(BlockingIOError):
        place.joins.recv(10)


def test_a_session_for_one_user_speaks_for_no_other(place: Place) -> None:
    place.login.session.claimed = "mallory"
    assert place.give() == "the server does not understand its own session"


def test_a_session_that_takes_nothing_is_named(place: Place) -> None:
    place.joins.close()
    why = place.give()
    assert why is not None
    assert why.startswith("its session does not accept it")
