"""A session's side of slots, with a socket in place of the daemon."""

import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pserver.session.slot_client import Granted, SlotClient, Total, Yield
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE


class Ends:
    """Both ends of a control socket."""

    def __init__(self) -> None:
        self.daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.daemon.settimeout(DEADLINE)
        self.slot_client = SlotClient(theirs)

    def say(self, **message: int) -> None:
        self.daemon.send(json.dumps(message).encode())

    def hear(self) -> tuple[Any, list[int]]:
        data, descriptors, _, _ = socket.recv_fds(self.daemon, 1000, 4)
        return json.loads(data), descriptors

    def is_ready(self) -> bool:
        return bool(select.select([self.slot_client.fileno()], [], [], 0)[0])


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.slot_client.close()
    made.daemon.close()


@pytest.fixture
def pidfd() -> Iterator[int]:
    descriptor = os.pidfd_open(os.getpid())
    yield descriptor
    os.close(descriptor)


def test_what_the_daemon_says_is_read_in_its_order(ends: Ends) -> None:
    assert not ends.is_ready()
    assert ends.slot_client.read() == []
    ends.say(total=8)
    ends.say(grant=1)
    ends.say(**{"yield": 1})
    assert ends.is_ready()
    assert ends.slot_client.read() == [Total(8), Granted(1), Yield(1)]
    assert not ends.is_ready()
    assert not ends.slot_client.is_gone


def test_wishes_are_told_when_they_change(ends: Ends) -> None:
    for wanted, exclusive in ((4, False), (4, False), (4, True), (0, False)):
        ends.slot_client.ask(wanted, exclusive=exclusive)
    ends.slot_client.give_back(7)
    told = [ends.hear()[0] for _ in range(4)]
    wishes = [
        {"slots": 4, "exclusive": False},
        {"slots": 4, "exclusive": True},
        {"slots": 0, "exclusive": False},
    ]
    assert told == [*wishes, {"return": 7}]


def test_a_process_is_told_of_by_a_descriptor(ends: Ends, pidfd: int) -> None:
    ends.slot_client.bind(3, pidfd)
    message, (received,) = ends.hear()
    assert message == {"bind": 3}
    assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{received}").read_text()
    os.close(received)
    os.fstat(pidfd)  # is still the caller's


def test_a_daemon_that_is_busy_gets_everything_later(ends: Ends, pidfd: int) -> None:
    before = open_files()
    for number in range(2000):  # more than its queue has room for
        ends.slot_client.give_back(number)
        ends.slot_client.ask(number)
    ends.slot_client.bind(2000, pidfd)
    assert open_files() == before + 1
    assert not ends.is_ready()
    told, descriptors = [], []
    while {"bind": 2000} not in told:
        message, received = ends.hear()
        told.append(message)
        descriptors += received
        if ends.is_ready():
            assert ends.slot_client.read() == []
    assert [message["return"] for message in told if "return" in message] == list(range(2000))
    assert [message["slots"] for message in told if "slots" in message][-1] == 1999
    assert len(descriptors) == 1
    os.close(descriptors[0])
    assert open_files() == before
    assert not ends.is_ready()


def test_without_a_daemon_there_is_nothing_to_hear_and_nothing_fails(ends: Ends, pidfd: int) -> None:
    ends.say(grant=1)
    before = open_files()
    ends.daemon.close()
    assert ends.is_ready()
    assert ends.slot_client.read() == [Granted(1)]
    assert ends.slot_client.is_gone
    ends.slot_client.ask(1)
    ends.slot_client.bind(1, pidfd)
    ends.slot_client.give_back(2)
    assert ends.slot_client.read() == []
    assert open_files() == before - 1


def test_a_daemon_that_says_nothing_more_still_hears_of_processes(ends: Ends, pidfd: int) -> None:
    ends.daemon.shutdown(socket.SHUT_WR)
    assert ends.slot_client.read() == []
    assert ends.slot_client.is_gone
    ends.slot_client.bind(1, pidfd)
    message, (received,) = ends.hear()
    assert message == {"bind": 1}
    os.close(received)


def test_nothing_is_left_open(pidfd: int) -> None:
    before = open_files()
    ends = Ends()
    for number in range(2000):
        ends.slot_client.give_back(number)
    ends.slot_client.bind(1, pidfd)
    ends.slot_client.close()
    ends.daemon.close()
    assert open_files() == before
