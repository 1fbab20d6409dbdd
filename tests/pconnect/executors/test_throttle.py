import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError, JobLostError, Network, local_network
from pconnect.executors.throttle import Throttle, check_limit
from pconnect.jobs.job import Job
from tests.support.waiting import DEADLINE


@pytest.mark.parametrize("limit", [1, 2, None])
def test_at_most_the_limit_is_in_flight(network: Network, limit: int | None) -> None:
    executor = network.executor()  # type: ignore[attr-defined]
    count, most, lock = 0, 0, threading.Lock()

    class Counting(type(executor)):  # type: ignore[misc]
        """Counts the jobs that were started and have not ended."""

        def start(self, job: object) -> None:
            nonlocal count, most
            with lock:
                count += 1
                most = max(most, count)
            job.add_done_callback(end)  # type: ignore[attr-defined]
            super().start(job)

    def end(_: object) -> None:
        nonlocal count
        with lock:
            count -= 1

    executor.__class__ = Counting
    throttle = Throttle(executor.start, limit)
    jobs = [executor.prepare(pow, (2, k)) for k in range(20)]
    for job in jobs:
        throttle.submit(job)
    assert [job.result(DEADLINE) for job in jobs] == [2**k for k in range(20)]
    throttle.join()
    assert most == (limit or most)
    assert count == 0


def test_cancelling_affects_waiting_and_running_jobs(network: Network) -> None:
    executor = network.executor()  # type: ignore[attr-defined]
    throttle = Throttle(executor.start, 1)
    jobs = [executor.prepare(time.sleep, (60,)) for _ in range(3)]
    for job in jobs:
        throttle.submit(job)
    throttle.cancel()
    throttle.join()
    late = executor.prepare(time.sleep, (60,))
    throttle.submit(late)
    throttle.join()
    assert all(job.cancelled() for job in [*jobs, late])


def test_a_job_that_has_failed_already_does_not_stop_others(network: Network) -> None:
    executor = network.executor()  # type: ignore[attr-defined]
    throttle = Throttle(executor.start, 1)
    bad = [executor.prepare(pow, (2, threading.Lock())) for _ in range(3)]
    jobs = [executor.prepare(pow, (2, 3)), *bad, executor.prepare(pow, (2, 4))]
    for job in jobs:
        throttle.submit(job)
    assert (jobs[0].result(DEADLINE), jobs[-1].result(DEADLINE)) == (8, 16)
    throttle.join()


def test_a_job_that_is_held_back_tells_why(network: Network) -> None:
    executor = network.executor()  # type: ignore[attr-defined]
    throttle = Throttle(executor.start, 1)
    jobs = [executor.prepare(time.sleep, (60,)) for _ in range(2)]
    for job in jobs:
        throttle.submit(job)
    assert jobs[1].why == "its executor or pool has reached its limit (jobs in progress: 1)"
    throttle.cancel()
    throttle.join()
    assert jobs[1].why == ""


class Interrupting:
    """A job that, while the throttle holds it back, ends another job as a signal handler or the collector may do."""

    def __init__(self, other: "Interrupting | None" = None) -> None:
        self._other = other
        self._callbacks: list[Callable[[Any], object]] = []

    @property
    def held(self) -> str:
        return ""

    @held.setter
    def held(self, why: str) -> None:
        if why and self._other is not None:
            self._other.end()

    def done(self) -> bool:
        return False

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        for callback in self._callbacks:
            callback(self)


def test_a_job_may_end_while_the_same_thread_submits_another() -> None:
    started: list[Any] = []
    throttle = Throttle(started.append, 1)
    first: Any = Interrupting()
    second: Any = Interrupting(first)
    throttle.submit(first)
    thread = threading.Thread(target=throttle.submit, args=(second,), daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "a deadlock"
    assert started == [first, second]
    second.end()
    throttle.join()


@pytest.mark.parametrize("limit", [0, -1, 1.5, "2", True])
def test_a_limit_is_a_positive_integer(limit: int) -> None:
    right: list[Any] = [1, np.int64(2), None]
    assert [check_limit("max_workers", each) for each in right] == [1, 2, None]
    with pytest.raises(ConfigurationError, match=f"max_workers={limit!r} is not allowed: give 1 or more"):
        check_limit("max_workers", limit)


def test_a_network_knows_the_throttles_that_hold_jobs_back(network: Network) -> None:
    executor = network.executor()  # type: ignore[attr-defined]
    throttles: set[Throttle] = set()
    throttle = Throttle(executor.start, 2, throttles)
    jobs = [executor.prepare(pow, (2, k)) for k in range(3)]
    started: list[Job] = []
    throttle._start_now = started.append
    for job, others in zip(jobs, (set(), set(), {throttle}), strict=True):
        throttle.submit(job)
        assert throttles == others
    assert (throttle.unfinished(), started) == (jobs, jobs[:2])
    jobs[0].begin()
    jobs[0].finish(1)
    assert (throttles, started, throttle.unfinished()) == (set(), jobs, jobs[1:])
    throttle.submit(jobs[0])  # it has ended, and waits for its turn all the same
    assert throttles == {throttle}
    throttle.cancel()
    assert (throttles, throttle.unfinished()) == (set(), [])


def test_thousands_of_jobs_held_back_fail_with_their_network() -> None:
    with local_network(1) as net:
        executor = net.executor(max_workers=1)
        jobs = [executor.submit(time.sleep, 60) for _ in range(3000)]
    _, pending = concurrent.futures.wait(jobs, DEADLINE)
    assert not pending
    assert {type(job.exception(0)) for job in jobs} == {JobLostError}
