"""Clients wait for their login, get a session, or are refused; they leave nothing behind."""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.door.arrivals import PendingConnection, Source
from pserver.daemon.door.client_hello import Alert
from pserver.daemon.door.logins import Logins
from pserver.daemon.held_session import LoginFailure, Session
from pserver.starter.session_starts import Started
from tests.support.hellos import hello_of
from tests.support.sessions import Sleeper
from tests.support.waiting import DEADLINE, wait_gone, wait_until


class Door:
    """Logins whose sessions do nothing."""

    def __init__(self, stack: ExitStack, config: ServerConfig) -> None:
        self._stack = stack
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.sessions: list[Session] = []
        self.proof_seconds: list[float] = []
        self.fails = self.fails_later = False
        self.fault: Exception | None = None
        self.logins = Logins(config, self.selector, self._start)
        stack.callback(self.logins.close)

    def _start(
        self,
        pending: PendingConnection,
        proof_seconds: float,
        begun: Callable[[Session], object],
        failed: Callable[[str], object],
    ) -> None:
        if self.fault is not None:
            raise self.fault
        if self.fails:
            raise OSError("no more processes")
        if self.fails_later:
            failed("it ended at once")
            return
        session = Session(Started(1, -1, pending.sock, lambda _: None), pending.peer, time.time())
        self.sessions.append(session)
        self.proof_seconds.append(proof_seconds)
        begun(session)
        pending.sock.close()

    def arrive(self, address: str = "10.0.0.1", user: str = "alice") -> socket.socket:
        """Have a client arrive; return its end of the connection."""
        ours, theirs = socket.socketpair()
        self._stack.enter_context(ours)
        self._stack.enter_context(theirs)
        ours.settimeout(5)
        pending = PendingConnection(theirs, Source.of((address, len(self.sessions))), False, 0.0)
        pending.hello.feed(hello_of(user)[:5])
        pending.hello.feed(hello_of(user)[5:])
        self.logins.arrive(pending)
        return ours

    def turn(self) -> None:
        for key, _ in self.selector.select(0):
            key.data()
        self.logins.step()


@pytest.fixture
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    options = getattr(request, "param", {"login_processes": 1})
    with ExitStack() as stack:
        yield Door(stack, ServerConfig(**options))


@pytest.mark.parametrize("how", ["logged in", "failed", "ended"])
def test_the_next_login_begins_when_one_has_ended(door: Door, how: str) -> None:
    for _ in range(3):
        door.arrive()
    door.turn()
    assert len(door.sessions) == 1
    door.turn()
    assert len(door.sessions) == 1
    if how == "logged in":
        door.sessions[0].user = "alice"
    elif how == "failed":
        door.sessions[0].failure = LoginFailure("alice", "no", is_refused=True)
    else:
        door.sessions[0].has_ended = True
    door.turn()
    assert len(door.sessions) == 2


def test_who_goes_away_while_it_waits_is_forgotten(door: Door) -> None:
    first, second, third = (door.arrive() for _ in range(3))
    door.turn()
    second.close()
    door.turn()
    door.sessions[0].user = "alice"
    door.turn()
    assert len(door.sessions) == 2
    door.sessions[1].user = "alice"
    door.turn()
    assert (len(door.sessions), len(door.selector.get_map())) == (2, 0)
    for sock in (first, third):  # now its session has the connection
        assert sock.recv(10) == b""


@pytest.mark.parametrize("door", [{"login_processes": 1, "max_startups": 2}], indirect=True)
def test_too_many_are_turned_away_with_an_alert(door: Door) -> None:
    door.arrive()
    door.turn()
    waiting, refused = door.arrive(), door.arrive()
    assert refused.recv(100) == Alert.INTERNAL_ERROR.record()
    assert refused.recv(100) == b""
    assert door.logins.make_room()
    assert waiting.recv(100) == Alert.INTERNAL_ERROR.record()
    assert not door.logins.make_room()


@pytest.mark.parametrize("door", [{"login_processes": 1, "login_timeout": 0.05}], indirect=True)
def test_who_has_waited_for_too_long_is_turned_away(door: Door) -> None:
    door.arrive()
    door.turn()
    waiting = door.arrive()
    left = door.logins.time_left()
    assert left is not None
    time.sleep(left)
    door.turn()
    assert waiting.recv(100) == Alert.INTERNAL_ERROR.record()


@pytest.mark.parametrize("door", [{"use_tls": False}], indirect=True)
def test_without_encryption_there_is_no_alert(door: Door) -> None:
    door.fails = True
    sock = door.arrive()
    door.turn()
    assert sock.recv(100) == b""


@pytest.mark.parametrize("door", [{"login_processes": 1, "login_timeout": 0.05}], indirect=True)
def test_a_login_that_hangs_is_killed_and_its_place_is_free(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pserver.daemon.door.logins._GRACE_SECONDS", 0.1)
    with ExitStack() as stack:
        sleeper = Sleeper(stack, ["/bin/sh", "-c", "sleep 1000 & wait"])
        stack.enter_context(sleeper.started.control)
        stack.callback(os.close, sleeper.started.pidfd)
        process = psutil.Process(sleeper.process.pid)
        wait_until(lambda: len(process.children()) == 1, "its child")
        (child,) = process.children()
        os.kill(sleeper.process.pid, signal.SIGSTOP)  # it will never end the login itself
        door.arrive()
        door.turn()
        door.sessions[0].started = sleeper.started
        left = door.logins.time_left()
        assert left is not None
        assert 0 < left <= 0.15
        time.sleep(left)
        door.turn()
        assert sleeper.process.wait(DEADLINE) == -signal.SIGKILL
        wait_gone(child.pid)
    failure = door.sessions[0].failure
    assert failure is not None
    assert (failure.user, failure.is_refused, failure.has_proved) == ("alice", False, False)
    assert "hangs: its process has neither admitted nor refused the client in time" in caplog.text
    assert "audit failed-login from" in caplog.text
    door.arrive()
    door.turn()
    assert len(door.sessions) == 2


def fail(door: Door) -> None:
    """Start a login, and let it fail."""
    before = len(door.sessions)
    door.arrive()
    door.turn()
    assert len(door.sessions) == before + 1
    door.sessions[-1].failure = LoginFailure("alice", "no", is_refused=True)
    door.turn()


@pytest.mark.parametrize("door", [{"max_failures": 1}], indirect=True)
def test_after_a_failure_the_next_login_of_that_user_from_there_waits(door: Door) -> None:
    fail(door)
    door.arrive()
    door.turn()
    assert len(door.sessions) == 1
    left = door.logins.time_left()
    assert left is not None
    assert 0.5 < left <= 1.0
    door.arrive(user="bob")
    door.arrive("10.0.0.2")
    door.turn()
    assert len(door.sessions) == 3  # other clients still get in
    time.sleep(left)
    door.turn()
    assert len(door.sessions) == 4


@pytest.mark.parametrize("door", [{"max_failures": 2}], indirect=True)
def test_one_who_has_failed_has_one_login_at_a_time(door: Door) -> None:
    fail(door)
    fail(door)
    door.arrive()
    door.arrive()
    door.turn()
    left = door.logins.time_left()
    assert left is not None
    time.sleep(left)
    door.turn()
    door.turn()
    assert len(door.sessions) == 3


@pytest.mark.parametrize("door", [{"max_failures": 1}], indirect=True)
def test_after_many_failures_a_user_is_locked_out_there(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pserver.daemon.door.login_failures._FIRST_PAUSE", 60.0)
    for _ in range(9):
        waiting = door.arrive()
    door.turn()
    assert len(door.sessions) == 6
    door.sessions[0].failure = LoginFailure("alice", "no", is_refused=True)
    door.turn()
    assert waiting.recv(100) == Alert.ACCESS_DENIED.record()
    assert door.arrive().recv(100) == Alert.ACCESS_DENIED.record()
    assert (len(door.sessions), len(door.selector.get_map())) == (6, 0)


@pytest.mark.parametrize("later", [True, False])
def test_a_session_that_cannot_be_started_frees_its_place(
    door: Door, later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pserver")
    door.fails, door.fails_later = not later, later
    sock = door.arrive()
    door.turn()
    assert sock.recv(100) == Alert.INTERNAL_ERROR.record()
    why = "it ended at once" if later else "no more processes"
    assert f"cannot start a session: {why}" in caplog.text
    door.fails = door.fails_later = False
    door.arrive()
    door.turn()
    assert len(door.sessions) == 1


def test_a_fault_of_ours_frees_the_place(door: Door) -> None:
    door.fault = RuntimeError("a fault")
    sock = door.arrive()
    with pytest.raises(RuntimeError):
        door.turn()
    assert sock.recv(100) == Alert.INTERNAL_ERROR.record()
    door.fault = None
    door.arrive()
    door.turn()
    assert len(door.sessions) == 1


@pytest.mark.parametrize("door", [{"login_processes": 4}], indirect=True)
def test_who_has_left_a_login_gets_a_short_time_while_others_wait(door: Door) -> None:
    for _ in range(9):
        door.arrive()
    door.turn()
    assert len(door.sessions) == 3
    door.sessions[0].failure = LoginFailure("alice", "no proof in time", is_refused=False)
    door.sessions[1].has_ended = True
    door.turn()
    assert len(door.sessions) == 4
    door.arrive("10.0.0.2")
    door.turn()
    assert door.proof_seconds == [5.0, 5.0, 5.0, 1.0, 5.0]  # a client from another source does not wait


@pytest.mark.parametrize("door", [{"login_processes": 4}], indirect=True)
def test_who_knows_the_password_is_in_no_doubt_though_the_server_takes_no_session(door: Door) -> None:
    for _ in range(9):
        door.arrive()
    door.turn()
    for session in door.sessions[:2]:
        session.failure = LoginFailure("alice", "drained", is_refused=False, has_proved=True)
    door.turn()
    assert set(door.proof_seconds) == {5.0}
    assert len(door.sessions) == 5  # both places are taken again; doubtful logins would get only one
