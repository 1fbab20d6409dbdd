"""Administration of real servers while they run."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import EngineDiedError, ServerRefusedError, reval
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with run_server(tmp_path / "server", "--slots=2", f"--spool-dir={tmp_path / 'spool'}") as running:
        yield running


def pserver(server: Server, *words: str, check: int = 0) -> subprocess.CompletedProcess[str]:
    """Run an administrator's command."""
    done = subprocess.run(
        [sys.executable, "-m", "pserver", *words, "--name", str(server.status["name"])],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=os.environ | {"XDG_RUNTIME_DIR": str(server.folder)},
    )
    assert done.returncode == check, done
    return done


def rows(server: Server) -> list[dict[str, Any]]:
    return list(json.loads(pserver(server, "ctl", "sessions", "--json").stdout)["sessions"])


def test_the_table_of_sessions_and_the_end_of_one(server: Server) -> None:
    with server.connect() as other, server.connect(2) as net:
        reval("x = 1", net).result(DEADLINE)
        wait_until(lambda: max(row["commands"] for row in rows(server)) == 2, "the counts")
        pid = server.sessions(net)[0]
        [row] = [row for row in rows(server) if row["session"] == pid]
        assert (row["user"], row["nodes"], row["detached"], row["slots"]) == ("alice", [1, 2], False, 0)
        shown = pserver(server, "ctl", "sessions").stdout
        assert f"{pid}" in shown and "127.0.0.1 port" in shown
        assert pserver(server, "ctl", "kill", str(pid)).stdout == f"Ended session {pid} of user alice.\n"
        wait_gone(pid)
        with pytest.raises(
            EngineDiedError, match=r"an administrator of the server \(uid \d+\) ended this session"
        ):
            reval("x = 1", net[1]).result(DEADLINE)
        wait_until(lambda: len(rows(server)) == 1, "the end of that session")
        reval("x = 1", other).result(DEADLINE)
    server.wait_for_log('how="an administrator of the server')


def test_an_idle_session_says_so_and_one_that_computes_does_not(server: Server) -> None:
    with server.connect() as net:
        net.submit("lambda: 1").result(DEADLINE)
        wait_until(lambda: rows(server)[0]["idle"] > 1, "the session to be idle")
        command = reval("import time; time.sleep(1000)", net)
        wait_until(lambda: rows(server)[0]["idle"] == 0.0, "the report that the session is busy")
        command.cancel()


def test_slots_while_jobs_run(server: Server) -> None:
    with server.connect() as net:
        jobs = [
            net.submit("__import__('time').sleep", 0.2) for _ in range(2000)
        ]  # more than the test waits for
        wait_until(lambda: server.status_now()["slots"] == {"total": 2, "used": 2}, "two workers")
        assert pserver(server, "ctl", "slots", "4").stdout == "4 slots instead of 2; 2 in use.\n"
        wait_until(lambda: server.status_now()["slots"] == {"total": 4, "used": 4}, "four workers")
        pserver(server, "ctl", "slots", "1")
        wait_until(lambda: server.status_now()["slots"] == {"total": 1, "used": 1}, "one worker")
        assert jobs[0].result(DEADLINE) is None
        for job in reversed(jobs):
            job.cancel()
        assert "0 to 100000" in pserver(server, "ctl", "slots", "many", check=1).stderr


def test_a_drained_server_keeps_its_sessions_and_takes_others_again(server: Server) -> None:
    with server.connect() as net:
        assert "Running work in 1 session continues" in pserver(server, "ctl", "drain").stdout
        with pytest.raises(ServerRefusedError, match="drained"):
            server.connect()
        reval("x = 1", net).result(DEADLINE)
        pserver(server, "ctl", "resume")
        server.connect().close()


def test_a_released_server_ends_with_its_last_session(server: Server) -> None:
    with server.connect():
        assert "the last of 1 session ends" in pserver(server, "ctl", "release").stdout
        assert server.process.poll() is None
    server.process.wait(DEADLINE)
    assert "its last session has ended, as requested by uid" in server.log


def test_stop_when_idle_waits_and_an_end_at_once_names_what_it_ends(server: Server) -> None:
    with server.connect() as net:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "pserver", "ctl", "exit", "--name", str(server.status["name"])],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"XDG_RUNTIME_DIR": str(server.folder)},
        )
        assert waiting.stdout is not None
        assert "Waiting for 1 session to end" in waiting.stdout.readline()
        job = net.submit("__import__('time').sleep", 1000)
        wait_until(lambda: rows(server)[0]["running"] == 1, "the job")
        assert not job.done()
        assert waiting.poll() is None
        said = pserver(server, "ctl", "stop").stdout
        assert "of user 'alice' from 127.0.0.1 port" in said
        assert waiting.communicate(timeout=DEADLINE)[0].startswith("Stopped ")
    wait_gone(server.process.pid)


def test_a_server_that_is_stopped_is_listed_as_such(server: Server) -> None:
    server.process.send_signal(signal.SIGSTOP)
    try:
        begin = time.monotonic()
        assert "does not answer" in pserver(server, "status").stdout
        assert time.monotonic() - begin < 20.0  # two seconds on an idle machine
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert "0 of 2" in pserver(server, "status").stdout


def test_kill_of_a_user_ends_what_does_not_listen(server: Server) -> None:
    with server.connect() as net:
        pid = server.sessions(net)[0]
        os.kill(pid, signal.SIGSTOP)
        descriptor = os.pidfd_open(pid)
        begin = time.monotonic()
        pserver(server, "ctl", "kill", "alice")
        assert select.select([descriptor], [], [], DEADLINE)[0]
        os.close(descriptor)
        assert time.monotonic() - begin < 20.0  # under two seconds on an idle machine


def test_who_waits_for_the_last_session_hears_that_the_server_goes_on(server: Server) -> None:
    command = [sys.executable, "-m", "pserver", "stop", "--when-idle", "--name", str(server.status["name"])]
    env = os.environ | {"XDG_RUNTIME_DIR": str(server.folder)}
    pipe = subprocess.PIPE
    with (
        server.connect(),
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env) as waiting,
    ):
        wait_until(lambda: server.status_now()["admission"]["drained"], "the release")
        pserver(server, "ctl", "resume")
        assert "pserver ctl resume" in waiting.communicate(timeout=DEADLINE)[1]
        assert waiting.returncode == 1
    assert server.process.poll() is None
