import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from pconnect.agent.shared import Shared
from srp_tools.credentials import Credentials
from tests.support.prun import prun_user
from tests.support.servers import Server, run_server
from tests.support.waiting import wait_until


def test_programs_run_on_the_servers_that_are_left(
    tmp_path: Path, server: Server, users: tuple[Credentials, Path]
) -> None:
    with (
        run_server(tmp_path / "second", users=users) as second,
        prun_user(tmp_path, [server, second]) as user,
    ):
        assert user.run("true").returncode == 0
        second.process.kill()
        second.process.wait()
        wait_until(lambda: b"2 (" in user.run("--agent", "status").stdout, "the loss to be noticed")
        for _ in range(4):
            assert user.run("--repeatable", "echo", "ran").stdout == b"ran\n"


def test_without_servers_it_says_so_or_runs_here(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server], "127.0.0.1:1") as user:
        done = user.run("echo", "not here")
        assert (done.returncode, done.stdout) == (125, b"")
        assert b"127.0.0.1:1" in done.stderr
        assert user.run("--or-local", "echo", "here").stdout == b"here\n"
        [mark] = (tmp_path / "run" / "prun").glob("*.offline")
        assert mark.exists()
        pid = user.agent()
        assert str(mark.readlink()) == f"/proc/{pid}"
        user.stop()
        assert not mark.is_symlink()


def test_what_is_heard_when_the_agent_ends_leaves_no_mark(tmp_path: Path) -> None:
    async def end() -> None:
        shared = Shared(tmp_path, "agent")
        shared.close(is_alone=True)
        shared._hear()

    asyncio.run(end())
    assert not list(tmp_path.iterdir())


def test_without_servers_make_gets_a_number(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server], "127.0.0.1:1") as user:
        done = user.run("--slots")
        assert (done.returncode, int(done.stdout)) == (0, len(os.sched_getaffinity(0)))
        assert done.stderr.startswith(b"prun: no server can be reached") and done.stderr.count(b"\n") == 1


def test_a_change_of_the_configuration_is_noticed_at_once(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server], "") as user:
        path = tmp_path / "config" / "pserver" / "client" / "pconnect.toml"
        path.parent.mkdir(mode=0o700, parents=True)
        told = f"prun: no server is configured; write to {path} a line such as hosts = [".encode()
        assert user.run("true").stderr.startswith(told)
        path.write_text(f'hosts = ["{server.host}"]\n')
        assert user.run("echo", "ran").stdout == b"ran\n"
        path.write_text(f'hosts = ["{server.host}*2"]\n')
        assert user.run("--on", "2", "echo", "ran").stdout == b"ran\n"


def test_a_changed_configuration_holds_also_while_its_servers_cannot_be_reached(
    tmp_path: Path, server: Server, users: tuple[Credentials, Path]
) -> None:
    with run_server(tmp_path / "second", users=users) as second:
        host, options = second.host, [f"--cmd-port={second.cmd_port}", f"--data-port={second.data_port}"]
    with prun_user(tmp_path, [server], "") as user:
        path = tmp_path / "config" / "pserver" / "client" / "pconnect.toml"
        path.parent.mkdir(mode=0o700, parents=True)
        path.write_text(f'hosts = ["{server.host}"]\n')
        assert user.run("true").returncode == 0
        path.write_text(f'hosts = ["{host}"]\n')
        for _ in range(2):
            done = user.run("echo", "ran")
            assert (done.returncode, done.stdout, host.encode() in done.stderr) == (125, b"", True)
        with run_server(tmp_path / "third", *options, users=users):
            wait_until(lambda: user.run("true").returncode == 0, "the server to be found")
            assert host.encode() in user.run("--report").stdout


def test_who_waits_for_servers_can_be_interrupted(tmp_path: Path, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with prun_user(tmp_path, [server], f"127.0.0.1:{port}") as user, user.start("true") as process:
            wait_until(lambda: bool(list((tmp_path / "run" / "prun").glob("*.sock"))), "the agent")
            silent.accept()[0].detach()  # by then, prun has installed its signal handlers
            process.send_signal(signal.SIGINT)
            assert process.wait() == -signal.SIGINT


@pytest.mark.slow
def test_a_server_that_comes_later_is_taken(
    tmp_path: Path, server: Server, users: tuple[Credentials, Path]
) -> None:
    with run_server(tmp_path / "second", users=users) as second:
        host, options = second.host, [f"--cmd-port={second.cmd_port}", f"--data-port={second.data_port}"]
    with prun_user(tmp_path, [server], f"{server.host} {host}") as user:
        assert user.run("true").returncode == 0
        assert user.run("--on", host, "true").returncode == 125
        with run_server(tmp_path / "third", *options, users=users):
            wait_until(lambda: user.run("--on", host, "true").returncode == 0, "the server to be found")
