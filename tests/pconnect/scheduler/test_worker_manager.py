"""The state of workers, and what happens to the jobs of workers that end."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect import ConnectionLostError, JobLostError
from pconnect.jobs.function_cache import Functions
from pconnect.jobs.job import Job, JobOptions, encode_job
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pconnect.scheduler import worker_manager
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.remote_worker import RemoteWorker
from pconnect.scheduler.worker_manager import WorkerManager
from pconnect.session.running_commands import RunningCommands
from pconnect.views.network_views import ClientNetwork
from srp_tools.channel import Channel
from tests.support.links import channels
from tests.support.servers import run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until
from tests.support.workers import Owner

LIMIT = 20.0


def pid_of(net: ClientNetwork, node: int) -> int:
    return int(net[node].submit(os.getpid).result(LIMIT))


def test_the_end_of_a_worker_is_reported_with_its_last_output(jobs_network: ClientNetwork) -> None:
    def work() -> None:
        for k in range(30):
            print("line", k, flush=True)
        os.abort()

    job = jobs_network.submit(work)
    with pytest.raises(JobLostError) as told:
        job.result(LIMIT)
    words, *lines = str(told.value).splitlines()
    assert words.endswith("died: SIGABRT; its last output:")
    assert f"on node {job.node} ({job.host})" in words
    assert [line for line in lines if line.startswith("line")][-1] == "line 29" and len(lines) <= 10
    assert job.stdout.splitlines()[0] == "line 0" and job.duration is not None


def test_the_end_of_a_dead_workers_output_is_kept(jobs_network: ClientNetwork) -> None:
    def work() -> None:
        print("x" * 5000, flush=True)
        os._exit(3)

    job = jobs_network.submit(work)
    assert job.exception(LIMIT) is not None
    assert job.stdout.startswith("(2953 bytes before this are left out)\nxxx") and job.stdout.endswith("x\n")


def test_only_the_job_that_ran_is_lost(jobs_network: ClientNetwork) -> None:
    node = jobs_network[1]
    list(node.map(abs, range(100)))  # from now on many are sent ahead
    jobs = [node.submit(abs, -k) for k in range(50)]
    killer = node.submit(os.kill, 0, 0)
    killer.result(LIMIT)
    killer = node.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    behind = [node.submit(abs, -k) for k in range(50)]
    with pytest.raises(JobLostError, match="died: SIGKILL"):
        killer.result(LIMIT)
    assert [job.result(LIMIT) for job in jobs + behind] == 2 * list(range(50))
    assert {job.losses for job in jobs + behind} == {0}


def test_results_prepared_by_a_dead_worker_count(jobs_network: ClientNetwork) -> None:
    """They are in the worker's page, to be sent together with others, when it dies in the next job."""
    node = jobs_network[1]
    list(node.map(abs, range(200)))
    for _ in range(5):
        jobs = [node.submit(abs, -k) for k in range(20)]
        killer = node.submit(os._exit, 3)
        assert killer.exception(LIMIT) is not None
        assert [job.result(LIMIT) for job in jobs] == list(range(20))


@pytest.mark.slow
def test_a_stopped_worker_is_lost_when_it_is_killed_and_not_before(jobs_network: ClientNetwork) -> None:
    worker = pid_of(jobs_network, 1)
    job = jobs_network[1].submit(time.sleep, 2)
    wait_until(lambda: job.state == "running", "the job to run")
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        job.result(0.5)
    os.kill(worker, signal.SIGCONT)
    assert job.result(LIMIT) is None


def test_processes_started_by_a_job_end_with_its_worker(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    mark = tmp_path / "pid"

    def work() -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "60"])
        mark.with_suffix(".part").write_text(str(child.pid))
        mark.with_suffix(".part").rename(mark)
        os._exit(3)

    assert jobs_network.submit(work).exception(LIMIT) is not None
    wait_gone(int(mark.read_text()))


def test_a_job_that_kills_each_worker_is_finally_lost(jobs_network: ClientNetwork) -> None:
    """A worker that dies while it receives a job reports nothing; after three of them the job is blamed."""
    _, worker = pid_of(jobs_network, 1), pid_of(jobs_network, 2)
    manager = jobs_network.mesh.scheduler._manager  # type: ignore[attr-defined]
    os.kill(worker, signal.SIGSTOP)
    job = jobs_network[2].submit(abs, -1)
    wait_until(job.running, "the job to be sent")
    job.suspicions = 2  # as if two other workers had died
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(JobLostError, match="died: SIGKILL"):
        job.result(LIMIT)
    assert set(manager.nodes) == {1, 2}
    assert jobs_network[2].submit(abs, -1).result(LIMIT) == 1


@pytest.mark.slow
def test_jobs_that_are_lost_by_a_stop_of_the_server_say_so(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--slots=1") as server, server.connect(1) as net:
        jobs = [net.submit(time.sleep, 600) for _ in range(2)]
        wait_until(jobs[0].running, "the first job to begin")
        server.process.terminate()
        for job in jobs:
            words = "its session was ended: the server was stopped; to continue: net.reconnect(1), or connect again"
            assert words in str(job.exception(DEADLINE))


@pytest.mark.slow
def test_a_first_job_after_a_stop_of_the_server_fails_soon(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--slots=1") as server, server.connect(1) as net:
        server.process.terminate()
        server.process.wait(DEADLINE)
        with pytest.raises(ConnectionLostError, match="the server was stopped"):
            net[1].eval("1").result(DEADLINE)
        began = time.monotonic()
        with pytest.raises(
            JobLostError, match=r"the server was stopped; to continue: net\.reconnect\(1\), or connect again"
        ):
            net.submit(abs, 1).result(DEADLINE)
        assert time.monotonic() - began < 15  # a node that may come back is dialled for 30 s


@pytest.fixture
def dying() -> Iterator[tuple[WorkerManager, NodeWorkers, RemoteWorker, Channel, list[Any]]]:
    """Provide a manager, a node, a worker with two sent jobs, the worker's end, and the fates of jobs."""
    event_loop = EventLoop()
    fates: list[Any] = []
    owner: Any = SimpleNamespace(
        ended=lambda job: fates.append(("ended", job.number)),
        requeue=lambda job: fates.append(("requeued", job.number)),
        lose=lambda job, _: fates.append(("lost", job.number)),
    )
    setup: Any = SimpleNamespace(authority=None, tls=None)
    manager = WorkerManager([], setup, event_loop, owner)
    server: Any = SimpleNamespace(node=1, host="alpha", commands=RunningCommands())
    node, worker = NodeWorkers(server), RemoteWorker(server, 5, 4321, 7, DEFAULT_LIMITS)
    near, far = channels()
    worker.open(near)
    worker.connection.on_message = lambda message: manager._on_worker_message(worker, message)
    event_loop.add(worker.connection)
    manager.nodes[1] = node
    node.add(worker)
    for number in (1, 2):
        job = Job(number, "abs(...)", [], JobOptions(), Owner())
        job.function = Functions().get(abs)
        job.buffers = encode_job(job, (-number,), {}, DEFAULT_LIMITS.max_message_bytes)
        assert job.begin()
        worker.send([job])
    event_loop.flush(worker.connection)
    yield manager, node, worker, far, fates
    event_loop.close()
    far.close()


ENDED = {"how": "SIGKILL", "job": 0, "seconds": 0.0, "results": b"", "outputs": [[b"", 0], [b"", 0]]}
Dying = tuple[WorkerManager, NodeWorkers, RemoteWorker, Channel, list[Any]]


def test_results_in_transit_at_the_end_of_a_worker_count(dying: Dying) -> None:
    """They come on another connection, which may be slower; a job without a result at its end had not begun."""
    manager, node, worker, far, fates = dying
    manager._on_worker_exit(node, worker, ENDED)
    assert fates == [] and not worker.is_open
    far.send(b"".join(encode_message(Kind.RESULT, 1, [0, 1, 0.0, 0.0], 2**20)))
    far.close()
    manager._event_loop.run_until(lambda: len(fates) == 2, time.monotonic() + DEADLINE, "the end")
    assert fates == [("ended", 1), ("requeued", 2)] and not node.workers


def test_a_job_without_a_known_end_may_have_run(dying: Dying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_manager, "_LAST_SECONDS", 0.05)
    manager, node, worker, _, fates = dying
    manager._on_worker_exit(node, worker, ENDED)
    manager._event_loop.run_until(lambda: len(fates) == 2, time.monotonic() + DEADLINE, "the end")
    assert fates == [("lost", 2), ("lost", 1)] and not node.workers
