"""Clients that share the slots of one real server: their shares, exclusive use, and killed clients."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pconnect.executors.executor import Executor
from pconnect.jobs.job import Job
from srp_tools.credentials import Credentials
from tests.support.clients import ClientProcess
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import wait_gone, wait_until

JOB = 0.02  # seconds; jobs sleep, so the load of the machine does not matter
Users = tuple[Credentials, Path]


@contextmanager
def server_with(slots: int, folder: Path, users: Users) -> Iterator[Server]:
    with run_server(folder / "server", f"--slots={slots}", users=users) as server:
        yield server


def slots_used(server: Server) -> int:
    return int(server.status_now()["slots"]["used"])


def submit_many(executor: Executor, count: int) -> list[Job]:
    return [executor.submit(time.sleep, JOB) for _ in range(count)]


def starts(jobs: list[Job]) -> list[float]:
    """Return the start times of all jobs that have ended."""
    return [job.started for job in jobs if job.done() and job.started is not None]


@pytest.mark.slow
@pytest.mark.parametrize("slots", [2, 3])  # of one slot, see test_slots
def test_two_clients_get_half_each(slots: int, tmp_path: Path, users: Users) -> None:
    seconds = 4.0
    with server_with(slots, tmp_path, users) as server, server.connect() as net, server.connect() as other:
        jobs = [submit_many(client.executor(), int(2 * slots * seconds / JOB)) for client in (net, other)]
        wait_until(lambda: all(any(job.done() for job in its) for its in jobs), "a job of each to end")
        begin = max(min(starts(its)) for its in jobs)
        wait_until(lambda: time.time() > begin + seconds, "the end of the counted jobs")
        done = sorted(
            (start, which) for which, its in enumerate(jobs) for start in starts(its) if start >= begin
        )
    counts = [sum(which == one for _, which in done) for one in range(2)]
    assert counts[0] / sum(counts) == pytest.approx(0.5, rel=0.2), counts  # within 0.1 on an idle machine


def test_a_killed_client_leaves_its_slots_at_once(tmp_path: Path, users: Users) -> None:
    script = """
executor = net.executor()
jobs = [executor.submit(time.sleep, 1000) for _ in range(2)]
while not all(job.state == "running" for job in jobs):
    time.sleep(0.01)
say("running")
time.sleep(1000)
"""
    with server_with(2, tmp_path, users) as server, ClientProcess(script, server) as client:
        assert client.line() == "running"
        wait_until(lambda: slots_used(server) == 2, "the slots in the status")
        begin = time.monotonic()
        client.process.kill()
        wait_until(lambda: slots_used(server) == 0, "free slots")
        assert time.monotonic() - begin < 3.0  # a tenth of a second on an idle machine


@pytest.mark.slow
def test_jobs_go_where_slots_are_free(tmp_path: Path, users: Users) -> None:
    """A job does not go to a server without free slots only because that was asked first."""
    with (
        run_server(tmp_path / "full", "--slots=1", users=users) as full,
        run_server(tmp_path / "free", "--slots=2", users=users) as free,
        full.connect() as other,
        connect([full, free]) as net,
    ):
        long = other.submit(time.sleep, 1000)
        wait_until(long.running, "the other's job to have the only slot")
        assert net.submit(os.getpid).result(20)
        jobs = [net.submit(time.sleep, 1000) for _ in range(2)]
        wait_until(lambda: all(job.state == "running" for job in jobs), "both jobs to run", 10)
        assert {job.node for job in jobs} == {2}
        assert not long.done()
        for job in [long, *jobs]:
            job.cancel()


@pytest.mark.slow
def test_who_waits_gets_the_slots_of_a_killed_client(tmp_path: Path, users: Users) -> None:
    script = """
job = net.submit(os.getpid)
say(job.result())
net.submit(time.sleep, 1000).result()
"""
    with (
        server_with(1, tmp_path, users) as server,
        server.connect() as net,
        ClientProcess(script, server) as client,
    ):
        worker = int(client.line())
        job = net.submit(os.getpid)
        with pytest.raises(TimeoutError):
            job.result(1.5)  # the long job is not interrupted in its favour
        client.process.kill()
        assert job.result(20) != worker
        wait_gone(worker)


@pytest.mark.slow
def test_an_exclusive_executor_has_the_server_for_itself(tmp_path: Path, users: Users) -> None:
    with server_with(2, tmp_path, users) as server, server.connect() as net, server.connect() as other:
        others = submit_many(other.executor(), 1000)
        wait_until(lambda: any(job.done() for job in others), "jobs of the other")
        with net.executor(exclusive=True) as executor:
            jobs = submit_many(executor, 40)
            for job in jobs:
                job.result(20)
        end = max(starts(jobs)) + JOB
        wait_until(lambda: max(starts(others)) > end, "the other's next jobs")
        begin = min(starts(jobs))
        during = [start for start in starts(others) if begin - JOB / 2 < start < end - JOB / 2]
        assert during == []
        assert {job.losses for job in others} == {0}


@pytest.mark.slow
def test_an_exclusive_executor_holds_the_server_also_while_it_has_no_jobs(
    tmp_path: Path, users: Users
) -> None:
    with server_with(2, tmp_path, users) as server, server.connect() as net, server.connect() as other:
        executor = net.executor(exclusive=True)
        wait_until(lambda: slots_used(server) == 2, "all slots to be held")
        job = other.submit(sum, [1, 2])
        with pytest.raises(TimeoutError):
            job.result(1.5)
        executor.shutdown()
        assert job.result(20) == 3


@pytest.mark.slow
def test_two_exclusive_executors_come_one_after_the_other(tmp_path: Path, users: Users) -> None:
    with server_with(2, tmp_path, users) as server, server.connect() as net, server.connect() as other:
        first = net.executor(exclusive=True)
        jobs = submit_many(first, 20)
        jobs[0].result(20)
        second = other.executor(exclusive=True)
        later = submit_many(second, 20)
        with pytest.raises(TimeoutError):
            later[0].result(1.0)
        first.shutdown()
        assert later[-1].result(20) is None
        assert min(starts(later)) > max(starts(jobs))
        second.shutdown()
        assert net.submit(sum, [1, 2]).result(20) == 3
