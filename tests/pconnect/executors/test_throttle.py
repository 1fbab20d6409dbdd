import threading
import time

import pytest

from pconnect import Network
from pconnect.executors.throttle import Throttle
from tests.support.waiting import DEADLINE


@pytest.mark.parametrize("limit", [1, 2, None])
def test_at_most_the_limit_is_in_flight(network: Network, limit: int | None) -> None:
    executor = network.executor()  # type: ignore[attr-defined]
    throttle = Throttle(executor, limit)
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
    jobs = [executor.prepare(pow, (2, k)) for k in range(20)]
    for job in jobs:
        throttle.submit(job)
    assert [job.result(DEADLINE) for job in jobs] == [2**k for k in range(20)]
    throttle.join()
    assert most == (limit or most)
    assert count == 0


def test_cancelling_affects_waiting_and_running_jobs(network: Network) -> None:
    executor = network.executor()  # type: ignore[attr-defined]
    throttle = Throttle(executor, 1)
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
    throttle = Throttle(executor, 1)
    bad = [executor.prepare(pow, (2, threading.Lock())) for _ in range(3)]
    jobs = [executor.prepare(pow, (2, 3)), *bad, executor.prepare(pow, (2, 4))]
    for job in jobs:
        throttle.submit(job)
    assert (jobs[0].result(DEADLINE), jobs[-1].result(DEADLINE)) == (8, 16)
    throttle.join()
