import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prun import FRONTS, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module", params=FRONTS)
def user(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: Server
) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        user.environment |= FRONTS[request.param]
        yield user


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15])
def test_signals_are_passed_on(user: Prun, number: int) -> None:
    script = f"trap 'echo got; exit 3' {number}; echo ready; while :; do sleep 0.05; done"
    with user.start("sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"got\n"
        assert process.wait() == 3


def test_a_program_that_a_signal_ends_has_its_status(user: Prun) -> None:
    with user.start("sh", "-c", "echo ready; exec sleep 100") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM


def test_it_stops_and_goes_on_with_its_caller(user: Prun) -> None:
    # The script starts no children: a shell that is starting one waits for the stopped child, and is not stopped.
    script = "trap 'echo continued; exit 0' CONT; echo $$; read line"
    with user.start("sh", "-c", script) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGTSTP)
        wait_until(lambda: state_of(pid) == "T" and state_of(process.pid) == "T", "both to stop")
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == b"continued\n"
        assert process.wait() == 0


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def is_gone(pid: int) -> bool:
    try:
        return state_of(pid) == "Z"
    except FileNotFoundError:
        return True


def test_a_program_and_its_children_end_with_the_caller(user: Prun) -> None:
    script = "trap '' TERM; setsid sleep 1000 & echo $! $$; sleep 1000"
    with user.start("sh", "-c", script) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        process.kill()
    wait_until(lambda: all(map(is_gone, pids)), "all to end")
    assert user.run("echo", "still there").stdout == b"still there\n"


@pytest.mark.parametrize(
    ("text", "stdin", "status"),
    [
        ("", subprocess.PIPE, 0),
        ("", subprocess.DEVNULL, 0),
        ("read line", subprocess.PIPE, 125),
        ("echo written", subprocess.DEVNULL, 125),
    ],
)
def test_a_repeatable_one_runs_again_unless_something_was_read_or_written(
    user: Prun, tmp_path: Path, text: str, stdin: int, status: int
) -> None:
    """The first run kills its worker, which looks like a lost server."""
    first = (
        f"if mkdir {tmp_path}/once 2>/dev/null; then {text or ':'}; sleep 0.3; kill -9 $PPID; fi; echo done"
    )
    with user.start("--repeatable", "sh", "-c", first, stdin=stdin) as process:
        output, said = process.communicate(b"line\n" if stdin == subprocess.PIPE and text else None, DEADLINE)
    assert (process.returncode, output.endswith(b"done\n")) == (status, not status), said
    assert status == 0 or b"died: SIGKILL" in said


def test_a_time_limit_has_its_status(user: Prun) -> None:
    done = user.run("--time-limit", "0.3", "sh", "-c", "echo begun; sleep 100")
    assert (done.returncode, done.stdout) == (124, b"begun\n")
    assert b"timed out after 0.3 s (time limit)" in done.stderr


def test_who_does_not_want_to_wait_for_a_stopped_agent_need_not(user: Prun) -> None:
    with user.start("sh", "-c", "echo ready; exec sleep 1000") as process:
        assert process.stdout is not None
        process.stdout.readline()
        agent = user.agent()
        os.kill(agent, signal.SIGSTOP)
        try:
            while process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
            assert process.returncode == -signal.SIGTERM
        finally:
            os.kill(agent, signal.SIGCONT)


def test_a_signal_ends_it_although_its_output_is_not_read(user: Prun) -> None:
    with user.start("yes") as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.terminate()
        assert process.wait(DEADLINE) == 128 + signal.SIGTERM


def test_one_that_goes_on_after_a_signal_keeps_a_reader_who_pauses(user: Prun) -> None:
    """For instance, a server that reloads its configuration on SIGHUP. Programs that end do not wait for readers."""
    script = "trap 'echo again' HUP; echo ready; read line; yes | head -c 20000000; echo end"
    with user.start("sh", "-c", script) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == b"again\n"
        process.stdin.write(b"go on\n")
        process.stdin.close()
        assert process.stdout.read(1) == b"y"
        time.sleep(2.5)  # longer than the grace period of readers after a terminating signal
        assert process.stdout.read().endswith(b"y\nend\n")
        assert process.wait() == 0
