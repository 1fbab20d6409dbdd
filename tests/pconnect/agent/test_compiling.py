import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.programs import program
from tests.support.prun import Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import wait_until

SOURCE = '#include <stdio.h>\n#include "own.h"\nint f(int x) { printf("%d\\n", x); return OWN * x; }\n'


@pytest.fixture
def user(tmp_path: Path, server: Server) -> Iterator[Prun]:
    """Return a user with a source file. The server must not use the folder, although it has it."""
    (tmp_path / "own.h").write_text("#define OWN 2\n")
    (tmp_path / "a.c").write_text(SOURCE)
    with prun_user(tmp_path / "user", [server]) as user:
        user.folder = tmp_path
        yield user


@pytest.fixture(scope="module")
def gcc() -> str:
    return os.path.realpath(program("gcc", "gcc"))


def here(gcc: str, folder: Path, *words: str) -> bytes:
    """Compile without a stand-in and return the object."""
    subprocess.run([gcc, *words, "-o", "here.o"], cwd=folder, check=True, umask=0o022)
    return (folder / "here.o").read_bytes()


def test_objects_are_those_of_this_machine(user: Prun, gcc: str, server: Server) -> None:
    for options in (["-O2"], ["-g", "-O1"], ["-g3"], ["-MD", "-DX=1", "-I."]):
        done = user.run("--shadow", gcc, *options, "-c", "a.c", umask=0o022)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        made = (user.folder / "a.o").read_bytes()
        assert made == here(gcc, user.folder, *options, "-c", "a.c"), options
    assert (user.folder / "a.d").read_text().startswith("a.o: a.c")
    lines = user.run("--report").stdout.decode().splitlines()
    assert any(line.split()[1] == server.host for line in lines)


def test_files_have_the_permissions_of_the_caller(user: Prun, gcc: str) -> None:
    for mask in (0o022, 0o077, 0o002):
        user.run("--shadow", gcc, "-MD", "-c", "a.c", umask=mask)
        modes = {(user.folder / name).stat().st_mode & 0o777 for name in ("a.o", "a.d")}
        assert modes == {0o666 & ~mask}
        (user.folder / "a.o").unlink()
        (user.folder / "a.d").unlink()


def test_a_mistake_in_the_source_is_said_once_and_is_final(user: Prun, gcc: str) -> None:
    (user.folder / "a.c").write_text('#include "own.h"\nint x = OWN OWN;\n')
    expected = subprocess.run([gcc, "-c", "a.c"], cwd=user.folder, capture_output=True, check=False)
    done = user.run("--shadow", gcc, "-c", "a.c")
    assert (done.returncode, done.stderr) == (expected.returncode, expected.stderr)
    assert not (user.folder / "a.o").exists()
    assert b" here " not in user.run("--report").stdout
    (user.folder / "a.c").write_text('#include "missing.h"\n')
    done = user.run("--shadow", gcc, "-c", "a.c")
    assert done.returncode == 1 and b"missing.h: No such file or directory" in done.stderr
    lines = user.run("--report").stdout.decode().splitlines()
    assert [f"{Path(gcc).name} here 1 the preprocessor reported an error"] == [
        " ".join(line.split()) for line in lines if " here " in line
    ]


def test_all_but_compile_steps_stays_here(user: Prun, gcc: str) -> None:
    (user.folder / "main.c").write_text("int main(void) { return 0; }\n")
    assert user.run("--shadow", gcc, "main.c", "-o", "main").returncode == 0
    assert subprocess.run([user.folder / "main"], check=False).returncode == 0
    assert b" here " in user.run("--report").stdout


def test_an_interrupt_ends_a_step_and_leaves_no_object(user: Prun, gcc: str) -> None:
    user.run("true")
    lines = "".join(f"int f{number}(int x) {{ return x * {number}; }}\n" for number in range(30_000))
    (user.folder / "long.c").write_text(lines)
    with user.start("--shadow", gcc, "-O2", "-c", "long.c", cwd=user.folder) as process:
        wait_until(lambda: b"1 program is" in user.run("--agent", "status").stdout, "the step to begin")
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT
    wait_until(lambda: b"0 programs" in user.run("--agent", "status").stdout, "the step to end")
    assert not (user.folder / "long.o").exists()


def test_another_compiler_is_not_used(user: Prun, gcc: str) -> None:
    other = user.folder / "other"
    other.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "gcc (Other) 1.0" || echo 1.0\n')
    other.chmod(0o755)
    user.write_rules(f'[[rule]]\nmatch = "*gcc*"\ncommand = "{other}"\n')
    assert user.run("--shadow", gcc, "-c", "a.c").returncode == 0  # it runs here
    reasons = [line for line in user.run("--report").stdout.splitlines() if b"objects would differ" in line]
    assert reasons and all(len(line) - line.index(b"objects") <= 60 for line in reasons)
    done = user.run("--no-local", "--shadow", gcc, "-c", "a.c")
    assert done.returncode == 125
    assert b"is (Other) 1.0 for 1.0 with 1.0, specs" in done.stderr


def write_slow(user: Prun, gcc: str, condition: str) -> str:
    """Make a compiler that logs calls with a certain condition and pauses them until `go` exists; return its name."""
    folder, name = user.folder, user.folder / "slow-gcc"
    name.symlink_to(gcc)
    there = folder / "there"
    wait = f'echo begin >> {folder}/log; until [ -e {folder}/go ]; do sleep 0.02; done; {gcc} "$@"; status=$?'
    there.write_text(
        f'#!/bin/sh\nif {condition}; then {wait}; echo end >> {folder}/log; exit $status; fi\nexec {gcc} "$@"\n'
    )
    there.chmod(0o755)
    user.write_rules(
        f'[[rule]]\nmatch = "*slow-gcc"\ncommand = "{there}"\ncompiler = true\nor_local = false\nconcurrency = 1\n'
    )
    return str(name)


def test_an_interrupt_says_nothing_of_the_compiler_there(user: Prun, gcc: str) -> None:
    slow = write_slow(user, gcc, '[ "$1" = --version ]')
    with user.start("--no-local", "--shadow", slow, "-c", "a.c") as process:
        wait_until((user.folder / "log").exists, "the compiler there to be asked")
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT
    (user.folder / "go").touch()
    done = user.run("--no-local", "--shadow", slow, "-c", "a.c")
    assert (done.returncode, done.stderr) == (0, b"")


def test_who_asks_for_a_compiler_keeps_nobody_waiting(two_slots: Server, tmp_path: Path, gcc: str) -> None:
    (tmp_path / "a.c").write_text("int x;\n")
    with prun_user(tmp_path / "user", [two_slots]) as user:
        user.folder = tmp_path
        slow = write_slow(user, gcc, '[ "$1" = --version ]')
        assert user.run("--no-local", "--shadow", gcc, "-c", "a.c").returncode == 0
        with user.start("--no-local", "--shadow", slow, "-c", "a.c") as process:
            wait_until((tmp_path / "log").exists, "the compiler there to be asked")
            assert user.run("--no-local", "--shadow", gcc, "-c", "a.c").returncode == 0
            assert process.poll() is None
            (tmp_path / "go").touch()
            assert process.wait() == 0


def test_so_many_steps_at_once_as_a_rule_says(two_slots: Server, tmp_path: Path, gcc: str) -> None:
    (tmp_path / "a.c").write_text("int x;\n")
    with prun_user(tmp_path / "user", [two_slots]) as user:
        user.folder = tmp_path
        step = (
            "--no-local",
            "--shadow",
            write_slow(user, gcc, 'case "$1" in --version|-dump*|-Wa,*) false; esac'),
        )
        with user.start(*step, "-c", "a.c", "-o", "1.o") as first:
            wait_until((tmp_path / "log").exists, "the step to begin")
            with user.start(*step, "-c", "a.c", "-o", "2.o") as second:
                wait_until(
                    lambda: b"2 programs are" in user.run("--agent", "status").stdout, "the other to come"
                )
                assert user.run("--no-local", "--shadow", gcc, "-c", "a.c").returncode == 0
                (tmp_path / "go").touch()
                assert (first.wait(), second.wait()) == (0, 0)
    assert (tmp_path / "log").read_text().split() == ["begin", "end"] * 2


def test_a_step_waits_no_longer_for_a_slot_than_it_may(one_slot: Server, tmp_path: Path, gcc: str) -> None:
    (tmp_path / "a.c").write_text("int x;\n")
    step = "--shadow", gcc, "-c", "a.c"
    with prun_user(tmp_path / "user", [one_slot]) as user:
        user.folder = tmp_path
        for is_known in (False, True):
            with user.start("sh", "-c", "echo ready; cat") as busy:
                assert busy.stdout is not None and busy.stdin is not None
                busy.stdout.readline()
                done = user.run("--queue-timeout", "0.3", "--no-local", *step)
                assert (done.returncode, done.stdout) == (124, b""), is_known
                assert (
                    b"timed out after 0.3 s waiting for a free slot\n" in done.stderr
                    and b"1 of 1 in use" in done.stderr
                )
                assert not (tmp_path / "a.o").exists()
                assert user.run("--queue-timeout", "0.3", *step).returncode == 0
                assert b"waiting for a free slot" in user.run("--report").stdout
                busy.stdin.close()
            (tmp_path / "a.o").unlink()
            assert user.run("--queue-timeout", "30", "--no-local", *step).returncode == 0
            (tmp_path / "a.o").unlink()


def test_without_servers_it_is_done_here_or_refused(tmp_path: Path, server: Server, gcc: str) -> None:
    (tmp_path / "a.c").write_text("int x;\n")
    with prun_user(tmp_path / "user", [server], "127.0.0.1:1") as user:
        user.folder = tmp_path
        assert user.run("--shadow", gcc, "-c", "a.c").returncode == 0
        (tmp_path / "a.o").unlink()
        done = user.run("--no-local", "--shadow", gcc, "-c", "a.c")
        assert (done.returncode, b"127.0.0.1:1" in done.stderr) == (125, True)
        assert not (tmp_path / "a.o").exists()


@pytest.mark.slow
def test_many_steps_at_once(user: Prun, gcc: str) -> None:
    for number in range(24):
        shutil.copy(user.folder / "a.c", user.folder / f"s{number}.c")

    def step(number: int) -> bytes:
        done = user.run("--shadow", gcc, "-O2", "-c", f"s{number}.c")
        assert (done.returncode, done.stderr) == (0, b"")
        return (user.folder / f"s{number}.o").read_bytes()

    with ThreadPoolExecutor(12) as threads:
        made = list(threads.map(step, range(24)))
    assert made[7] == here(gcc, user.folder, "-O2", "-c", "s7.c")
