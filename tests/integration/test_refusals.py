"""A server that accepts no new session gives the reason within the login."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConnectError, MissingHostsWarning, ServerRefusedError
from srp_tools.credentials import Credentials
from tests.support.hellos import hello_of
from tests.support.networks import assert_works
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(params=[True, False], ids=["TLS", "plain"])
def full(request: Any, tmp_path: Path, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server for one session at a time."""
    with run_server(tmp_path, "--max-sessions=1", users=users, use_tls=request.param) as running:
        yield running


def why(server: Server) -> str:
    name = server.status["name"]
    limit = "it has reached the session limit set by its administrator: 1 of 1 (--max-sessions)"
    return f"server {name} accepts no new session now: {limit}"


def test_the_client_reads_why_and_is_let_in_later(full: Server) -> None:
    with full.connect(2) as net:  # further nodes belong to the same session
        with pytest.raises(ServerRefusedError) as caught:
            full.connect(2)
        assert str(caught.value) == f"could not connect to {full.host}: {why(full)}"
        assert_works(net)
    wait_until(lambda: not full.status_now()["sessions"], "the end of the session")
    with full.connect() as net:
        assert_works(net)


def test_a_refusal_is_audited_and_is_no_failed_login(full: Server) -> None:
    with full.connect():
        for _ in range(6):  # after this many wrong passwords, a client would have to wait
            with pytest.raises(ServerRefusedError):
                full.connect()

    def found() -> list[str]:
        return [line for line in full.log.splitlines() if "audit refused from" in line and why(full) in line]

    # The last client may get its answer before the session has notified the daemon.
    wait_until(lambda: len(found()) >= 6, "the lines of the log")
    lines = [line for line in full.log.splitlines() if "audit " in line and " login " not in line]
    refused = found()
    assert len(refused) == 6
    assert all('user="alice"' in line for line in refused) or not full.use_tls
    assert not any("audit failed-login" in line for line in lines)


def test_each_host_is_named_with_its_reason_and_may_be_missing(
    full: Server, tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    folder = tmp_path / "other"
    with run_server(folder, users=users, use_tls=full.use_tls) as other, full.connect():
        hosts = [other.host, full.host]
        with pytest.raises(ServerRefusedError, match=r"--max-sessions"):
            connect([full], hosts=hosts)
        with pytest.raises(ConnectError) as caught:
            connect([full], hosts=[full.host, "127.0.0.1:1"])
        assert isinstance(caught.value.reasons[full.host], ServerRefusedError)
        assert set(caught.value.reasons) == {full.host, "127.0.0.1:1"}
        with (
            pytest.warns(MissingHostsWarning, match="--max-sessions"),
            connect([full], hosts=hosts, required=False) as net,
        ):
            assert_works(net)
            assert list(net.missing) == [full.host]


# Six clients, forked from a process that has loaded the library. Each one reports that it is ready, logs in when it can
# read a byte, reports the outcome, and stays until its standard input ends.
_CLIENTS = """
import os, sys
from pconnect import ParallelError, pconnect
children = []
while len(children) < 6 and (not children or children[-1]):
    children.append(os.fork())
if children[-1]:
    os.close(0)
    for child in children:
        os.waitpid(child, 0)
    sys.exit()
os.write(1, b"ready\\n")  # with one call, unlike `print`
os.read(0, 1)
try:
    net = pconnect(sys.argv[1], user=sys.argv[2], password=sys.argv[3], profile="", timeout=40)
    said = "in"
except ParallelError as error:
    said = f"{type(error).__name__} {error}"
os.write(1, f"{said}\\n".encode())
os.read(0, 1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--max-sessions=2", "--max-sessions-per-user=2", "--serve=2"])
def test_no_more_are_let_in_when_many_log_in_at_once(
    tmp_path: Path, users: tuple[Credentials, Path], option: str
) -> None:
    with run_server(tmp_path, option, users=users) as server:
        words = [server.host, server.credentials.user, server.credentials.password]
        clients = subprocess.Popen(
            [sys.executable, "-c", _CLIENTS, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with clients:
            check_six_clients(clients, server, option)


def check_six_clients(clients: "subprocess.Popen[str]", server: Server, option: str) -> None:
    assert clients.stdin is not None and clients.stdout is not None
    assert [clients.stdout.readline() for _ in range(6)] == ["ready\n"] * 6
    clients.stdin.write("123456")
    clients.stdin.flush()
    said = [clients.stdout.readline().strip() for _ in range(6)]
    assert said.count("in") == 2
    assert all(each.startswith("ServerRefusedError ") for each in said if each != "in"), said
    assert all(option.partition("=")[0] in each for each in said if each != "in"), said
    server.wait_for_log("audit refused ", 4)
    server.wait_for_log("audit login ", 2)
    assert server.log.count("audit login ") + server.log.count("audit refused ") == 6
    clients.stdin.close()


def test_strangers_do_not_count_as_sessions(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    """Clients that name a user but prove nothing do not keep out clients with a proof."""
    with run_server(tmp_path, "--serve=1", users=users) as server:
        with socket.create_connection(("127.0.0.1", server.cmd_port), DEADLINE) as stranger:
            stranger.sendall(hello_of("alice"))
            assert stranger.recv(1)  # its login continues
            with server.connect() as net:
                assert_works(net)
        assert server.process.wait(DEADLINE) == 0
