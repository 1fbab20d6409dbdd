"""The order of queued jobs."""

from typing import Any

from pconnect.jobs.job import Job, JobOptions
from pconnect.scheduler.job_queue import JobQueue
from tests.support.workers import Owner


def a_job(number: int, **options: Any) -> Job:
    return Job(number, "f(...)", [], JobOptions(**options), Owner())


def test_jobs_are_in_order_and_requeued_ones_come_first() -> None:
    waiting = JobQueue()
    jobs = [a_job(k) for k in range(3)]
    for job in jobs[1:]:
        waiting.add(job)
    waiting.put_back(jobs[0])
    assert list(waiting) == jobs and len(waiting) == 3


def test_constrained_jobs_are_kept_apart() -> None:
    waiting = JobQueue()
    anywhere, there, alone, lost = a_job(1), a_job(2, on=frozenset({2})), a_job(3, isolate=True), a_job(4)
    for job in (anywhere, there, alone):
        waiting.add(job)
    lost.avoid |= {1}
    waiting.put_back(lost)
    there_too = a_job(5, on=frozenset({2}))
    waiting.add(there_too)
    assert list(waiting.common) == [anywhere]
    groups = waiting.constrained_in_order()
    assert [list(jobs) for jobs in groups] == [[there, there_too], [alone], [lost]]
    groups[0].popleft()
    groups[2].popleft()
    assert [list(jobs) for jobs in waiting.constrained_in_order()] == [[alone], [there_too]]


def test_a_job_is_removed_only_once() -> None:
    waiting = JobQueue()
    jobs = [a_job(1), a_job(2, isolate=True)]
    for job in jobs:
        waiting.add(job)
        assert waiting.discard(job) and not waiting.discard(job)
    assert not waiting


def test_cancelled_ones_are_forgotten() -> None:
    waiting = JobQueue()
    jobs = [a_job(k, isolate=k % 2 == 0) for k in range(4)]
    for job in jobs:
        waiting.add(job)
    for job in jobs[:2]:
        job.cancel()
    waiting.forget_cancelled()
    assert len(waiting) == 4
    waiting.has_cancelled = True
    waiting.forget_cancelled()
    assert set(waiting) == set(jobs[2:])
    waiting.clear()
    assert not waiting
