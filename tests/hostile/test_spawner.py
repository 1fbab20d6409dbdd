"""The process that starts engines is killed or stopped during various work: who notices, and full recovery."""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pconnect import EngineDiedError, JobLostError, ParallelError, precv, psend, restart, reval
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.networks import assert_works
from tests.support.servers import Server, engine_pids, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

SECONDS = 5.0  # for work of a tenth of a second, on a busy machine


@pytest.fixture(scope="module")
def four_slots(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("server"), "--slots=4", users=users) as running:
        yield running


def spawner_of(net: ClientNetwork, node: int = 1) -> int:
    return int(psutil.Process(engine_pids(net)[node]).ppid())


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_it_is_killed_while_nothing_goes_on(four_slots: Server) -> None:
    with four_slots.connect(3) as net, four_slots.connect(2) as other:
        [session] = four_slots.sessions(net)
        pids = engine_pids(net)
        kill(spawner_of(net))
        begin = time.monotonic()
        wait_gone(*pids.values())
        for node in (1, 2, 3):
            with pytest.raises(
                EngineDiedError, match=rf"node {node} .*process that starts engines has ended"
            ):
                precv(net[node], timeout=DEADLINE)
        assert time.monotonic() - begin < SECONDS
        used = cpu_seconds(session)
        time.sleep(0.5)
        assert cpu_seconds(session) - used < 0.2  # nothing spins
        assert_works(other)
        restart(net)
        assert_works(net)
        spawners = {spawner_of(net, node) for node in (1, 2, 3)}
        assert len(spawners) == 3
        kill(spawner_of(net, 1))  # one of its replacements
        with pytest.raises(EngineDiedError):
            precv(net[1], timeout=DEADLINE)
        assert net[[2, 3]].eval("sockets.node").result(DEADLINE) == [2, 3]
        restart(net[1])
        assert_works(net)
        spawners.add(spawner_of(net, 1))
    wait_gone(session, *spawners)


def test_commands_and_jobs_that_run_fail_at_once(four_slots: Server) -> None:
    with four_slots.connect(2) as net:
        command = reval("import time; psend('here', sockets[0]); time.sleep(1000)", net)
        assert [precv(net[node], timeout=DEADLINE) for node in (1, 2)] == ["here"] * 2
        kill(spawner_of(net))
        begin = time.monotonic()
        with pytest.raises(ExceptionGroup) as caught:
            command.result(DEADLINE)
        assert all(isinstance(error, EngineDiedError) for error in caught.value.exceptions)
        assert time.monotonic() - begin < SECONDS
        restart(net)
        job = net.submit(time.sleep, 1000)
        wait_until(job.running, "the job to run")
        for spawner in {spawner_of(net, node) for node in (1, 2)}:
            kill(spawner)
        begin = time.monotonic()
        with pytest.raises(JobLostError):
            job.result(DEADLINE)
        assert time.monotonic() - begin < SECONDS
        restart(net)
        assert_works(net)


@pytest.mark.slow
def test_it_is_killed_during_restarts(four_slots: Server) -> None:
    with four_slots.connect(2) as net:
        for pause in (0, 0.001, 0.003, 0.01, 0.03, 0.1):
            timer = threading.Timer(pause, kill, [spawner_of(net)])
            timer.start()
            with contextlib.suppress(ParallelError, OSError):
                restart(net[1])
            timer.join()
            for _ in range(2):  # the session may notice its death only during the first command
                with contextlib.suppress(ParallelError):
                    restart(net)
            assert_works(net)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.01, 0.03, 0.1])
def test_it_is_killed_during_pconnect(four_slots: Server, pause: float) -> None:
    """The network is made nevertheless, or the error says what happened; the server is unchanged."""
    killed: list[int] = []
    thread = threading.Thread(target=lambda: killed.append(kill_next_spawner(four_slots, pause)))
    thread.start()
    try:
        with four_slots.connect(2) as net:
            with contextlib.suppress(ParallelError, ExceptionGroup):
                net.eval("1").result(DEADLINE)
            thread.join()  # on a busy machine it may notice only now
            restart(net)
            assert_works(net)
    except ParallelError as error:
        # The load decides which node reports first.
        assert re.search(
            "process that starts engines has ended|did not connect to node|no connection to node", str(error)
        )
    thread.join()
    wait_gone(*killed)
    with four_slots.connect(2) as net:
        assert_works(net)


def kill_next_spawner(server: Server, pause: float) -> int:
    """Wait for the first process of a session, then kill it after a while; return its number."""
    deadline = time.monotonic() + DEADLINE
    daemon = psutil.Process(server.process.pid)
    while time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            for starter in daemon.children():
                for session in starter.children():
                    for spawner in session.children():
                        time.sleep(pause)
                        kill(spawner.pid)
                        return int(spawner.pid)
    raise AssertionError("no spawner came")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["spawner", "session", "engine", "worker"])
def test_one_that_is_stopped_for_three_seconds_loses_nothing(four_slots: Server, which: str) -> None:
    with four_slots.connect(2) as net:
        worker = net.submit(os.getpid).result(DEADLINE)
        [session] = four_slots.sessions(net)
        pids = {
            "spawner": spawner_of(net),
            "session": session,
            "engine": engine_pids(net)[1],
            "worker": worker,
        }
        os.kill(pids[which], signal.SIGSTOP)
        timer = threading.Timer(3.0, os.kill, (pids[which], signal.SIGCONT))
        timer.start()
        command = reval("psend(precv(sockets[0]), sockets[0])", net)
        jobs = [net.submit(lambda x: x * x, number) for number in range(20)]
        psend("word", net, timeout=DEADLINE)
        assert [precv(net[node], timeout=DEADLINE) for node in (1, 2)] == ["word"] * 2
        assert command.result(DEADLINE) in ([None, None], None)
        assert [job.result(DEADLINE) for job in jobs] == [x * x for x in range(20)]
        if which == "spawner":
            restart(net)  # it waits
        timer.join()
        assert_works(net)
        restart(net)
        assert_works(net)


def test_a_session_that_ends_does_not_leave_a_stopped_one(four_slots: Server) -> None:
    with four_slots.connect(1) as net:
        [session] = four_slots.sessions(net)
        spawner, engine = spawner_of(net), engine_pids(net)[1]
        os.kill(spawner, signal.SIGSTOP)
        kill(session)
        wait_gone(engine, spawner)


def test_without_a_server_a_stopped_one_goes_on_and_ends_the_engines(tmp_path: Path) -> None:
    with run_server(tmp_path / "server") as server, server.connect(1) as net:
        [session] = server.sessions(net)
        spawner, engine = spawner_of(net), engine_pids(net)[1]
        kill(server.process.pid)
        server.process.wait(DEADLINE)
        os.kill(spawner, signal.SIGSTOP)
        os.kill(session, signal.SIGSTOP)
        kill(session)
        wait_gone(engine, spawner)
