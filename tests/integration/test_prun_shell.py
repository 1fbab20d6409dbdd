"""`prun` in shell lines and started without a shell: all kinds of streams, statuses and places."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


def shell(user: Prun, line: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run a line of a shell."""
    path = f"{SCRIPT.parent}:{user.environment['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        input=data,
        env=user.environment | {"PATH": path},
        cwd=user.folder,
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seq 3 > file; prun cat < file", "1 2 3"),
        ("seq 3 | prun tac | prun head -n 1", "3"),
        ("set -o pipefail; prun sh -c 'echo a; exit 3' | cat; echo $?", "a 3"),
        ("yes | prun head -n 1; echo ${PIPESTATUS[*]}", "y 141 0"),
        ("prun yes | head -n 1; echo ${PIPESTATUS[*]}", "y 141 0"),
        ("prun sh -c 'exit 7' & wait $!; echo $?", "7"),
        ("for i in 1 2 3 4 5 6 7 8; do prun echo $i & done | sort; wait", "1 2 3 4 5 6 7 8"),
        ("echo one > all; (prun echo two; echo three; prun echo four) >> all; cat all", "one two three four"),
        ("printf 'a\\nb\\n' | while read -r word; do prun -n echo $word; done", "a b"),
        ("printf 'a\\nb\\n' | xargs -n 1 prun echo got", "got a got b"),
        ("nohup prun echo outlives 2> /dev/null", "outlives"),
        ("timeout 0.5 prun sleep 1000; echo $?", "124"),
        ("echo $(prun echo a $(prun echo b))", "a b"),
        ("prun test -e /dev/null && prun test ! -e /dev/null || echo otherwise", "otherwise"),
    ],
)
def test_lines_of_a_shell(user: Prun, line: str, expected: str) -> None:
    done = shell(user, line)
    assert (done.stdout.decode().split(), done.stderr) == (expected.split(), b"")


@pytest.mark.parametrize(
    ("line", "status", "shown"),
    [
        ("prun sh -c 'echo error >&2; exit 4' >&-", 4, b"error\n"),
        ("prun sh -c 'echo out; exit 4' 2>&-", 4, b"out\n"),
        ("prun sh -c 'echo error >&2; exit 4' 2>&-", 4, b""),
        ("prun sh -c 'cat; exit 4' <&-", 4, b""),
        ("prun sh -c 'cat; exit 4' <&- >&- 2>&-", 4, b""),
        ("prun true >&-", 0, b""),
    ],
)
def test_closed_streams(user: Prun, line: str, status: int, shown: bytes) -> None:
    done = shell(user, line, b"not for it")
    assert (done.returncode, done.stdout + done.stderr) == (status, shown)


@pytest.mark.parametrize("rest", ["2>&1 | cat", "> both 2>&1; cat both", "2>&1 > out; cat out"])
def test_output_and_errors_in_one_stream_keep_their_order(user: Prun, rest: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo error $i >&2; done; exit 3"
    here, there = (shell(user, f"{front} sh -c '{script}' {rest}").stdout for front in ("", "prun"))
    assert there == here


def test_an_environment_with_nearly_nothing(user: Prun) -> None:
    names = ("PCONNECT_HOSTS", "PCONNECT_USER", "PCONNECT_PASSWORD", "XDG_RUNTIME_DIR", "PRUN_IDLE")
    few = {name: user.environment[name] for name in names}
    done = subprocess.run(
        [SCRIPT, "sh", "-c", 'test -n "$PATH" && echo "$PWD"'],
        env=few,
        cwd="/",
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE,
    )
    subprocess.run([SCRIPT, "--agent", "stop"], env=few, check=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"/\n", b"")


def test_without_hosts_it_says_what_to_do(user: Prun) -> None:
    none = {name: value for name, value in user.environment.items() if not name.startswith("PCONNECT_")}
    done = subprocess.run([SCRIPT, "true"], env=none, capture_output=True, check=False, timeout=DEADLINE)
    subprocess.run([SCRIPT, "--agent", "stop"], env=none, check=True, capture_output=True)
    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b": no server is configured; write to " in done.stderr


def test_a_folder_that_is_removed(user: Prun, tmp_path: Path) -> None:
    line = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; prun"
    done = shell(user, f"{line} pwd")
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"prun: the current folder was removed; name a folder on the server with --cd\n" in done.stderr
    assert shell(user, f"{line} --cd {tmp_path} pwd").stdout.decode() == f"{tmp_path}\n"


def test_long_lines_pass(user: Prun) -> None:
    data = b"x" * 2**20 + b"\n" + b"y" * 2**20
    assert user.run("cat", input=data).stdout == data
    assert user.run("grep", "-c", "x", input=data).stdout == b"1\n"


def test_sockets_are_streams_too(user: Prun) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = user.start(
            "sh", "-c", "cat; seq 100000; echo error >&2", stdin=theirs, stdout=theirs, stderr=theirs
        )
        theirs.close()
        ours.sendall(b"given\n")
        ours.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as stream:
            shown = stream.read().split()
        assert process.wait(DEADLINE) == 0
    assert shown[0] == b"given"
    assert sorted(shown[1:]) == sorted([b"error", *(b"%d" % number for number in range(1, 100_001))])


@pytest.mark.parametrize("writer", ["echo late", "echo early; sleep 0.5; echo late"])
def test_a_pipe_with_a_name_has_an_end(user: Prun, tmp_path: Path, writer: str) -> None:
    """Even if the data arrives before the agent has the pipe."""
    os.mkfifo(tmp_path / "pipe")
    done = shell(user, f"({writer}) > {tmp_path}/pipe & prun cat < {tmp_path}/pipe")
    assert done.stdout.endswith(b"late\n")
    assert done.returncode == 0
