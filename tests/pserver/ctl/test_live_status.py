"""The status of running servers, including a stopped one."""

import signal
import time
from pathlib import Path

import pytest

from pserver.ctl.live_status import live_server, live_servers
from pserver.system.pidfile import PidFile
from tests.support.places import use_private_places
from tests.support.servers import run_server
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)


def test_a_server_is_asked_and_one_that_is_stopped_is_listed_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        run_server(tmp_path / "run") as first,
        run_server(tmp_path / "run", f"--log-file={tmp_path / 'log'}") as second,
    ):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
        first.process.send_signal(signal.SIGSTOP)
        wait_until(
            lambda: "State:\tT" in Path(f"/proc/{first.process.pid}/status").read_text(), "the server to stop"
        )
        begin = time.monotonic()
        found = {server.name: server.status for server in live_servers()}
        assert time.monotonic() - begin < 10.0  # 2 s on an idle machine
        stopped = found[first.status["name"]]
        assert (stopped["answers"], stopped["cmd_port"]) == (False, first.cmd_port)
        assert "slots" not in stopped
        assert found[second.status["name"]] == second.status
        first.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "slots" in getattr(live_server(first.status["name"]), "status", {}), "its answer")


def test_one_that_starts_has_no_more_than_its_file() -> None:
    with PidFile("one"):
        server = live_server("one")
        assert server is not None
        assert server.status.keys() == {"name", "pid", "answers"}
    assert live_server("one") is None
    assert live_servers() == []
