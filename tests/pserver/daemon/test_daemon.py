"""The daemon by itself; `tests.integration` tests it with clients."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pconnect import ConfigurationError, EngineDiedError, pconnect, reval
from pserver.daemon.daemon import serve
from pserver.system.pidfile import find_server
from tests.support.places import add_user, config, listens, use_private_places
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)
    add_user()


def never(_: dict[str, object]) -> None:
    pytest.fail("it announced itself")


def status_of(server: Server) -> dict[str, list[dict[str, object]]]:
    return server.status_now()


def test_it_loads_nothing_that_only_sessions_need() -> None:
    heavy = "{'numpy', 'tlslite', 'cryptography', 'msgpack'}"
    code = f"import pserver.daemon.daemon, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=DEADLINE
    )
    assert done.stdout == "set()\n"


def test_a_port_that_is_taken_is_named_and_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=rf"--cmd-port: .* port {port} .*: Address already in use"
        ):
            serve(config(cmd_port=port), never)
    assert find_server("default") is None


def test_a_second_server_of_the_same_name_is_refused(tmp_path: Path) -> None:
    with run_server(tmp_path / "first") as first, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PSERVER_RUNTIME_DIR", str(first.folder))
        with pytest.raises(ConfigurationError, match="is already running"):
            serve(config(name=str(first.status["name"])), never)
        assert listens(first.cmd_port)


def test_a_server_without_tls_says_so(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", use_tls=False) as server:
        assert server.status["bind"] == ["127.0.0.1"]
        assert server.status["use_tls"] is False
    assert "WITHOUT encryption and login" in server.log


@pytest.mark.slow
def test_sessions_come_and_go_in_the_status(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        assert status_of(server)["sessions"] == []
        with server.connect(2) as net:
            [session] = status_of(server)["sessions"]
            assert (session["user"], session["network"]) == ("alice", net.network_id)
            assert session["nodes"] == [1, 2]
        wait_until(lambda: status_of(server)["sessions"] == [], "the end of the session")
        server.wait_for_log("ended (exit status 0)")
        assert server.log.count("ended (exit status 0)") == 1


@pytest.mark.slow
def test_more_logins_than_places_wait_for_their_turn(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--login-processes=1") as server:
        names = [f"{name}:{server.cmd_port}" for name in ("127.0.0.1", "localhost", "127.1")]
        user, password = server.credentials.user, server.credentials.password
        with pconnect(names, user=user, password=password, timeout=DEADLINE) as net:
            assert len(server.sessions(net)) == 3  # a server with three names counts as three servers


def test_it_ends_with_its_lifeline_and_leaves_no_session(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server:
        net = server.connect(1)
    assert server.process.returncode == 0
    assert "its parent is gone" in server.log
    with pytest.raises(EngineDiedError, match="the server was stopped"):
        reval("x = 1", net).result(DEADLINE)
    net.close()
