import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.support.prun import Prun, prun_user
from tests.support.servers import Server, run_server

SHOW = ["sh", "-c", "echo $PPID"]


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    with (
        run_server(tmp_path_factory.mktemp("first"), "--slots=1", users=users) as first,
        run_server(tmp_path_factory.mktemp("second"), "--slots=1", users=users) as second,
    ):
        yield [first, second]


@pytest.fixture
def user(tmp_path: Path, servers: list[Server]) -> Iterator[Prun]:
    with prun_user(tmp_path, servers) as user:
        yield user


def hosts(user: Prun) -> list[str]:
    """Return the hosts that have run programs so far."""
    lines = user.run("--report").stdout.decode().splitlines()[1:]
    return [line.split()[1] for line in lines]


def test_a_program_runs_at_the_server_that_is_named(user: Prun, servers: list[Server]) -> None:
    for server in (servers[1], servers[0]):
        assert user.run("--on", server.host, "true").returncode == 0
        assert server.host in hosts(user)
    done = user.run("--on", "nowhere", "true")
    assert (done.returncode, b"no server is called 'nowhere'" in done.stderr) == (125, True)


def test_a_server_that_is_down_is_said_to_be_missing(tmp_path: Path, servers: list[Server]) -> None:
    with socket.socket() as bound:  # bound, but not listening
        bound.bind(("127.0.0.1", 0))
        check_missing(tmp_path, servers, f"127.0.0.1:{bound.getsockname()[1]}")


def check_missing(folder: Path, servers: list[Server], down: str) -> None:
    with prun_user(folder, servers[:1], f"{servers[0].host} {down}") as user:
        done = user.run("--on", down, "true")
        assert done.returncode == 125
        assert done.stderr.startswith(b"prun: %s is missing: " % down.encode())
        assert user.run("--or-local", "--on", down, "echo", "here").stdout == b"here\n"
        assert user.run("--on", down, "--on", servers[0].host, "echo", "there").stdout == b"there\n"
        assert b"is missing" in user.run("--explain", "--on", down, "true").stdout


def test_the_first_with_a_free_slot_is_taken(user: Prun, servers: list[Server]) -> None:
    for _ in range(3):
        user.run("--ordered", "--on", servers[1].host, "--on", servers[0].host, "true")
    assert hosts(user) == [servers[1].host]
    with user.start("--on", servers[1].host, "sh", "-c", "echo ready; cat") as busy:
        assert busy.stdout is not None and busy.stdin is not None
        busy.stdout.readline()
        done = user.run("--ordered", "--on", servers[1].host, "--on", servers[0].host, "echo", "ran")
        assert done.stdout == b"ran\n"
        busy.stdin.close()
    assert set(hosts(user)) == {servers[0].host, servers[1].host}


def test_a_condition_chooses(user: Prun) -> None:
    assert user.run("--accept", "memory>1M and cpus>=1", "echo", "ran").stdout == b"ran\n"
    done = user.run("--accept", "cpus>100000", "true")
    assert done.returncode == 125
    assert done.stderr.count(b"cpus is ") == 2
    assert user.run("--or-local", "--accept", "cpus>100000", "echo", "here").stdout == b"here\n"
    done = user.run("--accept", "cpus>>1", "true")
    assert (done.returncode, b"column" in done.stderr) == (125, True)


def test_who_waits_too_long_hears_what_each_server_does(user: Prun, servers: list[Server]) -> None:
    busy = []
    for server in servers:
        process = user.start("--on", server.host, "sh", "-c", "echo ready; cat")
        assert process.stdout is not None
        process.stdout.readline()
        busy.append(process)
    done = user.run("--queue-timeout", "0.3", "true")
    assert done.returncode == 124
    assert done.stderr.count(b"1 of 1 in use") == 2
    assert user.run("--queue-timeout", "0.3", "--or-local", "echo", "here").stdout == b"here\n"
    for process in busy:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    with process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
