"""The daemon's handle on the starter, with another program in place of the starter."""

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pconnect import ConfigurationError
from pserver.starter import starter as starter_module
from pserver.starter.starter import Starter, StarterProcess
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE, wait_gone, wait_until

# Answers each request with its text, and with the number of descriptors that arrived.
_ECHO = """
import json, socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, ends, _, _ = socket.recv_fds(sock, 2**16, 2)
    if not data:
        break
    sock.send(json.dumps({"asked": json.loads(data), "ends": len(ends)}).encode())
"""


class Place:
    """A starter, and its messages."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.answers: list[Mapping[str, Any]] = []
        self.deaths = 0
        self.starter = Starter(selector, self.answers.append, self._count)

    def _count(self) -> None:
        self.deaths += 1

    @property
    def pid(self) -> int:
        assert self.starter.pid is not None
        return self.starter.pid

    def turn(self) -> None:
        for key, _ in self.selector.select(0.01):
            key.data()
        self.starter.step()

    def until(self, condition: Any, what: str) -> None:
        def look() -> bool:
            self.turn()
            return bool(condition())

        wait_until(look, what)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(starter_module, "_CODE", _ECHO)
    with selectors.DefaultSelector() as selector:
        made = Place(selector)
        yield made
        made.starter.close()


def test_what_is_asked_reaches_it_with_copies_of_the_descriptors(place: Place) -> None:
    place.starter.begin(100)
    place.starter.request({"a": 1}, [0, 1])
    place.starter.request({"b": 2})
    place.until(lambda: len(place.answers) == 2, "the answers")
    assert place.answers == [{"asked": {"a": 1}, "ends": 2}, {"asked": {"b": 2}, "ends": 0}]
    place.until(lambda: place.starter.time_left() is None, "the check whether it has read everything")


def test_what_is_asked_before_there_is_one_waits(place: Place) -> None:
    before = open_files()
    place.starter.request({"a": 1}, [0, 1])
    assert open_files() == before + 2
    place.starter.begin(100)
    place.until(lambda: place.answers, "the answer")
    assert open_files() == before + 1  # the socket


def test_a_killed_one_is_replaced_at_once(place: Place) -> None:
    place.starter.begin(100)
    first = place.pid
    os.kill(first, signal.SIGKILL)
    place.until(lambda: place.starter.pid not in {None, first}, "another starter")
    assert place.deaths == 1
    wait_gone(first)
    place.starter.request({"a": 1})
    place.until(lambda: place.answers, "the answer")


def test_the_more_often_they_die_the_longer_is_the_pause(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter_module, "_CODE", "")
    place.starter.begin(100)
    pauses = []
    for count in range(1, 4):
        place.until(lambda: place.deaths == count, "the death")  # noqa: B023 - called at once
        pauses.append(place.starter.time_left() or 0)
    assert [
        pause is not None and bound - 0.05 < pause <= bound
        for pause, bound in zip(pauses, (0, 0.1, 0.5), strict=True)
    ] == [True] * 3


def test_a_stopped_one_keeps_nobody_waiting_and_hears_everything_later(place: Place) -> None:
    place.starter.begin(100)
    before = open_files()
    os.kill(place.pid, signal.SIGSTOP)
    for number in range(600):  # more than its socket has room for
        place.starter.request({"n": number}, [0])
    assert open_files() > before
    os.kill(place.pid, signal.SIGCONT)
    place.until(lambda: len(place.answers) == 600, "the answers")
    assert [answer["asked"]["n"] for answer in place.answers] == list(range(600))
    assert open_files() == before


def test_a_stopped_one_is_replaced_and_the_next_hears_what_nobody_would_ask_for_again(place: Place) -> None:
    place.starter.begin(100)
    stopped = place.pid
    place.starter.request({"read": 1})
    place.until(lambda: place.answers and place.starter.time_left() is None, "the starter to read everything")
    os.kill(stopped, signal.SIGSTOP)
    begin = time.monotonic()
    place.starter.request({"a": 1})
    place.starter.request({"b": 2}, [0])
    place.starter.request({"c": 3})
    place.until(lambda: len(place.answers) == 3, "the answers")
    assert 0.5 <= time.monotonic() - begin < DEADLINE
    assert [answer["asked"] for answer in place.answers[1:]] == [{"a": 1}, {"c": 3}]
    wait_gone(stopped)


def test_one_that_is_slow_is_not_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter_module, "_CHECK_SECONDS", 0.01)
    monkeypatch.setattr(starter_module, "_CODE", "import time\ntime.sleep(0.5)" + _ECHO)
    place.starter.begin(100)
    slow = place.pid
    place.starter.request({"a": 1})
    place.until(lambda: place.answers, "the answer")
    assert (place.pid, place.deaths) == (slow, 0)


def test_one_that_hangs_can_be_replaced(place: Place) -> None:
    place.starter.begin(100)
    hung = place.pid
    os.kill(hung, signal.SIGSTOP)
    place.starter.replace()
    place.until(lambda: place.starter.pid not in {None, hung}, "another starter")


def test_without_descriptors_it_is_tried_again_later(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        place.starter.begin(100)
        with pytest.raises(OSError, match="Too many open files"):
            place.starter.request({"a": 1}, range(3))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot start the process" in caplog.text
    place.starter.request({"a": 1})
    place.until(lambda: place.answers, "the answer")


def test_its_end_leaves_nothing(place: Place) -> None:
    before = open_files()
    place.starter.request({"a": 1}, [0])
    place.starter.begin(100)
    place.starter.request({"b": 1}, [0])
    pid = place.pid
    place.starter.close()
    wait_gone(pid)
    assert open_files() == before
    assert not place.selector.get_map()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("", "ended on startup, with exit status 0"),
        ("import os; os.kill(os.getpid(), 9)", "ended on startup, with SIGKILL"),
        (
            "import time; time.sleep(60)",
            "timed out after 0.1 s waiting for the process that starts sessions to get ready",
        ),
    ],
)
def test_one_that_never_is_ready_is_an_error(monkeypatch: pytest.MonkeyPatch, code: str, why: str) -> None:
    monkeypatch.setattr(starter_module, "_CODE", code)
    before = open_files()
    starter = StarterProcess(100)
    with pytest.raises(ConfigurationError, match=why):
        starter.await_ready(0.1 if "sleep" in code else DEADLINE)
    starter.close()
    starter.close()
    wait_gone(starter.pid)
    assert open_files() == before


_REAL = """
import sys
from pserver.starter.starter import StarterProcess
starter = StarterProcess(100)
print(sorted({"numpy", "tlslite"} & set(sys.modules)))
starter.close()
"""


def test_the_daemon_loads_nothing_for_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _REAL], capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_real_one_ends_with_its_socket() -> None:
    process = StarterProcess(100)
    process.sock.send(json.dumps({"remove": "/nowhere/at/all", "mark": 0, "uid": None}).encode())
    process.close()
    wait_gone(process.pid)
