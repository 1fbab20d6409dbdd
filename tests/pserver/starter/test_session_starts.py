"""Sessions that are being started, with a program of this test that follows instructions in place of the starter."""

import contextlib
import json
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pserver.config.limit_options import SessionLimits
from pserver.config.session_settings import SessionSettings
from pserver.starter import session_starts
from pserver.starter import starter as starter_module
from pserver.starter.session_starts import SessionStarts, Started
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE, wait_gone, wait_until

# Handles each session according to its `peer`.
_PROGRAM = """
import json, os, signal, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, ends, _, _ = socket.recv_fds(sock, 2**16, 2)
    if not data:
        break
    words = json.loads(data)
    number, what = words["session"], words["settings"]["peer"]
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "die once" and not os.path.exists(words["settings"]["kept"]):
        open(words["settings"]["kept"], "x").close()
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        signal.pause()
    if what == "refuse":
        sock.send(json.dumps({"failed": number, "why": "no memory"}).encode())
    elif what == "end early":
        sock.send(json.dumps({"ended": number, "code": 1}).encode())
    elif what.startswith("die after"):
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        sock.close()
        os.read(ends[0], 1)
    if what in {"start", "die once", "start and end", "die after fork"}:
        control = socket.socket(fileno=ends[1])
        here = json.dumps({"here": os.getpid()}).encode()
        socket.send_fds(control, [here], [os.pidfd_open(os.getpid())])
        control.detach()
    if what.startswith("say "):
        word, _, kind = what[4:].partition("#")
        control = socket.socket(fileno=ends[1])
        file = os.open("/dev/null", os.O_RDONLY)
        own = os.pidfd_open(os.getpid())
        socket.send_fds(control, [word.encode()], {"f": [file], "n": [], "p": [own], "pp": [own, own]}[kind])
        control.detach()
    if what == "start and end":
        sock.send(json.dumps({"ended": number, "code": 3}).encode())
    for end in ends:
        os.close(end)
"""


class Place:
    """Starts, and their outcomes."""

    def __init__(self, selector: selectors.BaseSelector, folder: Path) -> None:
        self.selector = selector
        self.starts = SessionStarts(selector)
        self.folder = folder
        self.started: list[Started] = []
        self.failed: list[str] = []

    def start(self, what: str) -> socket.socket:
        """Start a session; return the client's end of its connection."""
        client, sock = socket.socketpair()
        client.settimeout(DEADLINE)
        settings = SessionSettings(None, 1, [], 1.0, 1.0, None, what, "", self.folder / "mark", self.folder)
        self.starts.start(sock, settings, b"\x16", self.started.append, self.failed.append)
        return client

    def until(self, condition: Any, what: str) -> None:
        def look() -> bool:
            for key, _ in self.selector.select(0.01):
                if self.selector.get_map().get(key.fd) is key:
                    key.data()
            self.starts.step()
            return bool(condition())

        wait_until(look, what)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    monkeypatch.setattr(starter_module, "_CODE", _PROGRAM)
    with selectors.DefaultSelector() as selector:
        made = Place(selector, tmp_path)
        made.starts.starter.begin(100)
        yield made
        made.starts.close()
        for started in made.started:
            started.control.close()
            os.close(started.pidfd)


def test_a_session_that_starts(place: Place) -> None:
    before = open_files()
    with place.start("start"):
        assert len(place.starts) == 1
        place.until(lambda: place.started, "the session")
        [started] = place.started
        assert started.pid == place.starts.starter.pid
        assert len(place.starts) == 0
        assert open_files() == before + 3  # the client's connection, the control socket, and the pidfd
        assert place.failed == []


@pytest.mark.parametrize(
    ("what", "why"), [("refuse", "no memory"), ("end early", "it ended immediately (1)"), ("die", "has died")]
)
def test_one_that_does_not_costs_its_client_alone(place: Place, what: str, why: str) -> None:
    before = open_files()
    with place.start(what) as client, place.start("start"):
        place.until(lambda: place.failed and place.started, "both to be over")
        assert why in place.failed[0]
        assert client.recv(1) == b""
    assert (len(place.starts), len(place.started)) == (0, 1)
    assert open_files() <= before + 2  # descriptors left by earlier tests may be closed in the meantime


@pytest.mark.parametrize(
    "word",
    [
        "{#p",
        "[]#p",
        '{"here": "x"}#p',
        "null#p",
        '{"here": 5}#n',
        '{"here": 5}#f',
        '{"here": 5}#p',
        '{"here": 5}#pp',
    ],
)
def test_a_first_word_that_makes_no_sense_costs_its_client_alone(place: Place, word: str) -> None:
    before = open_files()
    with place.start(f"say {word}") as client, place.start("start"):
        place.until(lambda: place.failed and place.started, "both to be over")
        assert "no sense" in place.failed[0] or "no free descriptors" in place.failed[0]
        assert client.recv(1) == b""
    assert (len(place.starts), len(place.started)) == (0, 1)
    assert open_files() <= before + 2  # descriptors left by earlier tests may be closed in the meantime


def test_another_starter_gets_what_one_had_when_it_died(place: Place) -> None:
    first = place.starts.starter.pid
    with place.start("die once"):
        place.until(lambda: place.started, "the session")
        assert place.starts.starter.pid != first
        assert place.failed == []


def test_what_a_stopped_starter_has_not_read_goes_to_the_next(place: Place) -> None:
    first = place.starts.starter.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(place.start("start"))
        os.kill(first, signal.SIGKILL)
        place.until(lambda: len(place.started) == 3, "the sessions")
        assert place.failed == []
        wait_gone(first)


def test_a_session_that_was_forked_is_not_forked_again(place: Place) -> None:
    """The starter dies between the fork and the session's first message: the client is not handed over twice."""
    starter = place.starts.starter.pid
    with place.start("die after fork") as client:
        place.until(lambda: place.starts.starter.pid not in {None, starter}, "another starter")
        assert (len(place.starts), place.started) == (1, [])
        client.send(b"x")  # the session continues, and reports itself
        place.until(lambda: place.started, "the session")
        [started] = place.started
        assert started.pid not in {starter, place.starts.starter.pid}
        assert place.failed == []


def test_a_starter_that_hangs_is_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = place.starts.starter.pid
    monkeypatch.setattr(session_starts, "_START_SECONDS", 0.2)
    with place.start("hang") as client:
        place.until(lambda: place.failed, "the end of patience")
        assert place.failed == ["timed out after 0.2 s waiting for it to begin"]
        assert client.recv(1) == b""
    place.until(lambda: place.starts.starter.pid not in {None, hung}, "another starter")


@pytest.mark.parametrize("asked_first", [True, False])
def test_how_a_session_ended_is_told_once(place: Place, asked_first: bool) -> None:
    codes: list[int | None] = []
    with place.start("start and end" if not asked_first else "start"):
        place.until(lambda: place.started, "the session")
        [started] = place.started
        if asked_first:
            started.when_ended(codes.append)
            assert codes == []
            place.starts._on_answer({"ended": place.starts._last_number, "code": 3})
        else:
            place.until(lambda: place.starts._codes, "the exit code")
            started.when_ended(codes.append)
    assert codes == [3]
    started.when_ended(codes.append)
    assert codes == [3, None]


def test_nobody_knows_how_a_session_ended_whose_starter_is_gone(place: Place) -> None:
    codes: list[int | None] = []
    with place.start("start"), place.start("start"):
        place.until(lambda: len(place.started) == 2, "the sessions")
        first, second = place.started
        first.when_ended(codes.append)
        assert place.starts.starter.pid is not None
        os.kill(place.starts.starter.pid, signal.SIGKILL)
        place.until(lambda: codes, "the starter's end")
        second.when_ended(codes.append)
    assert codes == [None, None]


def test_settings_pass_as_they_are() -> None:
    settings = SessionSettings(
        Path("/a"),
        1,
        ["::1"],
        2.5,
        1.5,
        None,
        "10.0.0.1 port 5",
        "ä",
        Path("/k"),
        Path("/s"),
        Path("/l"),
        SessionLimits(nice=7),
    )
    assert SessionSettings.from_json(json.loads(json.dumps(settings.as_json()))) == settings
