"""The daemon's registry of sessions, with processes that do nothing."""

import dataclasses
import json
import os
import selectors
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pconnect.protocol.frames import Preamble, Purpose
from pserver.daemon.held_session import LoginFailure, Session
from pserver.daemon.returning_sessions import Returned
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService
from pserver.system.processes import start_ticks
from tests.support.servers import open_files
from tests.support.sessions import Sleeper
from tests.support.waiting import DEADLINE

NETWORK = bytes(range(16))
KEY = bytes(range(32))

RETURNED = Returned(0, "alice", NETWORK.hex(), b"key", b"", 1, "a test", 1.5, "/nowhere/pserver-x", 7, False)


class Place:
    """A registry, and the sessions' ends of its sockets."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.selector = stack.enter_context(selectors.DefaultSelector())
        slots = SlotService(1, self.selector)
        stack.callback(slots.close)
        self.changes = 0
        #: Requests to the starter, with the number of descriptors.
        self.requests: list[tuple[Mapping[str, object], int]] = []
        self.registry = SessionRegistry(self.selector, slots, self._count, self._request)
        self.sleepers: dict[Session, Sleeper] = {}

    def _count(self) -> None:
        self.changes += 1

    def _request(self, words: Mapping[str, object], ends: Sequence[int]) -> None:
        for end in ends:
            os.fstat(end)
        self.requests.append((words, len(ends)))

    def attend(self) -> tuple[Session, socket.socket]:
        """Start a session; return it with its end of the control socket."""
        sleeper = Sleeper(self._stack)
        session = self.registry.attend(sleeper.started, "a test")
        self.sleepers[session] = sleeper
        self._stack.callback(self.end, session)
        return session, sleeper.control

    def end(self, session: Session) -> None:
        if session in self.registry:
            session.signal(signal.SIGKILL)
            while session in self.registry:
                self.turn()

    def turn(self) -> None:
        """Wait for an event, and handle it."""
        ready = self.selector.select(DEADLINE)
        assert ready, f"nothing happened for {DEADLINE:g} s"
        for key, _ in ready:
            if self.selector.get_map().get(key.fd) is key:
                key.data()

    def say(self, control: socket.socket, words: Any, *ends: socket.socket) -> None:
        socket.send_fds(control, [json.dumps(words).encode()], [end.fileno() for end in ends])
        self.turn()

    def log_in(
        self, control: socket.socket, node: int = 1, key: bytes = KEY
    ) -> tuple[bytes, list[socket.socket]]:
        """Log in; return the answer, and sockets that get connections: to the engine, to jobs, of further nodes."""
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        words = {"user": "alice", "network": NETWORK.hex(), "key": key.hex(), "node": node}
        self.say(control, words, *(theirs for _, theirs in pairs))
        for ours, theirs in pairs:
            theirs.close()
            ours.settimeout(DEADLINE)
            self._stack.enter_context(ours)
        return control.recv(100), [ours for ours, _ in pairs]


@pytest.fixture
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack)


def test_a_session_before_and_after_its_login(place: Place) -> None:
    session, control = place.attend()
    assert (len(place.registry), session.is_logging_in) == (1, True)
    assert place.log_in(control)[0] == b"ok"
    assert (len(place.registry), session.is_logging_in, place.changes) == (1, False, 1)
    assert place.registry.facts()[0] == {
        "pid": session.pid,
        "start_ticks": start_ticks(session.pid),
        "peer": "a test",
        "user": "alice",
        "since": session.since,
        "network": NETWORK.hex(),
        "nodes": [1],
        "detached": False,
        "orphaned": None,
    }
    place.say(control, {"detached": True})
    assert place.registry.facts()[0]["detached"] is True


def test_a_node_of_a_network_is_here_once(place: Place) -> None:
    (_, first), (other, second) = place.attend(), place.attend()
    assert place.log_in(first)[0] == b"ok"
    answer, ends = place.log_in(second)
    assert (answer, other.is_logging_in) == (b"taken", True)
    assert [end.recv(1) for end in ends] == [b"", b"", b""]
    assert place.log_in(second, node=2)[0] == b"ok"


@pytest.mark.parametrize(("endpoint", "which"), [(0, 0), (1, 1), (7, 1)])
def test_a_data_connection_goes_to_the_engine_or_to_the_jobs_of_its_node(
    place: Place, endpoint: int, which: int
) -> None:
    _, control = place.attend()
    _, ends = place.log_in(control)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        preamble = Preamble(Purpose.DATA, NETWORK, 0, 1, endpoint, KEY)
        assert place.registry.pass_on(preamble, preamble.pack(b"n" * 16), theirs) == ""
        data, [descriptor], _, _ = socket.recv_fds(ends[which], 100, 1)
        assert data == preamble.pack(b"n" * 16)
        with socket.socket(fileno=descriptor) as passed:
            passed.send(b"here")
            assert ours.recv(10) == b"here"


def test_a_data_connection_for_nobody(place: Place) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for node in (1, 2):
            preamble = Preamble(Purpose.DATA, NETWORK, 0, node, 0)
            assert place.registry.pass_on(preamble, b"", theirs) == "no such network and node on this server"
        _, control = place.attend()
        for end in place.log_in(control)[1]:
            end.close()
        preamble = Preamble(Purpose.DATA, NETWORK, 0, 1, key=KEY)
        reason = place.registry.pass_on(preamble, preamble.pack(b"n" * 16), theirs)
        assert reason.startswith("its session does not accept it")


def test_a_stranger_and_a_replay_do_not_reach_a_session(place: Place) -> None:
    _, control = place.attend()
    _, ends = place.log_in(control)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for purpose in (Purpose.DATA, Purpose.JOIN):
            preamble = Preamble(purpose, NETWORK, 0, 1, key=KEY)
            other = dataclasses.replace(preamble, key=b"another")
            refusal = place.registry.pass_on(other, other.pack(b"1" * 16), theirs)
            assert refusal == "it does not have the key of the network"
            received = preamble.pack(purpose.name.ljust(16).encode())
            assert place.registry.pass_on(preamble, received, theirs) == ""
            assert place.registry.pass_on(preamble, received, theirs) == "its preamble was used before"
    for end, passed in zip(ends, (1, 0, 1), strict=True):
        end.setblocking(False)
        for _ in range(passed):
            assert end.recv(100)
        with pytest.raises(BlockingIOError):
            end.recv(100)


def test_who_claims_the_number_of_a_network_keeps_no_member_out(place: Place) -> None:
    (_, claimant), (_, member) = place.attend(), place.attend()
    answer, theirs = place.log_in(claimant, key=b"another")
    assert answer == b"ok"
    answer, ours = place.log_in(member)
    assert answer == b"ok"
    left, right = socket.socketpair()
    with left, right:
        for number, (key, ends) in enumerate([(KEY, ours), (b"another", theirs)], 1):
            preamble = Preamble(Purpose.DATA, NETWORK, 0, 1, key=key)
            received = preamble.pack(bytes(15) + bytes([number]))
            assert place.registry.pass_on(preamble, received, right) == ""
            assert ends[0].recv(100) == received


@pytest.mark.parametrize(
    "words",
    [
        {},
        [],
        {"user": "alice"},
        {"slots": 1},
        {"detached": True},
        {"user": 1, "network": "", "key": "", "node": 1},
        {"failed": {"user": "a"}},
    ],
)
def test_what_makes_no_sense_before_the_login_is_logged(
    place: Place, words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    session, control = place.attend()
    place.say(control, words)
    assert "makes no sense" in caplog.text
    assert (session.is_logging_in, place.changes) == (True, 0)


def test_a_login_that_failed_is_none_that_goes_on(place: Place) -> None:
    session, control = place.attend()
    failed = {"user": "mallory", "reason": "no", "is_refused": True, "has_proved": False}
    place.say(control, {"failed": failed})
    assert session.failure == LoginFailure("mallory", "no", is_refused=True)
    assert (session.is_logging_in, place.log_in(control)[0], session.user) == (False, b"taken", None)
    ended, _ = place.attend()
    place.end(ended)
    assert not ended.is_logging_in


def private_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder like the folder of a session."""
    monkeypatch.setenv("TMPDIR", str(place))
    folder = place / "pserver-folder"
    folder.mkdir(0o700)
    return folder


def test_a_session_that_ends_leaves_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = private_folder(tmp_path, monkeypatch)
    session, control = place.attend()
    place.log_in(control)
    place.say(control, {"folder": str(folder), "mark": 5 << 22})
    entries = len(place.selector.get_map())
    place.end(session)
    assert (len(place.registry), len(place.selector.get_map())) == (0, entries - 2)
    assert place.requests == [({"remove": str(folder), "mark": 5 << 22, "uid": None}, 0)]
    assert place.changes == 2


def test_what_belongs_to_a_session_that_lives_is_left_alone(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = private_folder(tmp_path, monkeypatch)
    session, control = place.attend()
    place.log_in(control)
    place.say(control, {"folder": str(folder), "mark": 0})
    control.close()
    place.turn()
    assert session in place.registry
    assert place.requests == []
    place.end(session)
    assert place.requests == [({"remove": str(folder), "mark": 0, "uid": None}, 0)]


def test_what_is_no_folder_of_a_session_is_not_removed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    private_folder(tmp_path, monkeypatch)
    session, control = place.attend()
    place.say(control, {"folder": str(tmp_path), "mark": 0})
    place.end(session)
    assert place.requests == []
    assert "was not removed" in caplog.text


def test_a_folder_that_the_session_has_removed_is_nobodys(place: Place, tmp_path: Path) -> None:
    session, control = place.attend()
    place.say(control, {"folder": str(tmp_path / "gone"), "mark": 0})
    place.end(session)
    assert place.requests == []


def test_a_session_gets_another_spawner(place: Place) -> None:
    session, control = place.attend()
    place.log_in(control)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            place.say(control, {"spawner": 1}, theirs)
        assert place.requests == [({"spawner": session.pid, "uid": None}, 1)]
        ours.settimeout(DEADLINE)
        assert ours.recv(1) == b""  # the starter has its own copy; the daemon keeps no descriptor
    place.say(control, {"spawner": 1})
    assert len(place.requests) == 1


def test_how_a_session_ended_is_logged_once_it_is_known(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    session, _ = place.attend()
    place.end(session)
    assert "ended" not in caplog.text
    place.sleepers[session].tell_end(-9)
    assert f"session {session.pid} of a test ended (SIGKILL)" in caplog.text
    session, _ = place.attend()
    place.end(session)
    place.sleepers[session].tell_end(None)
    assert caplog.text.endswith(f"session {session.pid} of a test ended\n")


def test_all_sessions_are_ended(place: Place) -> None:
    sessions = [place.attend()[0] for _ in range(2)]
    place.registry.end_all()
    codes = [place.sleepers[session].process.wait(DEADLINE) for session in sessions]
    assert codes == [-signal.SIGTERM] * 2


def test_a_session_that_does_not_end_is_killed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pserver.daemon.session_registry._STOP_GRACE", 0.05)
    session, _ = place.attend()
    session.signal(signal.SIGSTOP)
    place.registry.end_all()
    assert place.sleepers[session].process.wait(0.5) < 0


def test_at_the_end_of_the_server_a_session_does_not_wait_to_be_admitted(place: Place) -> None:
    _, admitted = place.attend()
    place.log_in(admitted)
    _, waiting = place.attend()
    place.registry.end_all()
    assert waiting.recv(100) == b""
    admitted.setblocking(False)
    with pytest.raises(BlockingIOError):  # it may still send messages about its slots
        admitted.recv(100)


def come_back(place: Place, node: int, is_detached: bool = False) -> tuple[Sleeper, list[socket.socket]]:
    """Have a node return whose process another daemon started."""
    sleeper = Sleeper(place._stack)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    facts = RETURNED._replace(pid=sleeper.process.pid, node=node, is_detached=is_detached)
    place.registry.take_back(
        sleeper.started.control, facts, sleeper.started.pidfd, [theirs.detach() for _, theirs in pairs]
    )
    for ours, _ in pairs:
        place._stack.enter_context(ours)
    return sleeper, [ours for ours, _ in pairs]


def test_a_session_that_comes_back_is_as_it_was(place: Place) -> None:
    sleeper, ends = come_back(place, 2, is_detached=True)
    [facts] = place.registry.facts()
    assert facts["pid"] == sleeper.process.pid
    assert (facts["user"], facts["nodes"], facts["detached"]) == ("alice", [2], True)
    [session] = place.registry
    assert not session.is_logging_in and place.registry.begun == 1  # --serve counts it
    place.say(sleeper.control, {"slots": 1, "exclusive": False})
    assert json.loads(sleeper.control.recv(100)) == {"total": 1}
    place.end(session)
    assert len(place.registry) == 0
    assert [end.recv(1) for end in ends] == [b""] * 3


def test_a_node_that_comes_back_to_its_own_daemon_takes_its_place(place: Place) -> None:
    session, control = place.attend()
    place.log_in(control)
    facts = RETURNED._replace(pid=session.pid, key=b"")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ends = [end.detach() for pair in [socket.socketpair() for _ in range(3)] for end in pair]
        place.registry.take_back(theirs, facts, os.pidfd_open(session.pid), ends[::2])
        for end in ends[1::2]:
            os.close(end)
        assert control.recv(10) == b""
        assert [facts["nodes"] for facts in place.registry.facts()] == [[1]]
        place.end(session)


@pytest.mark.parametrize(
    "words",
    [{"user": "alice", "network": NETWORK.hex(), "key": KEY.hex(), "node": 1}, {"spawner": 1}],
)
def test_what_should_be_sockets_for_messages_and_is_something_else_is_closed(
    place: Place, words: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _, control = place.attend()
    stream, its_peer = socket.socketpair()
    right, its_right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with stream, its_peer, right, its_right, Path(os.devnull).open("rb") as file:
        before = open_files()
        for wrong in (stream.fileno(), file.fileno()):
            count = 3 if "user" in words else 1
            ends = [right.fileno(), right.fileno(), wrong][-count:]
            socket.send_fds(control, [json.dumps(words).encode()], ends)
            place.turn()
            assert open_files() == before
    assert caplog.text.count("makes no sense") == 2
    assert place.requests == []
    assert place.log_in(control)[0] == b"ok"
