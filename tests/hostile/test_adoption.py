"""A killed daemon that starts again with the same name finds its sessions, and they notice nothing."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import ConnectError, JobLostError, ParallelError, pconnect, precv, reval
from tests.support.servers import Server, engine_pids, make_users
from tests.support.waiting import DEADLINE, wait_gone, wait_until


class Revived:
    """A server that can be killed and started again with the same name, on the ports that it finds."""

    def __init__(self, folder: Path, *options: str, name: str = "") -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._options = options
        self._name = name or f"test-{secrets.token_hex(4)}"
        self._log = folder / (f"{name}.log" if name else "log")
        self.credentials, self._auth_file = make_users(folder)
        self.server = self._start()

    def _start(self) -> Server:
        ours, theirs = socket.socketpair()
        arguments = [
            "start", "--foreground", "--allow-root", f"--parent-fd={theirs.fileno()}", "--bind=127.0.0.1",
            "--cmd-port=0", "--data-port=0", f"--name={self._name}", f"--log-file={self._log}",
            f"--auth-file={self._auth_file}", f"--spool-dir={self.folder}", *self._options,
        ]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "pserver", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            env=os.environ | {"PSERVER_RUNTIME_DIR": str(self.folder)},
        )
        theirs.close()
        with ours:
            ours.settimeout(DEADLINE)
            answer = json.loads(ours.makefile("rb").readline())
        assert "ready" in answer, answer
        return Server(process, answer["ready"], self.folder, credentials=self.credentials)

    def kill(self) -> None:
        self.server.process.kill()
        self.server.process.wait(DEADLINE)

    def start(self) -> None:
        self.server = self._start()

    def stop(self) -> None:
        if self.server.process.poll() is None:
            self.server.process.terminate()
            assert self.server.process.wait(DEADLINE) == 0


@pytest.fixture
def revived(tmp_path: Path) -> Iterator[Revived]:
    made = Revived(tmp_path / "server", "--slots=2")
    yield made
    made.stop()


def facts(server: Server) -> dict[str, object]:
    return server.status_now()


def slots(server: Server) -> object:
    return facts(server)["slots"]


def test_an_idle_session_is_found_and_all_works_as_before(revived: Revived) -> None:
    with revived.server.connect(2) as net:
        [before] = sessions_of(revived)
        pids = engine_pids(net)
        revived.kill()
        assert net[1:].eval("sockets.node").result(DEADLINE) == [1, 2]  # this needs no daemon
        revived.start()
        wait_until(lambda: len(revived.server.sessions(net)) == 1, "the session to come back")
        wait_until(lambda: sessions_of(revived)[0]["nodes"] == [1, 2], "both nodes")
        for key in ("pid", "peer", "user", "network"):
            assert sessions_of(revived)[0][key] == before[key]
        assert net.submit(abs, -3).result(DEADLINE) == 3
        net[1].restart()
        assert engine_pids(net)[1] != pids[1]
        assert net.submit(abs, -4).result(DEADLINE) == 4
        with revived.server.connect(1) as other:
            assert other[1].eval("1 + 1").result(DEADLINE) == 2
        pids = engine_pids(net)
        revived.stop()
        wait_gone(*pids.values())  # stop ends adopted sessions


def test_an_engine_is_not_killed_while_there_is_no_daemon_for_another(revived: Revived) -> None:
    with revived.server.connect(2) as net:
        pids = engine_pids(net)
        revived.kill()
        with pytest.raises(ConnectError, match=r"its server was killed.*start the server again on 127"):
            net[1].restart(timeout=1)
        assert engine_pids(net) == pids
        starting = threading.Timer(1.0, revived.start)
        starting.start()
        net[1].restart(timeout=DEADLINE)
        starting.join()
        assert engine_pids(net)[1] != pids[1]
        assert engine_pids(net)[2] == pids[2]
        reval("psend('seen', sockets[2])", net[1])
        reval("psend(precv(sockets[1]), sockets[0])", net[2])
        assert precv(net[2], timeout=DEADLINE) == "seen"


def sessions_of(revived: Revived) -> list[dict[str, object]]:
    sessions = facts(revived.server)["sessions"]
    assert isinstance(sessions, list)
    return sessions


def test_a_transfer_goes_on(revived: Revived) -> None:
    with revived.server.connect(1) as net:
        reval("psend('begins', sockets[0]); psend(np.ones(2**27, np.uint8), sockets[0])", net)
        assert precv(net[1], timeout=DEADLINE) == "begins"
        revived.kill()
        assert np.all(precv(net[1], timeout=DEADLINE) == 1)
        revived.start()
        wait_until(lambda: len(revived.server.sessions(net)) == 1, "the session to come back")


def test_jobs_run_when_the_daemon_is_back_even_if_the_first_was_lost_without_it(
    revived: Revived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pconnect.scheduler.worker_manager._DIAL_TIMEOUT", 1.0)
    with revived.server.connect(2) as net:
        revived.kill()
        with pytest.raises(JobLostError, match="start it again with the same name"):
            net.submit(abs, -1).result(DEADLINE)
        revived.start()

        def runs() -> bool:
            try:
                return bool(net.submit(abs, -1).result(DEADLINE) == 1)
            except JobLostError:
                return False

        wait_until(runs, "jobs to run again")


def test_running_jobs_keep_their_slots_and_others_are_not_granted_twice(revived: Revived) -> None:
    with revived.server.connect(1) as net:
        flag = revived.folder / "flag"
        executor = net.executor()
        running = [executor.submit(waiting(), str(flag)) for _ in range(2)]
        wait_until(lambda: slots(revived.server) == {"total": 2, "used": 2}, "the jobs to run")
        revived.kill()
        revived.start()
        with revived.server.connect(1) as other:
            waits = other.submit(abs, -3)
            wait_until(lambda: slots(revived.server) == {"total": 2, "used": 2}, "the leases to come back")
            with pytest.raises(TimeoutError):
                waits.result(1)
            flag.touch()
            assert [job.result(DEADLINE) for job in running] == [1, 1]
            assert waits.result(DEADLINE) == 3


def test_workers_that_come_while_there_is_no_daemon_get_their_connections(revived: Revived) -> None:
    with revived.server.connect(1) as net:
        flag, begun = revived.folder / "flag", revived.folder / "begun"
        reval(_WAITING, net)
        busy = net[1].eval(f"__import__('pathlib').Path({str(begun)!r}).touch() or wait_for({str(flag)!r})")
        wait_until(begun.exists, "the engine to be busy")
        jobs = [net.submit(abs, -3) for _ in range(2)]
        wait_until(lambda: slots(revived.server) == {"total": 2, "used": 2}, "the slots")
        revived.kill()
        flag.touch()  # the engine forks the workers now
        starting = threading.Timer(1.0, revived.start)
        starting.start()
        begin = time.monotonic()
        assert [job.result(DEADLINE) for job in jobs] == [3, 3]
        assert time.monotonic() - begin < 20  # idle workers end after 30 s
        starting.join()
        assert busy.result(DEADLINE) == 1


_WAITING = """
def wait_for(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.01)
    return 1
"""


def waiting() -> Callable[[str], int]:
    """Return a function that is sent by value, like functions of a script."""
    names: dict[str, Any] = {}
    exec(_WAITING, names)
    function: Callable[[str], int] = names["wait_for"]
    return function


def test_detached_jobs_go_on_and_are_recovered(revived: Revived) -> None:
    flag = revived.folder / "flag"
    net = revived.server.connect(1)
    executor = net.executor()
    for _ in range(4):
        executor.submit(waiting(), str(flag))
    token = net.detach()
    wait_until(lambda: sessions_of(revived)[0]["detached"] is True, "the session to be detached")
    revived.kill()
    revived.start()
    wait_until(lambda: sessions_of(revived) != [], "the session to come back")
    assert sessions_of(revived)[0]["detached"] is True
    flag.touch()
    login: dict[str, Any] = {"user": revived.credentials.user, "password": revived.credentials.password}
    with pconnect(recover=token, timeout=DEADLINE, **login) as recovered:
        assert [job.result(DEADLINE) for job in recovered.jobs.values()] == [1] * 4


def test_a_daemon_of_another_name_adopts_nobody(revived: Revived, tmp_path: Path) -> None:
    with revived.server.connect(1) as net:
        revived.kill()
        other = Revived(tmp_path / "server", name="other")
        try:
            time.sleep(1.5)  # in which the session looks for its daemon three times
            assert facts(other.server)["sessions"] == []
            revived.start()
            wait_until(lambda: len(revived.server.sessions(net)) == 1, "the session to come back")
            assert facts(other.server)["sessions"] == []
        finally:
            other.stop()


def test_a_session_that_ends_without_a_daemon_leaves_nothing(revived: Revived) -> None:
    with revived.server.connect(1) as net:
        pids = engine_pids(net)
        [session] = revived.server.sessions(net)
        folder = Path(net[1].eval("str(session_files)").result(DEADLINE))
        revived.kill()
    wait_gone(session, *pids.values())
    assert not folder.exists()
    revived.start()
    assert sessions_of(revived) == []


def test_a_killed_session_that_was_adopted_is_seen_to_end(revived: Revived) -> None:
    with revived.server.connect(1) as net:
        folder = Path(net[1].eval("str(session_files)").result(DEADLINE))
        revived.kill()
        revived.start()
        wait_until(lambda: len(revived.server.sessions(net)) == 1, "the session to come back")
        os.kill(revived.server.sessions(net)[0], signal.SIGKILL)
        wait_until(lambda: sessions_of(revived) == [], "the daemon to notice its end")
        wait_until(lambda: not folder.exists(), "its folder to go")


def test_stop_ends_the_sessions_of_a_daemon_that_is_dead(revived: Revived) -> None:
    net = revived.server.connect(2)
    pids = engine_pids(net)
    [session] = revived.server.sessions(net)
    folder = Path(net[1].eval("str(session_files)").result(DEADLINE))
    revived.kill()

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pserver", command, f"--name={revived.server.status['name']}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
            env=os.environ | {"PSERVER_RUNTIME_DIR": str(revived.folder)},
        )

    told = run("status")
    assert told.returncode == 3
    assert f"was killed, and 1 session is still alive: session {session} of user 'alice'" in told.stderr
    assert run("stop").returncode == 0
    wait_gone(session, *pids.values())
    assert not folder.exists()
    with pytest.raises(ParallelError, match="the server was stopped"):
        net[1].eval("1").result(DEADLINE)
    net.close()
