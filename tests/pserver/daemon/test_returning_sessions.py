"""The socket on which sessions return that have lost their daemon."""

import json
import math
import os
import resource
import selectors
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pserver.daemon import returning_sessions
from pserver.daemon.returning_sessions import Returned, ReturningSessions
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE, wait_until

FACTS = {
    "user": "alice", "network": "ab", "key": "01", "salt": "02", "node": 2, "peer": "10.0.0.1 port 5", "since": 1.5,
    "folder": "/tmp/x", "mark": 7, "detached": False,
}  # fmt: skip


class Place:
    """The socket, and the sessions that have returned."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o700)
        self.path = folder / "default.sessions"
        self.selector = selectors.DefaultSelector()
        self.back: list[tuple[Returned, int]] = []
        self.returning = ReturningSessions(self.path, self.selector, self._take)

    def _take(self, control: socket.socket, facts: Returned, pidfd: int, ends: Sequence[int]) -> None:
        control.close()
        for end in (pidfd, *ends):
            os.close(end)
        self.back.append((facts, len(ends)))

    def dial(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(self.path))
        sock.settimeout(DEADLINE)
        return sock

    def turn(self) -> None:
        for _ in range(3):
            for key, _ in self.selector.select(0.01):
                key.data()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.returning.close()
    made.selector.close()


def say(sock: socket.socket, words: Any, kinds: str = "psss") -> None:
    """Send a message with descriptors: p is this process, o another process, s a socket for messages, f a file."""
    own, other = os.pidfd_open(os.getpid()), os.pidfd_open(1)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, Path(os.devnull).open() as file:
        made = {"p": own, "o": other, "s": theirs.fileno(), "f": file.fileno()}
        socket.send_fds(sock, [json.dumps(words).encode()], [made[kind] for kind in kinds])
    os.close(own)
    os.close(other)


def test_a_session_comes_back(place: Place) -> None:
    before = open_files()
    with place.dial() as sock:
        place.turn()
        say(sock, {"back": FACTS | {"pid": os.getpid()}})
        place.turn()
    [(facts, ends)] = place.back
    assert (facts.pid, facts.user, facts.key, facts.salt) == (os.getpid(), "alice", b"\1", b"\2")
    assert (facts.node, ends) == (2, 3)
    assert open_files() == before


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ({"back": FACTS | {"pid": 1}}, "psss"),  # another process
        ({"back": FACTS}, "psss"),
        ({"back": FACTS | {"pid": os.getpid()}}, "pss"),
        ({"back": FACTS | {"pid": os.getpid()}}, "fsss"),
        ({"back": FACTS | {"pid": os.getpid()}}, "ssss"),
        ({"back": FACTS | {"pid": os.getpid()}}, "osss"),
        ({"back": FACTS | {"pid": os.getpid()}}, "pssf"),
        ({"back": FACTS | {"pid": os.getpid()}}, "pspp"),
        ({"back": FACTS | {"pid": os.getpid(), "key": "xy"}}, "psss"),
        ({"back": FACTS | {"pid": os.getpid(), "node": 0}}, "psss"),
        ({"back": FACTS | {"pid": os.getpid(), "node": math.inf}}, "psss"),
        ({"back": FACTS | {"pid": os.getpid(), "since": math.nan}}, "psss"),
        ({"back": FACTS | {"pid": os.getpid(), "since": 10**400}}, "psss"),
        *[
            ({"back": FACTS | {"pid": os.getpid(), "peer": peer}}, "psss")
            for peer in (
                "",
                5,
                "10.0.0.1",
                "10.0.0.1 port x",
                "10.0.0.1 port 5\naudit login",
                "10.0.0.1 port  5",
                "a port 5",
                "10.0.0.1 port 5 ",
                "this machine ",
                "10.0.0.1 port 70000",
                "10.0.0.1 port -1",
                "fe80::1%a b port 5",
            )
        ],
        ({"back": FACTS | {"pid": os.getpid(), "network": "a b"}}, "psss"),
        ({"back": []}, "psss"),
        ([], "psss"),
        (5, ""),
    ],
)
def test_what_makes_no_sense_is_refused(
    place: Place, words: Any, kinds: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = open_files()
    with place.dial() as sock:
        say(sock, words, kinds)
        place.turn()
        assert sock.recv(10) == b""
    assert place.back == []
    assert "not valid" in caplog.text
    assert open_files() == before


def test_one_that_says_nothing_keeps_nobody_waiting(place: Place) -> None:
    with place.dial(), place.dial() as other:
        place.turn()
        say(other, {"back": FACTS | {"pid": os.getpid()}})
        place.turn()
        assert len(place.back) == 1
    place.turn()


def test_one_that_says_nothing_is_closed(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(returning_sessions, "_SILENCE_SECONDS", 0.1)
    before = open_files()
    assert place.returning.time_left() is None
    with place.dial() as sock:
        place.turn()
        assert 0 <= (place.returning.time_left() or 0) <= 0.1
        wait_until(lambda: place.returning.time_left() == 0, "the deadline")
        place.returning.step()
        assert sock.recv(10) == b""
    assert place.returning.time_left() is None
    assert "timed out after 0.1 s waiting for its message" in caplog.text
    assert open_files() == before


def test_without_any_descriptor_they_wait(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with place.dial() as sock:
        say(sock, {"back": FACTS | {"pid": os.getpid()}})
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            place.turn()
            assert "returning sessions must wait: [Errno 24] Too many open files" in caplog.text
            assert place.selector.select(0.1) == []  # it does not spin
            assert 0 < (place.returning.time_left() or 0) <= 0.5
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        wait_until(lambda: place.returning.time_left() == 0, "the end of the pause")
        place.returning.step()
        place.turn()
    assert len(place.back) == 1
    assert len(caplog.records) == 1


def test_the_end_comes_in_a_pause(tmp_path: Path) -> None:
    made = Place(tmp_path)
    with made.dial():
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            made.turn()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        made.returning.close()
        made.selector.close()


def test_a_session_comes_back_where_the_path_was_removed(place: Place) -> None:
    place.path.unlink()
    place.returning.look_after_path()
    with place.dial() as sock:
        place.turn()
        say(sock, {"back": FACTS | {"pid": os.getpid()}})
        place.turn()
    assert len(place.back) == 1


def test_its_end_leaves_no_path(tmp_path: Path) -> None:
    before = open_files()
    made = Place(tmp_path)
    assert made.path.exists()
    made.returning.close()
    made.selector.close()
    assert not made.path.exists()
    assert open_files() == before


def test_a_server_that_cannot_listen_there_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with selectors.DefaultSelector() as selector:
        ReturningSessions(tmp_path / "none" / "x", selector, lambda *_: None).close()
    assert "its sessions cannot return to a new server: cannot listen" in caplog.text
