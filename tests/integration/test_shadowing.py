"""Stand-ins with the real `prun`: remote and local programs, without endless recursion."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.programs import program
from tests.support.prun import Prun, prun_user
from tests.support.servers import Server
from tests.support.shadowing import make_program, names_in, pshadow, tree
from tests.support.waiting import DEADLINE

SOURCE = '#include <stdio.h>\nint main(void) { puts("hello"); return 3; }\n'


@pytest.fixture
def user(tmp_path: Path, two_servers: list[Server]) -> Iterator[Prun]:
    with prun_user(tmp_path / "user", two_servers) as user:
        yield user


@pytest.fixture
def unreachable(tmp_path: Path, two_servers: list[Server]) -> Iterator[Prun]:
    """Yield a user of a server that is not running."""
    with prun_user(tmp_path / "user", two_servers, hosts="127.0.0.1:1") as user:
        yield user


Call = Callable[..., "subprocess.CompletedProcess[str]"]


def caller(user: Prun, folder: Path) -> Call:
    """Return a function that runs a program in a folder, as a user does."""

    def call(*words: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            env=user.environment,
            cwd=folder,
        )

    return call


def places(user: Prun, name: str) -> dict[str, int]:
    """Return the number of runs of a program, here and remotely."""
    counts = {"here": 0, "away": 0}
    for line in user.run("--report").stdout.decode().splitlines():
        words = line.split()
        if words[0] == name:
            counts["here" if words[1] == "here" else "away"] += int(words[2])
    return counts


@pytest.mark.parametrize("how", ["folder", "in place"])
def test_a_compiler_compiles_away_and_links_here(user: Prun, tmp_path: Path, how: str) -> None:
    gcc = program("gcc", "gcc")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcc").symlink_to(gcc)
    before = tree(tmp_path / "bin")
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.c").write_text(SOURCE)
    call = caller(user, work)
    assert call(gcc, "-O2", "-g", "-c", "a.c", "-o", "here.o").returncode == 0
    if how == "folder":
        shadow, compiler = ["--dir", str(tmp_path / "stand-ins")], tmp_path / "stand-ins" / "gcc"
    else:
        shadow, compiler = ["--in-place", "--dir", str(tmp_path / "bin")], tmp_path / "bin" / "gcc"
    assert pshadow("on", *shadow, "gcc", environment=user.environment).returncode == 0
    done = call(compiler, "-O2", "-g", "-c", "a.c", "-o", "away.o")
    assert (done.returncode, done.stderr) == (0, "")
    assert (work / "away.o").read_bytes() == (work / "here.o").read_bytes()
    assert places(user, "gcc") == {"here": 0, "away": 1}
    assert call(compiler, "away.o", "-o", "a").returncode == 0
    assert call("./a").stdout == "hello\n"
    assert call(compiler, "-c", "a.c", "-E").stdout.endswith(SOURCE.splitlines()[1] + "\n")
    assert places(user, "gcc") == {"here": 0, "away": 1}  # the agent does not even know of these
    assert pshadow("off", *shadow, environment=user.environment).returncode == 0
    assert tree(tmp_path / "bin") == before


def test_any_program_finds_the_real_one_at_the_server(user: Prun, tmp_path: Path) -> None:
    """The servers see the same stand-in in the same place, and the program calls itself again by name."""
    script = f'#!/bin/sh\n[ "$1" = x ] || exec {tmp_path}/bin/tool x\necho "$PSERVER_SHADOW"; exit 5\n'
    (tmp_path / "bin").mkdir()
    make_program(tmp_path / "bin" / "tool").write_text(script)
    on = pshadow("on", "--in-place", "--dir", tmp_path / "bin", "tool", environment=user.environment)
    assert on.returncode == 0
    done = caller(user, tmp_path)(tmp_path / "bin" / "tool")
    assert (done.returncode, done.stdout, done.stderr) == (5, "tool\n", "")
    assert places(user, "tool") == {"here": 0, "away": 1}


def test_without_network_all_stays_and_the_agent_is_asked_no_more(unreachable: Prun, tmp_path: Path) -> None:
    tool = make_program(tmp_path / "bin" / "tool", "here")
    shadow = ["--dir", str(tmp_path / "stand-ins")]
    unreachable.write_rules("or_local = true\n")
    unreachable.environment["PATH"] = f"{tool.parent}:{os.environ['PATH']}"
    assert pshadow("on", *shadow, "tool", environment=unreachable.environment).returncode == 0
    call = caller(unreachable, tmp_path)
    done = call(tmp_path / "stand-ins" / "tool", "1")
    assert (done.stdout, done.stderr) == ("here\x001\0", "")
    asked = places(unreachable, "tool")
    assert asked == {"here": 1, "away": 0}
    assert [name for name in names_in(tmp_path / "user" / "run" / "prun") if name.endswith(".offline")] != []
    assert call(tmp_path / "stand-ins" / "tool", "2").stdout == "here\x002\0"
    assert places(unreachable, "tool") == asked


def test_without_network_nothing_runs_here_that_must_not(unreachable: Prun, tmp_path: Path) -> None:
    tool = make_program(tmp_path / "bin" / "tool", "here")
    shadow = ["--dir", str(tmp_path / "stand-ins"), "--no-local"]
    unreachable.write_rules("or_local = true\n")  # the stand-in's option comes first
    unreachable.environment["PATH"] = f"{tool.parent}:{os.environ['PATH']}"
    assert pshadow("on", *shadow, "tool", environment=unreachable.environment).returncode == 0
    for _ in range(2):
        done = caller(unreachable, tmp_path)(tmp_path / "stand-ins" / "tool")
        assert (done.returncode, done.stdout) == (125, "")
        assert "127.0.0.1:1" in done.stderr
