"""The servers of this account, asked at their control sockets."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect.errors import ConfigurationError, ConnectionLostError
from pserver.ctl.live_status import ask_all
from pserver.ctl.sources import OwnServers, by_name
from pserver.system.pidfile import RunningServer
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_gone


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Run a server that the tests may stop."""
    with run_server(tmp_path_factory.mktemp("asked"), "--slots=1", "--name=same", users=users) as running:
        yield running


@pytest.fixture(autouse=True)
def places(asked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the server's run-time folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(asked.folder))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(asked.folder))


def test_own_servers_are_asked_and_missed_when_they_do_not_answer(asked: Server) -> None:
    source = OwnServers()
    [answer] = source.ask(DEADLINE)
    assert answer.name == "same" and answer.document
    assert answer.document["server"]["pid"] == asked.process.pid and "samples" not in answer.document
    [whole] = source.ask(DEADLINE, {})
    assert whole.document and whole.document["samples"]["rows"]
    [later] = source.ask(DEADLINE, {"same": whole.document["time"] + 1000})
    assert later.document and later.document["samples"]["rows"] == []
    os.kill(asked.process.pid, signal.SIGSTOP)
    try:
        [silent] = source.ask(0.2)
    finally:
        os.kill(asked.process.pid, signal.SIGCONT)
    assert (silent.document, silent.error, silent.answered_at) == (None, "does not answer", later.answered_at)
    source.close()


def test_sessions_of_one_of_them_are_ended(asked: Server) -> None:
    source = OwnServers("same")
    with asked.connect() as net:
        [session] = asked.sessions(net)
        with pytest.raises(ConfigurationError, match="there is no session '1'"):
            source.stop("same", 1)
        with pytest.raises(ConfigurationError, match="there is no server 'other'"):
            source.stop("other", 1)
        assert source.stop("same", session) == f"Ended session {session} of alice."
        wait_gone(session)
        with pytest.raises(ConnectionLostError):
            net.eval("1").result()
    assert OwnServers("other").ask(DEADLINE) == []


def test_a_server_that_has_gone_stays_in_the_list(
    asked: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = OwnServers()
    [before] = source.ask(DEADLINE)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(tmp_path))
    [gone] = source.ask(DEADLINE)
    assert (gone.name, gone.document, gone.error) == (before.name, None, "is not running")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(asked.folder))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(asked.folder))
    assert source.ask(DEADLINE)[0].error == ""


def test_servers_of_one_name_in_several_folders_are_all_there(asked: Server, tmp_path: Path) -> None:
    here = RunningServer("same", asked.process.pid, {})
    with run_server(tmp_path / "run", "--name=same") as other:
        [path] = other.folder.rglob("same.control")
        there = RunningServer("same", other.process.pid, {}, folder=path.parent)
        alone = RunningServer("other", 7, {}, folder=tmp_path)
        servers = by_name([here, there, alone])
        name = f"same ({other.process.pid})"
        assert servers == {"same": here, name: there, "other": alone}
        told = ask_all(servers, {key: {"do": "status"} for key in servers})
    pids = {key: facts["pid"] for key, facts in told.items()}
    assert pids == {"same": asked.process.pid, name: other.process.pid}
