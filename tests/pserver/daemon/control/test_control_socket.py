"""The control socket, with peers that are silent, flood it, do not read, or belong to another account."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pconnect.link.local_link import connect
from pserver.daemon.callback_selector import CallbackSelector
from pserver.daemon.control import control_socket
from pserver.daemon.control.control_socket import Asker, ControlSocket
from srp_tools.errors import ConfigurationError
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE

BIG = "x" * 2**20


def answer(request: Mapping[str, Any], asker: Asker) -> Mapping[str, object]:
    if request.get("do") == "refuse":
        raise ConfigurationError("not today")
    return {"request": request, "peer": str(asker), "big": BIG if request.get("do") == "big" else ""}


class Place:
    """A control socket and the loop of its daemon."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "one.control"
        self.selector = CallbackSelector()
        self.control = ControlSocket(self.path, self.selector, answer)

    def turn(self) -> None:
        self.selector.call_ready(0.01)
        self.control.step()

    def read(self, sock: socket.socket) -> bytes:
        """Return all data until the end."""
        sock.setblocking(False)
        data, deadline = b"", time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            self.turn()
            try:
                part = sock.recv(2**16)
            except BlockingIOError:
                continue
            except ConnectionResetError:  # the rest of the data was not read
                return data
            if not part:
                return data
            data += part
        raise AssertionError(f"no end after {data[:100]!r}")

    def ask(self, said: bytes) -> Any:
        with connect(self.path) as sock:
            sock.send(said)
            return json.loads(self.read(sock))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tmp_path.chmod(0o700)
    before = open_files()
    made = Place(tmp_path)
    yield made
    made.control.close()
    made.selector.close()
    assert open_files() == before
    assert not made.path.exists()


def test_one_request_has_one_answer(place: Place) -> None:
    assert place.path.stat().st_mode & 0o777 == 0o600
    told = place.ask(b'{"do": "x"}\n{"do": "y"}\n')
    asker = f"uid {os.geteuid()} from this machine process {os.getpid()}"
    assert told == {"ok": {"request": {"do": "x"}, "peer": asker, "big": ""}}
    assert place.ask(b'{"do": "refuse"}\n') == {"error": "not today"}


def test_a_request_may_come_byte_by_byte(place: Place) -> None:
    with connect(place.path) as sock:
        for byte in b'{"do": "x"}\n':
            sock.send(bytes([byte]))
            place.turn()
        assert json.loads(place.read(sock))["ok"]["request"] == {"do": "x"}


def test_a_long_answer_waits_for_a_slow_reader(place: Place) -> None:
    assert place.ask(b'{"do": "big"}\n')["ok"]["big"] == BIG


@pytest.mark.parametrize("said", [b"\n", b"[1]\n", b"\xff\xfe\n", b"[" * 4000 + b"\n"])
def test_nonsense_is_an_empty_request(place: Place, said: bytes) -> None:
    assert place.ask(said)["ok"]["request"] == {}


@pytest.mark.parametrize("said", [b"x" * 4096, b"x" * 4096 + b"\n", b'"' + b"x" * 100_000])
def test_a_request_has_a_limit(place: Place, said: bytes) -> None:
    assert "at most 4096 bytes" in place.ask(said)["error"]


def test_one_that_hangs_up_costs_nothing(place: Place) -> None:
    for said in (b"", b'{"do"', b'{"do": "big"}\n'):
        with connect(place.path) as sock:
            sock.send(said)
            place.turn()
    for _ in range(3):
        place.turn()
    assert place.control.time_left() is None


@pytest.mark.parametrize("said", [b"", b'{"do": "big"}\n'], ids=["says nothing", "reads nothing"])
def test_one_that_says_or_reads_nothing_is_closed(
    place: Place, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "_PATIENCE", 0.2)
    with connect(place.path) as sock:
        sock.send(said)
        deadline = time.monotonic() + DEADLINE
        place.turn()
        place.turn()
        assert place.control.time_left() is not None
        while place.control.time_left() is not None:
            place.turn()
            assert time.monotonic() < deadline


def test_a_flood_costs_the_oldest_its_place(place: Place) -> None:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(place.path)) for _ in range(40)]
        before = open_files()
        for _ in range(60):
            place.turn()
        assert open_files() <= before + 16
        assert place.read(socks[0]) == b""
        socks[-1].send(b'{"do": "x"}\n')
        assert b'"ok"' in place.read(socks[-1])


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_account_is_refused(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.path.parent.chmod(0o755)
    for folder in place.path.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    place.path.chmod(0o666)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setuid(12345)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(place.path))
                sock.send(b'{"do": "x"}\n')
                sock.settimeout(DEADLINE)
                with contextlib.suppress(ConnectionError):
                    code = len(sock.recv(100))
                    code = 0 if not code else 1
        finally:
            os._exit(code)
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        place.turn()
    assert "another account (uid 12345)" in caplog.text
    assert os.waitstatus_to_exitcode(ended[1]) in {0, 1}


def test_the_path_is_made_again(place: Place) -> None:
    place.path.unlink()
    place.control.look_after_path()
    assert "ok" in place.ask(b'{"do": "x"}\n')
