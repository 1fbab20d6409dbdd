"""Processes that lead their own session end with their job or node, whichever parent process dies."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from pconnect import ParallelError, restart, reval
from pconnect.views.network_views import ClientNetwork
from tests.support.clients import ClientProcess
from tests.support.servers import Server, engine_pids
from tests.support.waiting import DEADLINE, wait_gone, wait_until

WAYS = ("setsid", "nohup setsid", "new session", "fork", "fork and exec")


def leave_behind(way: str) -> int:
    """Start a process that leads its own session; return its number. Commands and jobs run this function."""
    import os
    import signal
    import subprocess

    if "setsid" in way:
        command = f"{way} sleep 1000 >/dev/null 2>&1 & echo $!"
        return int(subprocess.run(command, shell=True, stdout=subprocess.PIPE, check=True).stdout)
    if way == "new session":
        return subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True, env={}, stdout=-3).pid
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        if not os.fork():
            os.setsid()
            os.write(writer, str(os.getpid()).encode())
            os.closerange(0, 1000)
            if way == "fork and exec":
                os.execv("/bin/sleep", ["sleep", "1000"])
            while True:
                signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    return pid


def left_by_commands(net: ClientNetwork) -> list[int]:
    return [pid for way in WAYS for pid in net.apply(leave_behind, way).result(DEADLINE) or ()]


def left_by_jobs(net: ClientNetwork) -> list[int]:
    return [net.submit(leave_behind, way).result(DEADLINE) for way in WAYS]


@pytest.fixture
def net(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(2) as made:
        yield made


@pytest.mark.parametrize("left", [left_by_commands, left_by_jobs])
def test_the_end_of_the_network(server: Server, left: Callable[[ClientNetwork], list[int]]) -> None:
    with server.connect(2) as net:
        pids = left(net)
        assert len({os.getsid(pid) for pid in pids}) == len(pids)
    wait_gone(*pids)


def test_a_restart_and_a_kill_end_what_the_node_has_left_and_nothing_else(net: ClientNetwork) -> None:
    first, second = (left_by_commands(net[[node]]) for node in (1, 2))
    restart(net[1])
    wait_gone(*first)
    assert all(map(psutil.pid_exists, second))
    os.kill(engine_pids(net)[2], signal.SIGKILL)
    wait_gone(*second)


def test_the_restart_of_an_engine_ends_what_its_jobs_have_left(net: ClientNetwork) -> None:
    pids = left_by_jobs(net)
    restart(net)
    wait_gone(*pids)


def test_the_end_of_a_worker_ends_what_its_jobs_have_left(net: ClientNetwork) -> None:
    kept = left_by_commands(net)
    worker, pid = net.submit(lambda: (os.getpid(), leave_behind("setsid"))).result(DEADLINE)
    os.kill(worker, signal.SIGKILL)
    wait_gone(pid)
    assert all(map(psutil.pid_exists, kept))


def test_the_client_is_killed(server: Server) -> None:
    script = "say(*net.eval('leave()').result(20)); time.sleep(1000)"
    source = "def leave():\n import subprocess\n"
    source += " return subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=-3).pid\n"
    with ClientProcess(f"reval({source!r}, net).result(20)\n{script}", server) as client:
        pid = int(client.line())
        client.process.kill()
        wait_gone(pid)


@pytest.mark.parametrize("victims", ["session", "spawner", "both", "stopped"])
def test_those_above_are_killed(server: Server, victims: str) -> None:
    with server.connect(2) as net:
        pids = [*left_by_commands(net), *left_by_jobs(net)]
        [session] = server.sessions(net)
        engines = engine_pids(net)
        spawner = psutil.Process(engines[1]).ppid()
        doomed = {"session": [session], "spawner": [spawner]}.get(victims, [session, spawner])
        if victims == "stopped":
            os.kill(spawner, signal.SIGSTOP)
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        wait_gone(*doomed, *engines.values(), *pids)
        with pytest.raises(ParallelError):
            reval("1", net[1]).result(DEADLINE)


_NAME_ANOTHER = """
import types
import pserver.engine.worker as worker
worker.os = types.SimpleNamespace(**vars(worker.os))
worker.os.getpid = lambda: {}
"""


def test_a_worker_that_names_another_process_is_taken_for_what_it_is(net: ClientNetwork) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            reval(_NAME_ANOTHER.format(other.pid), net[1])
            assert net[1].submit(os.getpid).result(DEADLINE) != other.pid
            job = net[1].submit(time.sleep, 1000)
            wait_until(job.running, "the job to run")
            job.cancel()  # its worker gets a signal
            assert job.exception(DEADLINE) is not None and job.cancelled()
            assert other.poll() is None
        finally:
            other.kill()
