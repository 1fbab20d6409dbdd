import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, TRIES, wait_gone


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


def test_a_killed_agent_is_replaced(user: Prun) -> None:
    user.run("true")
    pid = user.agent()
    with user.start("sh", "-c", "echo ready; sleep 100") as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(pid, signal.SIGKILL)
        assert process.wait() == 125
        assert process.stderr is not None
        assert process.stderr.read().startswith(b"prun: the agent ended while the program was running")
    assert user.run("echo", "replaced").stdout == b"replaced\n"
    assert user.agent() not in {0, pid}


@pytest.mark.slow
def test_no_program_is_lost_when_an_agent_ends(user: Prun) -> None:
    def run(number: int) -> bytes:
        return user.run("--repeatable", "sh", "-c", f"sleep 0.2; echo {number}").stdout

    user.run("true")
    with ThreadPoolExecutor(20) as threads:
        outputs = threads.map(run, range(20))
        os.kill(user.agent(), signal.SIGKILL)
        assert list(outputs) == [b"%d\n" % number for number in range(20)]


def test_it_ends_when_nobody_calls(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server]) as user:
        user.environment["PRUN_IDLE"] = "0.1"
        assert user.run("echo", "a").stdout == b"a\n"
        pid = user.agent()
        if pid:
            wait_gone(pid)
        assert sorted(path.suffix for path in (tmp_path / "run" / "prun").iterdir()) == [".lock", ".log"]
        assert user.run("echo", "b").stdout == b"b\n"


def test_many_calls_at_once_start_one_agent(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server]) as user, ThreadPoolExecutor(8) as threads:
        pids = set(threads.map(lambda _: user.run("sh", "-c", "echo $PPID").stdout, range(8)))
        assert b"" not in pids
        assert len(list((tmp_path / "run" / "prun").glob("*.sock"))) == 1


def test_another_agent_sees_at_once_that_there_is_one(user: Prun) -> None:
    """The first calls of a ``make`` start many agents at the same time, and each call waits for its own agent."""
    user.run("true")
    seconds = []
    for _ in range(TRIES):
        begin = time.monotonic()
        command = [sys.executable, "-m", "pconnect.agent"]
        said = subprocess.run(
            command, env=user.environment, capture_output=True, check=True, timeout=DEADLINE
        )
        assert said.stdout == b"ready\n"
        seconds.append(time.monotonic() - begin)
        if seconds[-1] < 5:
            break
    assert min(seconds) < 5


def test_it_keeps_nothing_open_that_its_starter_had(tmp_path: Path, server: Server) -> None:
    """MPI launchers wait for the end of a pipe that all their child processes inherit."""
    read, write = os.pipe()
    with prun_user(tmp_path, [server]) as user:
        assert user.run("true", pass_fds=[write]).returncode == 0
        os.close(write)
        assert select.select([read], [], [], DEADLINE)[0], "the agent has the other end"
        assert os.read(read, 1) == b""
        assert user.agent()
    os.close(read)


def test_only_its_account_reaches_it(user: Prun) -> None:
    user.run("true")
    folder = user.folder / "run" / "prun"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_an_agent_whose_socket_was_removed_leaves_its_place_and_loses_no_program(
    tmp_path: Path, server: Server
) -> None:
    with prun_user(tmp_path, [server]) as user:
        user.run("true")
        pid = user.agent()
        with user.start("cat") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"before\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"before\n"
            [path] = (user.folder / "run" / "prun").glob("*.sock")
            path.unlink()
            assert user.run("echo", "new").stdout == b"new\n"
            assert user.agent() not in {0, pid}
            os.kill(pid, 0)
            assert process.communicate(b"after\n")[0] == b"after\n"
        assert process.returncode == 0
        wait_gone(pid)
        assert path.exists(), "the old agent has removed the socket of the new one"


def test_who_only_looks_is_no_program(user: Prun) -> None:
    user.run("true")
    assert user.run("--agent", "status").stdout.endswith(b"\n0 programs are running or waiting\n")


def test_it_is_no_child_of_the_program_that_runs_here(user: Prun) -> None:
    """Some programs wait for all their children."""
    user.stop()
    user.write_rules('[[rule]]\nmatch = "python3"\nwhere = "local"\n')
    script = "import os\ntry: print(os.waitpid(-1, os.WNOHANG))\nexcept ChildProcessError: print('none')"
    assert user.run("python3", "-c", script).stdout == b"none\n"
    user.write_rules("")
    assert user.agent()


def test_it_takes_as_many_calls_as_the_system_lets_it_have_descriptors(user: Prun) -> None:
    user.stop()
    line = f"ulimit -S -n 100; {SCRIPT} true"
    subprocess.run(["sh", "-c", line], env=user.environment, check=True, timeout=DEADLINE)
    soft, hard = resource.prlimit(user.agent(), resource.RLIMIT_NOFILE)
    assert soft == hard > 100
