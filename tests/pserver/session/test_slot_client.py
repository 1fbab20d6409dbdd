"""A session's side of slots, with a socket in place of the daemon."""

import contextlib
import json
import math
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pserver.ctl.long_messages import send_long
from pserver.session.slot_client import Granted, SlotClient, Total, Yield
from pserver.session.way_back import WayBack
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE, wait_until


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
    os.fstat(pidfd)  # the caller still owns it


def test_a_daemon_that_is_busy_gets_everything_later(ends: Ends, pidfd: int) -> None:
    before = open_files()
    for number in range(2000):  # more than fits into its queue
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


class Successor(WayBack):
    """A new daemon, which accepts the session."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(DEADLINE)
        self.is_there = False
        self.dials: list[bool] = []

    def dial(self, *, is_detached: bool) -> socket.socket | None:
        self.dials.append(is_detached)
        if not self.is_there:
            return None
        self._theirs.setblocking(False)
        return self._theirs


def test_another_daemon_hears_all_that_counts(pidfd: int) -> None:
    before = open_files()
    daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    successor = Successor()
    client = SlotClient(theirs, successor)
    client.leases = lambda: [(3, pidfd), (4, -1)]
    client.ask(2)
    client.tell_detached()
    assert client.tend() == math.inf
    daemon.close()
    assert client.read() == []
    assert not client.is_gone
    client.ask(5, exclusive=True)
    client.give_back(9)  # the new daemon does not know that lease
    assert 0 < client.tend() <= 0.5
    assert (successor.dials, client.read()) == ([True], [])
    successor.is_there = True
    wait_until(lambda: client.tend() == math.inf, "the next look")
    heard = [socket.recv_fds(successor.ours, 1000, 2) for _ in range(3)]
    assert [json.loads(data) for data, *_ in heard] == [
        {"hold": 3},
        {"hold": 4},
        {"slots": 5, "exclusive": True},
    ]
    assert [len(descriptors) for _, descriptors, *_ in heard] == [1, 0, 0]
    os.close(heard[0][1][0])
    successor.ours.send(b'{"total": 4}')
    assert select.select([client.fileno()], [], [], DEADLINE)[0]
    assert client.read() == [Total(4)]
    client.close()
    successor.ours.close()
    assert open_files() == before


def test_after_a_long_time_no_other_daemon_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    successor = Successor()
    client = SlotClient(theirs, successor)
    daemon.close()
    client.read()
    assert not client.is_gone
    monkeypatch.setattr("pserver.session.slot_client._PATIENCE", 0.0)
    assert client.is_gone
    client.close()
    for end in (successor.ours, successor._theirs):
        end.close()


def test_a_spawner_that_no_process_has_become_is_asked_for_again() -> None:
    before = open_files()
    daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    successor = Successor()
    client = SlotClient(theirs, successor)
    root, its_root = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with root, its_root:
        daemon.close()  # the client has not noticed this when it asks
        client.request_spawner(its_root)
        client.tell_usage([1, 2, 3, 4], "")
        client.read()
        root.send(b"node 5")
    assert not client.has_daemon
    successor.is_there = True
    wait_until(lambda: client.has_daemon or client.tend() == math.inf, "the next look")
    heard = [socket.recv_fds(successor.ours, 1000, 2) for _ in range(2)]
    assert [json.loads(data) for data, *_ in heard] == [
        {"used": [1, 2, 3, 4], "running": 0, "memory": 0, "ended": ""},
        {"spawner": 1},
    ]
    with socket.socket(fileno=heard[1][1][0]) as end:
        client.tend()
        # Both sockets, the epoll descriptor, the spawner's socket, and our copy of it.
        assert open_files() == before + 5
        assert end.recv(100) == b"node 5"
        client.tend()  # a process has it now
        assert open_files() == before + 4
    client.close()
    successor.ours.close()
    assert open_files() == before


def test_a_spawner_that_is_asked_for_while_there_is_no_daemon_is_asked_for_later() -> None:
    daemon, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    successor = Successor()
    client = SlotClient(theirs, successor)
    daemon.close()
    client.read()
    root, its_root = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with root, its_root:
        client.request_spawner(its_root)
        root.send(b"node 5")
        successor.is_there = True
        wait_until(lambda: client.has_daemon or client.tend() == math.inf, "the next look")
        data, (end,), *_ = socket.recv_fds(successor.ours, 1000, 2)
        assert json.loads(data) == {"spawner": 1}
        os.close(end)
    client.close()
    successor.ours.close()


def test_statistics_are_asked_for_and_answered() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.closing(SlotClient(ours)) as client, theirs:
        told: list[object] = []
        client.ask_statistics({"brief": True}, told.append)
        client.ask_statistics({}, told.append)
        first, second = (json.loads(theirs.recv(1000)) for _ in range(2))
        assert (first["statistics"], second["statistics"]) == ({"brief": True}, {})
        for number in (second["number"], second["number"], first["number"], 99):
            send_long(
                theirs,
                json.dumps({"statistics": {"of": number, "x": "y" * 40_000}, "number": number}).encode(),
            )
        assert client.read() == []
        assert [each["of"] for each in told] == [second["number"], first["number"]]  # type: ignore[index]
        theirs.close()
        client.read()
        client.ask_statistics({}, told.append)
        assert told[-1] == {"error": "its server has ended, or is busy"}
