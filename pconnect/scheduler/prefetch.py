"""Prefetch: which of the jobs that wait each worker gets, and how many ahead of time.

This only decides: it sends nothing and reads no clock. Four rules bound what a worker has at once:

1. its share of the queue, so that a worker which is less busy gets something, too;
2. the depth for each kind of job that it has, or gets: see `pconnect.jobs.duration_estimate`;
3. a constrained job goes before the others, but only to a worker that may run it;
4. a worker that lacks what a job needs retires, once such a job is the next.
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
    """What decides which jobs a worker gets.

    Attributes
    ----------
    node
        Where it runs.
    jobs
        Those that it has.
    limit
        How many it should have at once, as far as it depends on these.
    has_room
        Whether it should have another, if that is a short one.
    served
        How many it has done.
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
        """Return whether it lacks what a command had done before a job was submitted."""


AnyWorker = TypeVar("AnyWorker", bound=Worker)


@dataclass(slots=True)
class Assignment(Generic[AnyWorker]):
    """What is decided for one worker."""

    worker: AnyWorker
    jobs: list[Job]  #: what it gets, in order
    #: Whether it begins nothing but these, and then ends, because another has to do what comes next.
    retires: bool = False
    is_full: bool = False  #: whether it gets nothing more, whatever waits

    def retire(self) -> None:
        """Give it nothing more, and have it end."""
        self.retires = self.is_full = True


def limit_of(estimates: Iterable[DurationEstimate]) -> int:
    """Return how many jobs a worker should have at once that has some of these kinds."""
    return min([estimate.ahead for estimate in estimates], default=_UNBOUNDED)


def assign(
    waiting: JobQueue,
    workers: Iterable[AnyWorker],
    allowed: Callable[[Job], Collection[int]],
    begin: Callable[[Job], bool],
    *,
    is_ordered: bool = False,
) -> Iterator[Assignment[AnyWorker]]:
    """Take jobs out of a queue for workers, and yield what each gets, the least busy first.

    `allowed`: returns the nodes where a job may run. `begin`: called with each job that is taken; returns whether it is
    still to be run. `is_ordered`: whether the first node has its jobs before the others.
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
    """Take jobs for a worker that should have no more than `most`; return how many it should have with these."""
    worker, taken = assignment.worker, assignment.jobs
    count = len(worker.jobs) + len(taken)
    while queue and not assignment.is_full:
        job = queue[0]
        assert job.function is not None  # noqa: S101 - whatever is submitted has one
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
