"""Prefetch: decides which queued jobs each worker gets, and how many ahead of time.

This module only decides: it sends nothing and reads no clock. Four rules limit the jobs of a worker:

1. its share of the queue, so that less busy workers get jobs as well;
2. the depth for each kind of job that it has or gets: see `pconnect.jobs.duration_estimate`;
3. a constrained job comes before other jobs, but goes only to a worker that may run it;
4. a worker that is too old for the next job retires.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.job import Job
from pconnect.scheduler.job_queue import JobQueue

_UNBOUNDED = 2**30


class Worker(Protocol):
    """The attributes of a worker that decide which jobs it gets.

    Attributes
    ----------
    node
        The node where it runs.
    jobs
        The jobs that it has.
    limit
        The maximum number of jobs for it, given the kinds of the jobs that it has.
    has_room
        Whether it may get another job, provided that job is short.
    served
        The number of jobs that it has completed.
    """

    @property
    def node(self) -> int: ...  # noqa: D102 - see above
    @property
    def jobs(self) -> Collection[object]: ...  # noqa: D102
    @property
    def limit(self) -> int: ...  # noqa: D102
    @property
    def has_room(self) -> bool: ...  # noqa: D102
    @property
    def served(self) -> int: ...  # noqa: D102

    def is_outdated(self, job: Job) -> bool:
        """Return whether it lacks the effects of a command that ended before a job was submitted."""


AnyWorker = TypeVar("AnyWorker", bound=Worker)


@dataclass(slots=True)
class Assignment(Generic[AnyWorker]):
    """The decision for one worker."""

    worker: AnyWorker
    jobs: list[Job]  #: the jobs it gets, in order
    #: Whether it begins no jobs after these and then exits, because another worker must run the next one.
    retires: bool = False
    is_full: bool = False  #: whether it gets no more jobs, whatever is queued

    def retire(self) -> None:
        """Give it no more jobs, and make it exit."""
        self.retires = self.is_full = True


def limit_of(estimates: Iterable[DurationEstimate]) -> int:
    """Return the maximum number of jobs for a worker whose jobs have these estimates."""
    return min([estimate.ahead for estimate in estimates], default=_UNBOUNDED)


def assign(
    waiting: JobQueue,
    workers: Iterable[AnyWorker],
    allowed: Callable[[Job], Collection[int]],
    begin: Callable[[Job], bool],
    *,
    is_ordered: bool = False,
) -> Iterator[Assignment[AnyWorker]]:
    """Take jobs from a queue for workers, and yield the jobs of each worker, the least busy worker first.

    `allowed`: returns the nodes where a job may run. `begin`: called with each job taken; returns whether it should
    still run. `is_ordered`: whether nodes with lower numbers get jobs before the others.
    """
    ready = [worker for worker in workers if worker.has_room]
    ready.sort(key=lambda worker: (len(worker.jobs), worker.node if is_ordered else 0))
    for position, worker in enumerate(ready):
        if not waiting:
            return
        most = max(1, -(-len(waiting.common) // (len(ready) - position)))
        if worker.jobs:
            most = min(len(worker.jobs) + most, worker.limit)
        assignment = Assignment(worker, [])
        for jobs in waiting.constrained_in_order():
            most = _take(assignment, jobs, most, begin, allowed)
        _take(assignment, waiting.common, most, begin)
        if assignment.jobs or assignment.retires:
            yield assignment


def _take(
    assignment: Assignment[AnyWorker],
    queue: deque[Job],
    most: int,
    begin: Callable[[Job], bool],
    allowed: Callable[[Job], Collection[int]] | None = None,
) -> int:
    """Take jobs for a worker that should have at most `most`; return the limit that includes the jobs taken."""
    worker, taken = assignment.worker, assignment.jobs
    count = len(worker.jobs) + len(taken)
    while queue and not assignment.is_full:
        job = queue[0]
        assert job.function is not None  # noqa: S101 - every submitted job has one
        depth = min(most, job.function.estimate.ahead)
        if count >= depth or not (allowed is None or _suits(assignment, job, allowed)):
            break
        if worker.is_outdated(job):
            assignment.retire()
            break
        most = depth
        queue.popleft()
        if begin(job):
            taken.append(job)
            count += 1
            assignment.is_full = job.options.isolate
    return most


def _suits(assignment: Assignment[AnyWorker], job: Job, allowed: Callable[[Job], Collection[int]]) -> bool:
    worker = assignment.worker
    if worker.node not in allowed(job):
        return False
    if not job.options.isolate:
        return True
    if worker.jobs or assignment.jobs:
        return False
    if worker.served:
        assignment.retire()
    return not worker.served
