"""Slots between a daemon, in this process, and sessions with processes of their own."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon import slot_service
from pserver.daemon.daemon import _Daemon
from pserver.daemon.held_session import Session
from pserver.daemon.slot_allocator import QUANTUM
from pserver.session.slot_client import Event, Granted, SlotClient, Total, Yield
from pserver.system.pidfile import PidFile
from pserver.systemd.notify import ServiceManager
from tests.support.places import use_private_places
from tests.support.servers import open_files
from tests.support.sessions import Sleeper
from tests.support.waiting import DEADLINE


class Client:
    """A session that has logged in: its end of the control socket, and the daemon's record of it."""

    def __init__(self, place: "Place", session: Session, control: socket.socket) -> None:
        self.control = control
        self.leases = SlotClient(control)
        self.session = session
        self._place = place

    def hear(self, count: int = 1) -> list[Event]:
        """Return the next events."""
        events = self.leases.read()
        while len(events) < count:
            self._place.turn()
            events += self.leases.read()
        assert len(events) == count, events
        return events

    def get(self, wanted: int) -> list[int]:
        """Ask for slots for the first time, and return their leases; the slots are free."""
        self.leases.ask(wanted)
        total, *granted = self.hear(1 + wanted)
        assert isinstance(total, Total)
        return [event.lease for event in granted if isinstance(event, Granted)]

    def bind(self, lease: int, process: subprocess.Popen[bytes]) -> None:
        descriptor = os.pidfd_open(process.pid)
        self.leases.bind(lease, descriptor)
        os.close(descriptor)

    def kill(self) -> None:
        """End the session's process, and wait for its end."""
        self.session.signal(signal.SIGKILL)
        assert select.select([self.session.started.pidfd], [], [], DEADLINE)[0]


class Place:
    """A daemon, and the test's sessions and processes."""

    def __init__(self, stack: contextlib.ExitStack, slots: int) -> None:
        config = ServerConfig(
            cmd_port=0, data_port=0, bind="127.0.0.1", allow_root=True, slots=slots, use_tls=False
        )
        pid_file = stack.enter_context(PidFile(config.name))
        self.daemon = _Daemon(config, pid_file, stack, ServiceManager(), read=None)
        self.daemon.publish()
        self._stack = stack

    @property
    def used(self) -> int:
        return self.daemon._slots.facts["used"]

    @property
    def published(self) -> object:
        return self.daemon.status()["slots"]

    def turn(self) -> None:
        """Let the daemon wait for an event, and handle it."""
        due = self.daemon._slots.time_left()
        ready = self.daemon._selector.select(DEADLINE if due is None else due)
        assert ready or due is not None, f"nothing happened for {DEADLINE:g} s"
        self.daemon.turn()

    def settle(self) -> None:
        """Let the daemon do all the work that is due now."""
        while self.daemon._selector.select(0):
            self.daemon.turn()

    def join(self, network: str, user: str = "alice") -> Client:
        """Log in as a session does, with a process that does nothing."""
        sleeper = Sleeper(self._stack)
        theirs = sleeper.control
        session = self.daemon.sessions.attend(sleeper.started, "a test")
        told = {
            "user": user,
            "network": network.encode().hex(),
            "key": "",
            "node": len(self.daemon.sessions),
        }
        with theirs.dup() as handover:
            socket.send_fds(theirs, [json.dumps(told).encode()], [handover.fileno()] * 3)
        self.settle()
        assert theirs.recv(100) == b"ok"
        client = Client(self, session, theirs)
        self._stack.callback(self._end, client)
        return client

    def _end(self, client: Client) -> None:
        if client.session in self.daemon.sessions:
            client.kill()
            self.settle()
        client.leases.close()

    def sleeper(self) -> subprocess.Popen[bytes]:
        """Start a process that lives until it is killed."""
        process = subprocess.Popen(["/bin/sleep", "1000"])
        self._stack.callback(end, process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(DEADLINE)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Give a daemon of two slots, or as many as the test's parameter says."""
    use_private_places(tmp_path, monkeypatch)
    monkeypatch.setattr(slot_service, "_microseconds", lambda: 0)  # the first lease is 1
    with contextlib.ExitStack() as stack:
        yield Place(stack, getattr(request, "param", 2))


def fill(sock: socket.socket) -> None:
    """Fill the queue of the socket, as when the other end hangs."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"{}")


def test_the_first_wish_is_answered_with_the_number_of_slots(place: Place) -> None:
    one = place.join("one")
    one.leases.ask(1)
    assert one.hear(2) == [Total(2), Granted(1)]
    one.leases.ask(2)
    assert one.hear() == [Granted(2)]
    assert place.published == {"total": 2, "used": 2}
    one.leases.ask(0)
    for lease in (1, 2):
        one.leases.give_back(lease)
    place.settle()
    assert place.published == {"total": 2, "used": 0}


# Knowing the id of another user's network gives no share of its slots.
@pytest.mark.parametrize(("network", "user"), [("two", "alice"), ("one", "bob")])
def test_two_networks_take_turns_with_real_processes(place: Place, network: str, user: str) -> None:
    one, two = place.join("one"), place.join(network, user)
    processes = {}
    for lease in one.get(2):
        processes[lease] = place.sleeper()
        one.bind(lease, processes[lease])
    two.leases.ask(2)
    assert two.hear() == [Total(2)]
    (asked,) = one.hear()
    assert asked == Yield(1)
    place.settle()
    assert two.leases.read() == []  # no message from the session ends it
    one.leases.give_back(1)
    place.settle()
    assert two.leases.read() == []
    end(processes[1])
    assert two.hear() == [Granted(3)]
    assert one.leases.read() == []


@pytest.mark.parametrize("place", [1], indirect=True)
def test_one_slot_goes_back_and_forth(place: Place) -> None:
    holder, other = place.join("one"), place.join("two")
    (lease,) = holder.get(1)
    other.leases.ask(1)
    assert other.hear() == [Total(1)]
    begin = time.monotonic()
    for _ in range(2):
        process = place.sleeper()
        holder.bind(lease, process)
        assert holder.hear() == [Yield(lease)]
        end(process)
        ((granted),) = other.hear()
        assert isinstance(granted, Granted)
        lease = granted.lease
        holder, other = other, holder
    assert time.monotonic() - begin > 2 * QUANTUM - 0.5  # the first turn began before


def test_slots_of_a_killed_session_are_free_when_its_processes_have_ended(place: Place) -> None:
    one, two = place.join("one"), place.join("two")
    bound, _ = one.get(2)
    process = place.sleeper()
    one.bind(bound, process)
    one.kill()
    two.leases.ask(2)
    assert two.hear(2) == [Total(2), Granted(3)]  # instead of the one without a process
    place.settle()
    assert place.published == {"total": 2, "used": 2}
    end(process)
    assert two.hear() == [Granted(4)]


def test_a_session_s_last_words_count(place: Place) -> None:
    one, two = place.join("one"), place.join("two")
    (lease,) = one.get(1)
    process = place.sleeper()
    one.bind(lease, process)  # the daemon notices it with the session's end, or after it
    one.kill()
    place.settle()
    assert place.used == 1
    end(process)
    place.settle()
    assert place.used == 0
    assert len(two.get(2)) == 2


def test_a_node_that_closes_its_end_leaves_what_has_a_process_to_the_process(place: Place) -> None:
    one, two = place.join("one"), place.join("two")
    bound, _ = one.get(2)
    process = place.sleeper()
    one.bind(bound, process)
    two.leases.ask(2)
    place.settle()
    one.control.shutdown(socket.SHUT_RDWR)
    place.settle()
    place.settle()
    assert [type(event) for event in two.hear(2)] == [Total, Granted]
    place.settle()
    assert two.leases.read() == []
    end(process)
    assert [type(event) for event in two.hear()] == [Granted]


def test_a_session_that_hangs_holds_up_nobody(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    hung, two = place.join("one"), place.join("two")
    first, second = hung.get(2)
    processes = [place.sleeper(), place.sleeper()]
    hung.bind(first, processes[0])
    place.settle()
    fill(hung.session.nodes[0].control)
    two.leases.ask(2)
    assert two.hear() == [Total(2)]
    assert "does not read messages about slots" in caplog.text
    # The session continues: it can still bind its leases, which end as usual.
    assert hung.leases.read() == []
    assert hung.leases.is_gone
    hung.leases.ask(5)
    hung.bind(second, processes[1])
    place.settle()
    for process in processes:
        end(process)
    assert [type(event) for event in two.hear(2)] == [Granted, Granted]
    two.leases.ask(0)
    place.settle()
    assert place.used == 2
    hung.kill()
    place.settle()


def test_a_grant_that_cannot_be_told_is_another_s(place: Place) -> None:
    hung, two = place.join("one"), place.join("two")
    hung.leases.ask(2)
    fill(hung.session.nodes[0].control)
    place.settle()
    assert place.used == 0
    assert len(two.get(2)) == 2


GARBAGE = [
    b"{", b"null", b"[]", b'"slots"', b"\xff\xfe", b"[" * 4000, b"1" * 4000, b"x" * 10000, b"{}", b'{"slots": "two"}',
    b'{"slots": 1.5}', b'{"slots": null}', b'{"bind": 99}', b'{"bind": 1}', b'{"bind": "1"}', b'{"bind": [1]}',
    b'{"return": 99}', b'{"return": -1}', b'{"return": {}}', b'{"folder": 3}', b'{"grant": 1}',
    b'{"user": "eve", "network": "two", "node": 7}',
]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_garbage_harms_nobody_and_leaves_nothing_open(
    place: Place, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = place.join("one"), place.join("two")
    assert one.get(1) == [1]
    before = open_files()
    with Path("/dev/null").open() as null:
        for data in GARBAGE:
            socket.send_fds(one.control, [data], [null.fileno()] * count)
            place.settle()
    assert open_files() == before
    assert caplog.text.count("makes no sense") == len(GARBAGE)
    assert place.used == 1
    assert len(two.get(1)) == 1


def test_only_a_process_can_hold_a_lease(place: Place, tmp_path: Path) -> None:
    one = place.join("one")
    (lease,) = one.get(1)
    before = open_files()
    reading, writing = os.pipe()
    with (tmp_path / "file").open("w") as file, socket.socket() as sock:
        for descriptor in (reading, writing, file.fileno(), sock.fileno()):
            one.leases.bind(lease, descriptor)
    os.close(reading)
    os.close(writing)
    place.settle()
    assert open_files() == before
    process = place.sleeper()
    one.bind(lease, process)
    one.bind(lease, process)  # once is enough
    one.leases.ask(0)
    place.settle()
    assert open_files() == before + 1
    end(process)
    place.settle()
    assert open_files() == before
    assert place.used == 0


def test_a_process_that_has_ended_already_can_hold_a_lease(place: Place) -> None:
    one = place.join("one")
    (lease,) = one.get(1)
    process = place.sleeper()
    descriptor = os.pidfd_open(process.pid)
    end(process)
    one.leases.bind(lease, descriptor)
    os.close(descriptor)
    one.leases.ask(0)
    place.settle()
    assert place.used == 0


def test_a_network_alone(place: Place) -> None:
    one, two = place.join("one"), place.join("two")
    (lease,) = one.get(1)
    process = place.sleeper()
    one.bind(lease, process)
    two.leases.ask(2, exclusive=True)
    assert two.hear() == [Total(2)]
    assert one.hear() == [Yield(lease)]
    one.leases.ask(2)
    place.settle()
    assert two.leases.read() == one.leases.read() == []
    end(process)
    assert two.hear(2) == [Granted(2), Granted(3)]
    two.leases.ask(0)
    for lease in (2, 3):
        two.leases.give_back(lease)
    assert one.hear(2) == [Granted(4), Granted(5)]


def test_nothing_is_written_however_often_slots_change(place: Place, tmp_path: Path) -> None:
    client = place.join("one")
    (lease,) = client.get(1)
    path = next(tmp_path.rglob("default.json"))
    versions = {path.stat().st_mtime_ns}
    for _ in range(100):
        client.leases.ask(0)
        client.leases.give_back(lease)
        place.settle()
        client.leases.ask(1)
        (event,) = client.hear()
        assert isinstance(event, Granted)
        lease = event.lease
        versions.add(path.stat().st_mtime_ns)
    assert len(versions) == 1
