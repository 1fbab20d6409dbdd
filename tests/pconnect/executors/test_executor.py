"""The executor with other parts of the standard library, and its options; see also test_cpython_futures."""

import asyncio
import concurrent.futures
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pconnect import ConfigurationError, RemoteError, UnsupportedValueError
from pconnect.errors import MessageTooLargeError
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from tests.support.counting import CountedDict
from tests.support.servers import Server
from tests.support.waiting import wait_until
from tests.support.workers import two_workers

LIMIT = 20.0


def test_jobs_are_awaited_in_asyncio(jobs_network: ClientNetwork) -> None:
    async def main() -> list[int]:
        jobs = [asyncio.wrap_future(jobs_network.submit(pow, 2, k)) for k in range(20)]
        loop = asyncio.get_running_loop()
        with jobs_network.executor() as executor:
            return [*await asyncio.gather(*jobs), await loop.run_in_executor(executor, pow, 3, 2)]

    assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == [2**k for k in range(20)] + [9]


def test_a_job_that_is_cancelled_in_asyncio_is_interrupted(jobs_network: ClientNetwork) -> None:
    job = jobs_network.submit(time.sleep, LIMIT)

    async def main() -> None:
        future = asyncio.wrap_future(job)
        while job.state != "running":
            await asyncio.sleep(0.01)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    asyncio.run(asyncio.wait_for(main(), LIMIT))
    wait_until(job.done, "the job to end")
    assert job.state == "cancelled"


def test_as_completed_and_wait(jobs_network: ClientNetwork) -> None:
    two_workers(jobs_network)
    long, short = jobs_network.submit(time.sleep, 0.6), jobs_network.submit(abs, -1)
    assert list(concurrent.futures.as_completed([long, short], LIMIT)) == [short, long]
    jobs = [jobs_network.submit(abs, k) for k in range(20)]
    done, not_done = concurrent.futures.wait(jobs, LIMIT)
    assert done == set(jobs) and not not_done


def test_to_submit_a_job_looks_at_no_nodes(
    jobs_network: ClientNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert jobs_network.submit(abs, -1).result(LIMIT) == 1
    mesh = client_mesh(jobs_network.mesh)
    servers = CountedDict(mesh.servers)
    monkeypatch.setattr(mesh, "servers", servers)
    jobs = [jobs_network.submit(abs, -k) for k in range(5)]
    assert servers.looks == 0
    assert [job.result(LIMIT) for job in jobs] == list(range(5))


def test_many_threads_submit_at_the_same_time(jobs_network: ClientNetwork) -> None:
    results: list[list[int]] = []

    def run(k: int) -> None:
        jobs = [jobs_network.submit(lambda n, k=k: n * k, n) for n in range(200)]
        results.append([k, *(job.result(LIMIT) for job in jobs)])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(results) == [[k, *(n * k for n in range(200))] for k in range(8)]


def test_the_next_job_is_submitted_in_a_callback(jobs_network: ClientNetwork) -> None:
    ended = threading.Event()
    seen: list[int] = []

    def go_on(job: concurrent.futures.Future[int]) -> None:
        seen.append(job.result())
        if len(seen) < 5:
            jobs_network.submit(abs, -len(seen)).add_done_callback(go_on)
        else:
            ended.set()

    jobs_network.submit(abs, 0).add_done_callback(go_on)
    assert ended.wait(LIMIT)
    assert seen == [0, 1, 2, 3, 4]


def test_arrays_arrive_complete_and_writable(jobs_network: ClientNetwork) -> None:
    array = np.arange(2**20, dtype=np.float64)
    found = jobs_network.submit(lambda a: a[::-1], array).result(LIMIT)
    assert (found == array[::-1]).all()
    found[0] = 1


# --- shutdown ---


def test_after_the_shutdown_nothing_more_is_taken(jobs_network: ClientNetwork) -> None:
    with jobs_network.executor() as executor:
        jobs = [executor.submit(time.sleep, 0.05) for _ in range(4)]
    assert all(job.done() for job in jobs)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()  # a second call does nothing
    assert jobs_network.submit(abs, -1).result(LIMIT) == 1  # the network's own executor is not affected


def test_a_shutdown_that_cancels(jobs_network: ClientNetwork) -> None:
    executor = jobs_network.executor()
    jobs = [executor.submit(time.sleep, 0.1) for _ in range(20)]
    wait_until(jobs[0].running, "the first to be sent")
    executor.shutdown(cancel_futures=True)
    states = Counter(str(job.state) for job in jobs)
    assert set(states) == {"done", "cancelled"} and states["cancelled"] >= 10


# --- options ---


def test_isolated_jobs_have_a_process_each(jobs_network: ClientNetwork) -> None:
    with jobs_network.executor(isolate=True) as executor:
        pids = [executor.submit(os.getpid) for _ in range(8)]
        assert len({job.result(LIMIT) for job in pids}) == 8
        assert executor.submit(len, [1]).result(LIMIT) == 1


def test_an_isolated_job_leaves_nothing_behind(jobs_network: ClientNetwork) -> None:
    def mark() -> None:
        sys.modules["marked"] = sys

    def is_marked() -> bool:
        return "marked" in sys.modules

    with jobs_network[1].executor(isolate=True) as executor:
        executor.submit(mark).result(LIMIT)
        assert not executor.submit(is_marked).result(LIMIT)
    assert not jobs_network[1].submit(is_marked).result(LIMIT)


def test_a_job_over_its_time_is_interrupted(jobs_network: ClientNetwork) -> None:
    executor = jobs_network[1].executor(time_limit=0.4)
    worker = executor.submit(os.getpid).result(LIMIT)
    job = executor.submit(time.sleep, LIMIT)
    with pytest.raises(TimeoutError, match=r"the time limit of 0\.4 s passed"):
        job.result(LIMIT)
    assert job.state == "failed" and job.duration is not None and 0.4 <= job.duration < 5
    assert executor.submit(os.getpid).result(LIMIT) == worker  # the worker survives


@pytest.mark.slow
def test_a_job_over_its_memory_fails_and_its_worker_lives_on(jobs_network: ClientNetwork) -> None:
    executor = jobs_network[1].executor(memory_limit=2**26)
    worker = executor.submit(os.getpid).result(LIMIT)
    with pytest.raises(MemoryError):
        executor.submit(np.ones, 2**25).result(LIMIT)
    assert executor.submit(np.ones, 2**20).result(LIMIT).sum() == 2**20
    assert executor.submit(os.getpid).result(LIMIT) == worker
    assert (
        len(jobs_network[1].submit(np.ones, 2**24).result(LIMIT)) == 2**24
    )  # the limit applied to that job only


def test_a_job_that_raises_is_never_run_again(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    diary = tmp_path / "diary"

    def work() -> None:
        with open(diary, "a") as file:  # noqa: PTH123
            file.write("x")
        raise LookupError("of the user")

    job = jobs_network.executor(retries=3).submit(work)
    with pytest.raises(LookupError):
        job.result(LIMIT)
    assert diary.read_text() == "x" and job.losses == 0


def test_a_lost_job_is_run_again_elsewhere_first(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    diary = tmp_path / "diary"

    def work(times: int) -> None:
        with open(diary, "a") as file:  # noqa: PTH123
            file.write(f"{sockets.node} ")  # type: ignore[name-defined]  # noqa: F821 - defined in the workspace
        if len(diary.read_text().split()) <= times:
            os._exit(3)

    for times in range(3):
        diary.write_text("")
        job = jobs_network.executor(retries=times).submit(work, times)
        assert job.result(LIMIT) is None
        nodes = diary.read_text().split()
        assert len(nodes) == times + 1 and job.losses == times
        assert set(nodes) == {"1", "2"} or not times
    assert isinstance(
        jobs_network.executor(retries=1).submit("__import__('os')._exit", 3).exception(LIMIT), ConnectionError
    )


def test_results_are_pickled_only_if_allowed(jobs_network: ClientNetwork) -> None:
    with pytest.raises(UnsupportedValueError, match="to send it by pickle, pass allow_pickle=True"):
        jobs_network.submit(complex.__class__, "Made", (), {}).result(LIMIT)
    executor = jobs_network.executor(allow_pickle=True)
    assert executor.submit(type, "Made", (), {}).result(LIMIT).__name__ == "Made"
    error = executor.submit(divmod, 1, 0).exception(LIMIT)
    assert type(error) is ZeroDivisionError and isinstance(error.__cause__, RemoteError)


@pytest.mark.parametrize("options", [{"retries": -1}, {"time_limit": 0}, {"memory_limit": 0}])
def test_invalid_options_are_refused(jobs_network: ClientNetwork, options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        jobs_network.executor(**options)  # type: ignore[arg-type]


def test_a_function_too_large_to_be_sent_is_refused_here(server: Server) -> None:
    with server.connect(max_message_bytes=2**17) as net:
        data = bytes(2**17)
        job = net.submit(lambda: len(data))
        with pytest.raises(MessageTooLargeError):
            job.result(LIMIT)
        assert net.submit(lambda: len(b"small")).result(LIMIT) == 5


def test_an_exclusive_executor_and_other_clients_wait_for_each_other(server: Server) -> None:
    with server.connect() as one, server.connect() as other:
        assert one.submit(abs, -1).result(LIMIT) == 1  # its worker has a slot and is idle
        exclusive = other.executor(exclusive=True)
        assert exclusive.submit(abs, -2).result(LIMIT) == 2
        waiting = one.submit(abs, -3)
        for k in range(5):
            assert exclusive.submit(abs, -k).result(LIMIT) == k
        assert not waiting.done() and waiting.state == "queued"
        exclusive.shutdown()
        assert waiting.result(LIMIT) == 3


def test_a_network_that_is_closed_has_no_executor(one_slot: Server) -> None:
    with one_slot.connect() as net:
        pass
    with pytest.raises(Exception, match="closed"):
        net.executor()


def test_known_slots_are_counted_without_waiting(jobs_network: ClientNetwork) -> None:
    with jobs_network.executor() as executor, jobs_network.executor(max_workers=1) as limited:
        slots = executor.count_slots()
        assert (executor.known_slots(), limited.known_slots(), limited.count_slots()) == (slots, 1, slots)
