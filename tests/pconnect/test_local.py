import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pconnect import (
    ConfigurationError,
    ConnectionLostError,
    local_network,
    network_get_info,
    precv,
    reval,
    start_local_network,
)
from pserver.ctl.asking import Question
from tests.support.waiting import wait_gone


def test_nodes_on_this_machine_that_end_with_the_block() -> None:
    with local_network(2) as net:
        infos = network_get_info(net)[1:]
        assert [info["host"] for info in infos] == ["local", "local"]
        assert [info["transport"] for info in infos] == ["unix", "unix"]
    wait_gone(*(info["pid"] for info in infos))
    assert net.closed


def test_closing_it_oneself_is_no_error() -> None:
    with local_network(1) as net:
        net.close()
        with pytest.raises(ConnectionLostError):
            reval("x", net)


def test_without_a_block_it_ends_when_it_is_closed() -> None:
    net = start_local_network(1)
    parent = "__import__('os').getppid()"  # of the engine; it ends with the server
    pids = [network_get_info(net)[1]["pid"], net.eval(parent).result(20)[0]]  # type: ignore[index]
    assert net.close() == []
    wait_gone(*pids)
    with pytest.raises(ConfigurationError, match="n must be an integer, and at least 1"):
        start_local_network(0)


@pytest.mark.slow
def test_options_are_those_of_pconnect() -> None:
    with local_network(1, max_message_bytes=12345) as net:
        reval("psend(sockets.mesh.limits.max_message_bytes, sockets[0])", net)
        assert precv(net[1], timeout=20) == 12345


@pytest.mark.slow
def test_slots_are_those_of_the_server() -> None:
    with local_network(1, slots=3) as net:
        folder = "__import__('os').environ['XDG_RUNTIME_DIR']"
        (path,) = Path(net.eval(folder).result(20)[0]).rglob("local-*.control")  # type: ignore[index]
        answer = Question(path, {"do": "status"}).answer(time.monotonic() + 20)
        assert answer["slots"] == {"total": 3, "used": 0}


@pytest.mark.parametrize("n", [0, 2.0, "two", None])
def test_at_least_one_engine(n: Any) -> None:
    with pytest.raises(ConfigurationError, match="n must be an integer, and at least 1"), local_network(n):
        pass


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": "5"}, "^local_network: timeout must be a non-negative number, not '5'$"),
        ({"timeout": None}, "^local_network: timeout must be a non-negative number, not None$"),
        ({"slots": "x"}, "^local_network: slots='x': it must be a whole number$"),
    ],
)
def test_options_of_a_wrong_type_are_named(options: Any, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error), local_network(1, **options):
        pass
    with pytest.raises(ConfigurationError, match=error):
        start_local_network(1, **options)


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_servers_run_on_linux_only(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    with monkeypatch.context() as patch, pytest.raises(ConfigurationError, match="servers run on Linux only"):
        patch.setattr("sys.platform", platform)
        start_local_network(1)


def test_a_server_that_has_no_time_to_start() -> None:
    with (
        pytest.raises(
            ConfigurationError, match=r"timed out after 0\.1 s waiting for the private server to start"
        ),
        local_network(1, timeout=0),
    ):
        pass


def test_other_servers_cannot_be_added() -> None:
    with local_network(1) as net:
        with pytest.raises(
            ConfigurationError, match=r"other servers \(127\.0\.0\.1:1\); connect to them with pconnect"
        ):
            net.add("127.0.0.1:1")
        assert net.add(net[1].host) == [2]


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_a_program_without_standard_streams(tmp_path: Path, closed: str) -> None:
    program = (
        "import pathlib, sys, pconnect\n"
        "with pconnect.local_network(1) as net: pathlib.Path(sys.argv[1]).write_text(str(net.eval('5').result(20)))"
    )
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program, str(tmp_path / "said")]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert (tmp_path / "said").read_text() == "[5]"


def make_module(folder: Path, source: str) -> None:
    (folder / "pserver").mkdir()
    (folder / "pserver" / "__init__.py").touch()
    (folder / "pserver" / "__main__.py").write_text(source)


def test_a_server_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_module(tmp_path, "raise SystemExit('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="could not be started: it left no log"), local_network(1):
        pass


def test_a_server_that_says_why_it_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = 'import socket, sys; socket.socket(fileno=int(sys.argv[-1])).send(b\'{"error": "no ports"}\\n\')'
    make_module(tmp_path, source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="could not be started: no ports"), local_network(1):
        pass


@pytest.mark.slow
def test_the_users_files_do_not_stand_in_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_module(tmp_path, "raise SystemExit('not the server')")
    monkeypatch.chdir(tmp_path)
    with local_network(1) as net:
        assert len(net) == 2
