"""Servers without TCP, like that of `local_network`: everything works over Unix sockets, for one account only."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

from pconnect import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    local_network,
    network_get_info,
    pconnect,
    precv,
    reval,
)
from pconnect.views.network_views import ClientNetwork
from pserver.cli import main
from tests.support.accounts import NOBODY, in_child, needs_root
from tests.support.prun import prun_user
from tests.support.servers import Server, connect, run_server
from tests.support.tcp_sockets import processes_with, tcp_sockets
from tests.support.waiting import DEADLINE, wait_gone, wait_until

LONG = "a-folder-whose-name-alone-is-so-long-that-no-socket-in-it-has-a-path-of-108-bytes-as-unix-7-wants-it-to-have-it"


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server without TCP."""
    folder = tmp_path_factory.mktemp("quiet") / LONG
    with run_server(folder, "--no-tcp", "--orphan-timeout=5") as server:
        yield server


def runtime_folder(net: ClientNetwork) -> str:
    values: Any = net[1].eval("__import__('os').environ['PSERVER_RUNTIME_DIR']").result(DEADLINE)
    return str(values)


def our_processes(net: ClientNetwork) -> dict[int, str]:
    found = processes_with("PSERVER_RUNTIME_DIR", runtime_folder(net))
    return found | {os.getpid(): "client"}


def test_a_local_network_has_no_tcp_socket_while_it_works() -> None:
    before = set(tcp_sockets([os.getpid()]))
    with local_network(2, slots=2) as net:
        infos = network_get_info(net)[1:]
        assert [(i["host"], i["transport"], i["cmd_port"], i["data_port"]) for i in infos] == [
            ("local", "unix", None, None)
        ] * 2
        assert stat.S_IMODE(Path(runtime_folder(net)).stat().st_mode) == 0o700
        # Engines that exchange arrays, workers with jobs, programs, joblib on top, and a restarted engine.
        reval("import numpy; psend(numpy.ones(200_000), sockets[3 - sockets.node])", net)
        reval("psend(precv(sockets[3 - sockets.node]).sum(), sockets[0])", net)
        assert [float(precv(each, timeout=DEADLINE)) for each in net[1:]] == [200_000.0] * 2
        with joblib.parallel_config("pserver", network=net):
            assert joblib.Parallel()(joblib.delayed(pow)(x, 2) for x in range(6)) == [x * x for x in range(6)]
        assert [done.stdout for done in net.run(["echo", "there"])] == [b"there\n"] * 2
        net[1].kill()
        net[1].restart()
        assert net.eval("sockets.node").result(DEADLINE) == [1, 2]
        waiting = [net.submit(input_from, Path(runtime_folder(net)) / "go") for _ in range(2)]
        wait_until(lambda: all(job.running() for job in waiting), "two running jobs")
        processes = our_processes(net)
        assert len(processes) >= 8  # daemon, starter, session, spawner, two engines, two workers
        assert set(tcp_sockets(processes)) - before == set()
        Path(runtime_folder(net), "go").touch()
        assert [job.result(DEADLINE) for job in waiting] == ["gone on"] * 2


def input_from(path: Path) -> str:
    import time

    deadline = time.monotonic() + 40.0
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    return "gone on" if path.exists() else "too late"


@pytest.mark.slow
def test_dask_is_what_opens_tcp_of_its_own() -> None:
    with local_network(1, slots=0) as net, net.dask() as client:
        assert client.submit(pow, 2, 5).result(DEADLINE) == 32
        pids = our_processes(net)
        dask = {pid for pid, name in pids.items() if "dask" in name}
        others = set(pids) - dask - {os.getpid()}
        assert tcp_sockets(dask, listening=True)
        assert not tcp_sockets(others)
        # Only the loopback interface.
        assert all(place.split()[1].startswith("0100007F:") for place in tcp_sockets(dask, listening=True))


@pytest.mark.slow
def test_without_local_links_a_local_network_has_loopback_ports() -> None:
    with local_network(1, slots=0, local_links=False) as net:
        assert net[1].transport == "tls"
        assert net[1].host.startswith("127.0.0.1:")


def test_a_server_without_tcp_by_its_path(quiet: Server) -> None:
    assert len(quiet.host) > 108
    with pconnect(
        [f"{quiet.host}*2"],
        user=quiet.credentials.user,
        password=quiet.credentials.password,
        timeout=DEADLINE,
    ) as net:
        assert [node.host for node in net] == ["client", quiet.host, quiet.host]
        assert net.submit(pow, 2, 5).result(DEADLINE) == 32
        pids = processes_with("PSERVER_RUNTIME_DIR", str(quiet.folder))
        assert len(pids) >= 5
        assert tcp_sockets(pids) == {}
    assert quiet.status_now()["cmd_port"] == 0


def test_its_login_is_one(quiet: Server) -> None:
    with pytest.raises(AuthenticationError):
        pconnect(quiet.host, user=quiet.credentials.user, password="wrong", timeout=DEADLINE)
    with pytest.raises(
        ConnectError, match="for processes of its account, machine and container, with local links"
    ):
        quiet.connect(1, local_links=False)


def test_no_server_at_a_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    for name in ("dead", "none"):
        with pytest.raises(
            ConnectError, match="no server is listening there; start one with pserver start --no-tcp"
        ):
            pconnect(f"unix:{tmp_path / name}", user="alice", password="secret", timeout=DEADLINE)


def test_something_else_at_a_path(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        other.listen()
        tmp_path.chmod(0o755)
        with pytest.raises(
            AuthenticationError, match="is open to others, so no socket in it is trusted: give"
        ):
            pconnect(f"unix:{tmp_path / 'other'}", user="alice", password="secret", timeout=DEADLINE)


@needs_root
def test_another_account_gets_nothing(quiet: Server) -> None:
    path = Path(quiet.status["socket"])
    # Bypasses the permissions of the test's folders.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)

    def attempt() -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            try:
                sock.connect(f"/proc/self/fd/{folder}/{path.name}")
                sock.send(b"\x16\x03\x01")
                return "something" if sock.recv(1) else "nothing"
            except OSError as error:
                return type(error).__name__

    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert in_child(NOBODY, attempt) == "PermissionError"
        path.parent.chmod(0o711)  # even so, the server checks the account of each client
        path.chmod(0o666)
        assert in_child(NOBODY, attempt) in {"nothing", "ConnectionResetError", "BrokenPipeError"}
        quiet.wait_for_log("user id 65534")
    finally:
        os.close(folder)
        path.parent.chmod(0o700)
        path.chmod(0o600)


@pytest.mark.slow
def test_prun_at_a_server_without_tcp(tmp_path: Path, quiet: Server) -> None:
    with prun_user(tmp_path, [quiet]) as user:
        assert user.run("echo", "there").stdout == b"there\n"


@pytest.mark.slow
def test_a_path_that_was_removed_is_made_again(quiet: Server) -> None:
    path = Path(quiet.status["socket"])
    path.unlink()
    wait_until(path.is_socket, "the path")
    with quiet.connect() as net:
        assert net.eval("1").result(DEADLINE) == [1]


@pytest.mark.slow
def test_detached_jobs_and_a_client_that_comes_back(quiet: Server, tmp_path: Path) -> None:
    login: dict[str, Any] = {"user": quiet.credentials.user, "password": quiet.credentials.password}
    net = quiet.connect()
    net.submit(pow, 2, 5)
    token = net.detach()
    with pconnect(recover=token, **login, timeout=DEADLINE) as back:
        assert [each.result(DEADLINE) for each in back.jobs.values()] == [32]
    file = tmp_path / "resume"
    first = connect([quiet], resume=file)
    reval("kept = 41", first)
    pid = network_get_info(first)[1]["pid"]
    with connect([quiet], resume=file, take_over=True) as second:
        assert second.resumed
        assert second.eval("kept + 1").result(DEADLINE) == [42]
    wait_gone(pid)
    first.close()


def test_without_hosts_the_error_names_local_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PCONNECT_HOSTS", raising=False)
    nothing: tuple[object, ...] = (None, [])
    for hosts in nothing:
        with pytest.raises(ConfigurationError, match="local_network"):
            pconnect(hosts)


def test_what_does_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--no-tcp", "--no-tls", "--allow-root"]) != 0
    assert "--no-tcp needs a login" in capsys.readouterr().err
