"""Calls of `prun-ssh`: the choice of the server, and the errors if there is none."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

MISSING = "127.0.0.9:1"  # nothing listens there


def ssh(user: Prun, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(SCRIPT.with_name("prun-ssh")), *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=DEADLINE,
        env=user.environment,
    )  # fmt: skip


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server], hosts=f"{server.host} {MISSING}") as user:
        yield user


def test_names_of_this_machine_mean_its_server(user: Prun, server: Server) -> None:
    for host in ("127.0.0.1", "localhost", f"ssh://localhost:{server.cmd_port}"):
        done = ssh(user, host, "echo", "here")
        assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")
    rows = [line.split()[:3] for line in user.run("--report").stdout.decode().splitlines()]
    assert ["prun-ssh", server.host, "3"] in rows


def test_a_missing_server_is_named_with_its_reason(user: Prun) -> None:
    done = ssh(user, "127.0.0.9", "ls")
    assert (done.returncode, done.stdout) == (255, "")
    assert done.stderr.startswith("prun-ssh: 127.0.0.9: ")
    assert "refused" in done.stderr


def test_without_any_server_it_fails_as_ssh_does(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server], hosts=MISSING) as user:
        done = ssh(user, "127.0.0.9", "ls")
        assert (done.returncode, done.stdout) == (255, "")
        assert done.stderr.startswith("prun-ssh: ")
        assert ssh(user, "-V").returncode == ssh(user, "-G", "any").returncode == 0


def test_wrong_words_are_refused_before_anything_runs(user: Prun) -> None:
    done = ssh(user, "-W", "a:1", "127.0.0.1")
    assert (done.returncode, done.stderr) == (
        255,
        "prun-ssh: -W host:port: prun-ssh forwards no ports or sockets\n",
    )
    assert ssh(user).stderr.startswith("prun-ssh: name a host; usage: ")


def test_the_user_of_the_network_may_be_named_and_no_other(user: Prun) -> None:
    assert ssh(user, f"{user.environment['PCONNECT_USER']}@127.0.0.1", "echo ok").stdout == "ok\n"
    done = ssh(user, "nobody-else@127.0.0.1", "echo ok")
    assert (done.returncode, done.stdout) == (255, "")
    assert "cannot switch to nobody-else" in done.stderr
