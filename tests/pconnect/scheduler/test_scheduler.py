"""The scheduler: which worker gets which jobs, when, and what happens to jobs at the end."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from pconnect import JobLostError, local_network
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import Job, JobCancelledError
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork
from tests.support.links import interrupt_soon
from tests.support.servers import Server
from tests.support.waiting import wait_until
from tests.support.workers import two_workers

LIMIT = 20.0


@pytest.fixture
def own() -> Iterator[ClientNetwork]:
    with local_network(2, slots=2) as net:
        yield net


def test_a_job_sees_the_effects_of_earlier_commands(jobs_network: ClientNetwork) -> None:
    for level in range(15):
        jobs_network["level"] = level
        jobs = [jobs_network.submit("lambda: level") for _ in range(4)]
        assert [job.result(LIMIT) for job in jobs] == [level] * 4


def test_alternations_without_waiting_for_jobs(jobs_network: ClientNetwork) -> None:
    """A job may see later commands as well, but it sees every command before its `submit`."""
    jobs = []
    for level in range(15):
        jobs_network["level"] = level
        jobs.append((level, jobs_network.submit("lambda: level")))
    assert all(level <= job.result(LIMIT) <= 14 for level, job in jobs)


@pytest.mark.slow
def test_two_nodes_of_a_server_with_one_slot_take_turns(one_slot: Server) -> None:
    """The server does not take a worker from one node for the other: both belong to the same network."""
    with one_slot.connect(2) as net:
        for node in (1, 2, 1, 2):
            assert net[node].submit("lambda: sockets.node").result(LIMIT) == node
        jobs = [net[1 + k % 2].submit("lambda: sockets.node") for k in range(20)]
        assert [job.result(LIMIT) for job in jobs] == [1, 2] * 10


def test_a_node_gets_a_slot_even_if_others_are_busy(jobs_network: ClientNetwork) -> None:
    many = [jobs_network[1].submit(time.sleep, 0.01) for _ in range(1000)]
    constrained = jobs_network[2].submit("lambda: sockets.node")
    assert constrained.result(LIMIT) == 2
    assert not many[-1].done()
    for job in many:
        job.cancel()


def test_long_jobs_are_not_sent_ahead(jobs_network: ClientNetwork) -> None:
    two_workers(jobs_network)
    jobs = [jobs_network.submit(lambda: time.sleep(0.1)) for _ in range(6)]
    wait_until(lambda: any(job.done() for job in jobs), "the first to end")
    assert sum(job.running() for job in jobs) <= 3
    assert [job.result(LIMIT) for job in jobs] == [None] * 6


def test_other_workers_run_the_jobs_behind_a_long_one(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    """Each of these jobs also runs only once."""

    def work(number: int, seconds: float) -> int:
        with (tmp_path / "done").open("a") as file:
            file.write(f"{number}\n")
        time.sleep(seconds)
        return number

    two_workers(jobs_network)
    for job in [jobs_network.submit(work, -1, 0.0) for _ in range(100)]:
        job.result(LIMIT)
    for _ in range(3):  # the worker whose jobs were recalled runs some as well
        (tmp_path / "done").unlink()
        long = jobs_network.submit(work, -2, 60.0)
        jobs = [jobs_network.submit(work, k, 0.0005) for k in range(200)]
        assert [job.result(LIMIT) for job in jobs] == list(range(200))
        assert long.state == "running"
        long.cancel()
        wait([long], LIMIT)
        assert sorted(int(line) for line in (tmp_path / "done").read_text().split()) == [-2, *range(200)]


def test_jobs_before_a_long_one_run_once_without_delay(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    """Their results are held back in the worker's page, to be sent together with others."""

    def work(number: int, gate: str) -> int:
        with (tmp_path / "done").open("a") as file:
            file.write(f"{number}\n")
        while gate and not Path(gate).exists():
            time.sleep(0.01)
        return number

    two_workers(jobs_network)
    for job in [jobs_network.submit(work, -1, "") for _ in range(300)]:
        job.result(LIMIT)
    for k in range(5):
        (tmp_path / "done").unlink()
        gate = tmp_path / str(k)
        jobs = [
            jobs_network.submit(work, number, str(gate) if number == 100 else "") for number in range(300)
        ]
        assert [job.result(LIMIT) for job in jobs if job is not jobs[100]] == [*range(100), *range(101, 300)]
        assert not jobs[100].done()
        gate.touch()
        assert jobs[100].result(LIMIT) == 100
        assert sorted(map(int, (tmp_path / "done").read_text().split())) == list(range(300))


def test_estimates_of_functions_are_independent(jobs_network: ClientNetwork) -> None:
    """Short durations of earlier jobs say nothing about another function."""
    two_workers(jobs_network)
    for job in [jobs_network.submit(abs, -1) for _ in range(1000)]:
        job.result(LIMIT)
    jobs = [
        jobs_network.submit("lambda: (__import__('time').sleep(0.2), __import__('os').getpid())[1]")
        for _ in range(6)
    ]
    pids = [job.result(LIMIT) for job in jobs]
    assert sorted(pids.count(pid) for pid in set(pids)) == [3, 3]


def test_a_queue_is_no_recursion(jobs_network: ClientNetwork) -> None:
    jobs = [jobs_network.submit(abs, -k) for k in range(5000)]
    assert [job.result(LIMIT) for job in jobs] == list(range(5000))


@pytest.mark.slow
def test_a_constrained_job_does_not_hold_up_the_others(jobs_network: ClientNetwork) -> None:
    blocking = jobs_network[1].submit(time.sleep, 3)
    constrained = jobs_network[1].submit("lambda: sockets.node")
    wait_until(blocking.running, "the first to be sent")
    others = [jobs_network[2].submit(abs, -k) for k in range(10)]
    assert [job.result(LIMIT) for job in others] == list(range(10))
    assert constrained.result(LIMIT) == 1


@pytest.mark.parametrize("node", [None, 1])
def test_cancelling_a_job_that_waits_for_another_worker(
    own: ClientNetwork, node: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = scheduler_of(mesh_of(own))
    lose, cancelled = scheduler.lose, []

    def lose_and_cancel(job: Job, why: str, **rest: bool) -> None:
        lose(job, why, **rest)
        cancelled.append(job.cancel())

    monkeypatch.setattr(scheduler, "lose", lose_and_cancel)
    view = own if node is None else own[node]
    job = view.executor(retries=1).submit("__import__('os')._exit", 1)
    with pytest.raises(JobCancelledError):
        job.result(LIMIT)
    assert (cancelled, job.losses) == ([True], 1)


def test_the_only_job_is_sent_and_received_by_the_thread_that_waits_for_it(
    jobs_network: ClientNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    finish = Job.finish

    def note(job: Job, value: object) -> None:
        threads.append(threading.get_ident())
        finish(job, value)

    monkeypatch.setattr(Job, "finish", note)

    def waits_itself() -> bool:
        assert jobs_network.submit(os.getpid).result(LIMIT) > 0
        return threads[-1] == threading.get_ident()

    wait_until(waits_itself, "its turn")  # the scheduler's thread wakes up now and then, and may be faster


def test_functions_of_the_user_are_called_by_the_thread_of_the_jobs(jobs_network: ClientNetwork) -> None:
    """A thread that waits for a job may hold a lock that the job's callback needs."""
    lock, called = threading.Lock(), threading.Event()
    names: list[str] = []

    def callback(_: object) -> None:
        with lock:
            names.append(threading.current_thread().name)
        called.set()

    for seconds in (0.0, 0.5, 0.5):
        called.clear()
        job = jobs_network.submit(time.sleep, seconds)
        timer = threading.Timer(seconds / 20, job.add_done_callback, [callback])
        with lock:
            timer.start()
            job.result(LIMIT)
        assert called.wait(LIMIT)
        timer.join()
    assert names[1:] == ["pconnect jobs"] * 2  # the first job may have ended before its callback was added


def test_a_job_continues_after_ctrl_c_in_a_wait(jobs_network: ClientNetwork) -> None:
    job = jobs_network.submit(lambda: time.sleep(0.3) or 5)  # type: ignore[func-returns-value]
    interrupt_soon(0.1)
    with pytest.raises(KeyboardInterrupt):
        job.result(LIMIT)
    assert job.result(LIMIT) == 5


def test_a_job_continues_after_a_wait_timed_out(jobs_network: ClientNetwork) -> None:
    job = jobs_network.submit(lambda: time.sleep(0.5) or 5)  # type: ignore[func-returns-value]
    for timeout in (0.0, 0.05, 0.25):
        with pytest.raises(TimeoutError):
            job.result(timeout)
    assert job.exception(LIMIT) is None


def test_a_worker_that_dies_while_it_is_waited_for(jobs_network: ClientNetwork) -> None:
    for _ in range(3):
        with pytest.raises(JobLostError, match="exit status 3"):
            jobs_network.submit(lambda: os._exit(3)).result(LIMIT)
    assert jobs_network.submit(pow, 2, 5).result(LIMIT) == 32


def test_closing_with_jobs_under_way(own: ClientNetwork) -> None:
    running = own.submit(time.sleep, LIMIT)
    queued = [own.submit(time.sleep, LIMIT) for _ in range(20)]
    cancelled = own.submit(abs, 1)
    cancelled.cancel()
    wait_until(lambda: running.state == "running", "the first to run")
    begin = time.monotonic()
    own.close()
    assert time.monotonic() - begin < 10
    for job in [running, *queued]:
        assert isinstance(job.exception(LIMIT), JobLostError)
        assert "closed" in str(job.exception()) and job.state == "lost"
    assert cancelled.state == "cancelled"


def test_a_submit_after_the_close_is_lost(own: ClientNetwork) -> None:
    executor = own.executor()
    executor.submit(abs, 1).result(LIMIT)
    own.close()
    job = executor.submit(abs, 1)
    with pytest.raises(JobLostError, match="closed"):
        job.result(LIMIT)


@pytest.mark.slow
def test_a_server_without_slots_is_told(own: ClientNetwork) -> None:
    own.close()
    with local_network(1, slots=0) as net:
        job = net.submit(abs, 1)
        with pytest.raises(JobLostError, match="its server offers no slots"):
            job.result(LIMIT)


def test_a_dead_engine_is_reported_and_a_restart_repairs_it(own: ClientNetwork) -> None:
    with own[1].executor() as executor:
        running = executor.submit(time.sleep, LIMIT)
        wait_until(lambda: running.state == "running", "the job to run")
        own[1].kill()
        with pytest.raises(
            JobLostError, match=r"\(the engine died: SIGKILL\); to continue: net\[1\]\.restart"
        ):
            running.result(LIMIT)
        with pytest.raises(
            JobLostError, match=r"cannot run on any node: node 1 \(local\): its engine died: SIGKILL"
        ):
            executor.submit(abs, 1).result(LIMIT)
        assert own.submit("lambda: sockets.node").result(LIMIT) == 2
        own[1].restart()
        assert own[1].submit("lambda: sockets.node").result(LIMIT) == 1


def test_a_network_without_jobs_has_no_thread(server: Server) -> None:
    with server.connect() as net:
        assert net.mesh.scheduler is None  # type: ignore[attr-defined]


def test_a_failure_of_the_thread_ends_all_jobs_with_its_reason(
    own: ClientNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    job = own.submit(time.sleep, LIMIT)

    def fail() -> None:
        raise LookupError("a mistake")

    with caplog.at_level(logging.ERROR, "pconnect"):
        own.mesh.scheduler.call(fail)  # type: ignore[attr-defined]
        with pytest.raises(JobLostError, match=r"the scheduler's thread has failed: LookupError"):
            job.result(LIMIT)
    assert "the scheduler's thread has failed" in caplog.text
    with pytest.raises(JobLostError, match="has failed"):
        own.submit(os.getpid).result(LIMIT)


# --- extensions ---


class Recorder:
    pauses = True

    def __init__(self) -> None:
        self.stepped = threading.Event()
        self.reason = ""
        self.nodes: list[int] = []

    def begin(self, nodes: dict[int, Any], *_: object) -> None:
        self.nodes = list(nodes)

    def step(self) -> None:
        self.stepped.set()

    def end(self, reason: str) -> None:
        self.reason = reason


def test_an_extension_runs_in_the_loop_can_pause_it_and_is_ended() -> None:
    recorder = Recorder()
    with local_network(1, slots=1) as net:
        scheduler_of(net.mesh).extend(recorder)  # type: ignore[arg-type]
        assert recorder.stepped.wait(20)
        job = net.submit(pow, 2, 3)
        recorder.stepped.clear()
        assert recorder.stepped.wait(20)
        assert not job.done()
        recorder.pauses = False
        assert job.result(20) == 8
    assert (recorder.nodes, recorder.reason) == ([1], "the network was closed")
