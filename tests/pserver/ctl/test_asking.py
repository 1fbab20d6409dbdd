"""Requests to servers that answer, refuse, stay silent, or do not exist."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pconnect.link.local_link import listen
from pserver.ctl.asking import NoAnswerError, Question, ask, control_path
from pserver.system.pidfile import RunningServer
from srp_tools.errors import ConfigurationError
from tests.support.places import use_private_places
from tests.support.waiting import DEADLINE

ONE, TWO = RunningServer("one", 1, {}), RunningServer("two", 2, {})


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket, dict[str, object]], object]) -> Iterator[None]:
    """Run a server named one that calls a function for each request."""
    with listen(control_path("one")) as listener:

        def serve() -> None:
            with listener.accept()[0] as sock:
                answer(sock, json.loads(sock.makefile("rb").readline()))

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(DEADLINE)


def test_an_answer_may_be_long_and_come_in_parts() -> None:
    rows = [{"session": number, "user": "alice"} for number in range(20000)]

    def answer(sock: socket.socket, request: dict[str, object]) -> None:
        assert request == {"do": "sessions", "all": True}
        data = json.dumps({"ok": {"sessions": rows}}).encode() + b"\n"
        for begin in range(0, len(data), 50000):
            sock.sendall(data[begin : begin + 50000])

    with answering(answer):
        assert ask(ONE, {"do": "sessions", "all": True}, DEADLINE) == {"sessions": rows}


def test_a_refusal_is_an_error_with_its_words() -> None:
    with (
        answering(lambda sock, _: sock.sendall(b'{"error": "it is Sunday"}\n')),
        pytest.raises(ConfigurationError, match="it is Sunday"),
    ):
        ask(ONE, {"do": "stop"}, DEADLINE)


@pytest.mark.parametrize("said", [b"", b'{"ok"', b"[]\n", b'{"ok": 1}\n', b"\xff\n"])
def test_what_makes_no_sense_is_no_answer(said: bytes) -> None:
    with (
        answering(lambda sock, _: sock.sendall(said)),
        pytest.raises(NoAnswerError, match="closed the connection or sent an invalid answer"),
    ):
        ask(ONE, {"do": "stop"}, DEADLINE)


def test_one_that_is_silent_costs_the_deadline_and_no_more() -> None:
    with listen(control_path("one")):  # no process accepts, like a stopped server
        begin = time.monotonic()
        with pytest.raises(NoAnswerError, match="does not answer"):
            ask(ONE, {"do": "status"}, 0.2)
        assert 0.2 <= time.monotonic() - begin < 5.0


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(NoAnswerError, match=r"no server is listening on .*/two\.control"):
        ask(TWO, {"do": "status"})
    listen(control_path("two")).close()  # a killed server leaves its path behind
    with pytest.raises(NoAnswerError, match="Connection refused"):
        ask(TWO, {"do": "status"})


def test_a_request_is_short() -> None:
    with pytest.raises(ConfigurationError, match="at most 4096 bytes"):
        Question(control_path("one"), {"do": "kill", "what": "x" * 4096})


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--name"):
        control_path("../one")
