"""The jobs that each worker gets, for arbitrary queues and workers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job, JobOptions
from pconnect.scheduler.job_queue import JobQueue
from pconnect.scheduler.prefetch import Assignment, assign, limit_of
from tests.support.workers import Owner

NODES = (1, 2)


@dataclass
class Worker:
    """A worker with the attributes that `assign` reads."""

    node: int = 1
    estimates: list[DurationEstimate] = field(default_factory=list)  # of the jobs that it has
    served: int = 0
    command: int = 0

    @property
    def jobs(self) -> list[DurationEstimate]:
        return self.estimates

    @property
    def limit(self) -> int:
        return limit_of(self.estimates)

    @property
    def has_room(self) -> bool:
        return self.limit > len(self.estimates)

    def is_outdated(self, job: Job) -> bool:
        return self.command < job.after


def kind_of(seconds: float | None) -> Function:
    estimate = DurationEstimate()
    if seconds is not None:
        estimate.learn(seconds)
    return Function("f(...)", ["f", {}], estimate)


KINDS = [kind_of(seconds) for seconds in (None, 1.0, 0.04, 0.001, 0.0002, 0.0)]


OPTIONS: list[dict[str, Any]] = [{}, {}, {"on": frozenset({1})}, {"on": frozenset({2})}, {"isolate": True}]


def a_job(number: int, kind: Function, after: int = 0, **options: Any) -> Job:
    job = Job(number, "f(...)", [], JobOptions(**options), Owner())
    job.function, job.after = kind, after
    return job


def queue_of(jobs: list[Job]) -> JobQueue:
    waiting = JobQueue()
    for job in jobs:
        waiting.add(job)
    return waiting


def allowed(job: Job) -> frozenset[int]:
    return job.options.on or frozenset(NODES)


def run(
    waiting: JobQueue, workers: list[Worker], begin: Callable[[Job], bool] = lambda _: True
) -> list[Assignment[Worker]]:
    return list(assign(waiting, workers, allowed, begin))


jobs: st.SearchStrategy[list[Job]] = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 1),
        st.sampled_from(OPTIONS),
    ),
    max_size=40,
).map(lambda drawn: [a_job(n, kind, after, **options) for n, (kind, after, options) in enumerate(drawn)])
workers_ = st.lists(
    st.builds(
        Worker,
        node=st.sampled_from(NODES),
        estimates=st.lists(st.sampled_from([kind.estimate for kind in KINDS]), max_size=6),
        served=st.integers(0, 1),
        command=st.integers(0, 1),
    ),
    max_size=5,
)


def estimate_of(job: Job) -> DurationEstimate:
    assert job.function is not None
    return job.function.estimate


@given(jobs, workers_)
def test_invariants_of_every_assignment(jobs: list[Job], workers: list[Worker]) -> None:
    waiting = queue_of(jobs)
    assignments = run(waiting, workers)
    given_out = [job for assignment in assignments for job in assignment.jobs]
    assert (
        sorted([*given_out, *waiting], key=lambda job: job.number) == jobs
    )  # each job is in exactly one place
    assert len({id(assignment.worker) for assignment in assignments}) == len(assignments)
    for assignment in assignments:
        worker, taken = assignment.worker, assignment.jobs
        assert taken or assignment.retires
        assert worker.has_room
        for job in taken:
            assert worker.node in allowed(job) and not worker.is_outdated(job)
            if job.options.isolate:
                assert not worker.served and not worker.jobs and taken == [job]
        depth = limit_of([*worker.estimates, *map(estimate_of, taken)])
        assert len(worker.jobs) + len(taken) <= depth


@given(jobs, workers_)
def test_a_free_worker_gets_the_next_job_it_can_run(jobs: list[Job], workers: list[Worker]) -> None:
    waiting = queue_of(jobs)
    busy = [assignment.worker for assignment in run(waiting, workers)]
    for worker in workers:
        if not worker.jobs and not any(worker is other for other in busy):
            queues = [*waiting.constrained_in_order(), waiting.common]
            assert not waiting.common  # otherwise it would have got the first of these, or retired
            for queue in queues[:-1]:
                assert worker.node not in allowed(queue[0])


@given(st.integers(0, 200), st.integers(1, 5), st.sampled_from(KINDS))
def test_a_queue_of_one_kind_is_divided_evenly(count: int, number: int, kind: Function) -> None:
    waiting = queue_of([a_job(n, kind) for n in range(count)])
    counts = [len(assignment.jobs) for assignment in run(waiting, [Worker() for _ in range(number)])]
    assert sum(counts) == min(count, number * kind.estimate.ahead)
    assert not counts or max(counts) - min(counts) <= 1
    assert len(counts) == min(count, number)


def test_the_least_busy_comes_first() -> None:
    short = kind_of(0.0)
    busy, idle = Worker(estimates=[short.estimate] * 3), Worker()
    assignments = run(queue_of([a_job(1, short)]), [busy, idle])
    assert [assignment.worker for assignment in assignments] == [idle]


def test_a_constrained_job_goes_before_others_and_does_not_hold_them_up() -> None:
    everywhere, there = a_job(1, KINDS[0]), a_job(2, KINDS[0], on=frozenset({2}))
    one, two = Worker(node=1), Worker(node=2)
    assignments = run(queue_of([everywhere, there]), [two, one])
    assert [(assignment.worker.node, assignment.jobs) for assignment in assignments] == [
        (2, [there]),
        (1, [everywhere]),
    ]


def test_an_outdated_worker_retires_after_its_last_possible_jobs() -> None:
    jobs = [a_job(1, KINDS[-1]), a_job(2, KINDS[-1], after=1), a_job(3, KINDS[-1])]
    waiting = queue_of(jobs)
    assert run(waiting, [worker := Worker()]) == [Assignment(worker, jobs[:1], retires=True, is_full=True)]
    assert list(waiting) == jobs[1:]


def test_a_used_worker_retires_where_a_job_wants_a_process_of_its_own() -> None:
    waiting = queue_of([a_job(1, KINDS[-1], isolate=True)])
    assert run(waiting, [worker := Worker(served=1)]) == [Assignment(worker, [], retires=True, is_full=True)]
    assert len(waiting) == 1


@pytest.mark.parametrize("isolate", [False, True])
def test_a_cancelled_job_takes_no_place(isolate: bool) -> None:
    cancelled, job = (a_job(n, KINDS[0], isolate=isolate) for n in (1, 2))
    waiting = queue_of([cancelled, job])
    (assignment,) = run(waiting, [Worker()], lambda job: job is not cancelled)
    assert assignment.jobs == [job] and not waiting
