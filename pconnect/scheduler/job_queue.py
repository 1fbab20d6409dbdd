"""Jobs that wait for a worker."""

from collections import deque
from collections.abc import Iterator

from pconnect.jobs.job import Job

# Where a job may run, whether it wants a process of its own, and where it was lost before.
Terms = tuple[frozenset[int] | None, bool, frozenset[int]]


class JobQueue:
    """The jobs of a network that no worker has, in order."""

    def __init__(self) -> None:
        self.common: deque[Job] = deque()  #: those that may run everywhere
        #: The others, those with the same terms together. They do not hold up the rest.
        self.constrained: dict[Terms, deque[Job]] = {}
        self.stuck_since: float | None = None  #: since when there is no node for some; ``None``: there is one
        self.has_cancelled = False  #: whether there may be cancelled jobs in these; any thread may set it

    def __len__(self) -> int:
        return len(self.common) + sum(map(len, self.constrained.values()))

    def __iter__(self) -> Iterator[Job]:
        yield from self.common
        for jobs in self.constrained.values():
            yield from jobs

    def add(self, job: Job) -> None:
        """Put a new job behind the others."""
        self._queue_of(job).append(job)

    def put_back(self, job: Job) -> None:
        """Put a job before the others that a worker had and has not begun, or that was lost."""
        self._queue_of(job).appendleft(job)

    def _queue_of(self, job: Job) -> deque[Job]:
        if not (job.options.on or job.options.isolate or job.avoid):
            return self.common
        return self.constrained.setdefault(_terms(job), deque())

    def constrained_in_order(self) -> list[deque[Job]]:
        """Return the groups from which jobs can be taken, that with the oldest job first."""
        if not self.constrained:
            return []
        self._forget_empty()
        return sorted(self.constrained.values(), key=lambda jobs: jobs[0].number)

    def discard(self, job: Job) -> bool:
        """Take out a job; return whether it was there."""
        jobs = self._queue_of(job)
        is_there = job in jobs
        if is_there:
            jobs.remove(job)
        return is_there

    def forget_cancelled(self) -> None:
        """Take out those that have been cancelled, if there are any: the queue may be long."""
        if not self.has_cancelled:
            return
        self.has_cancelled = False
        for jobs in (self.common, *self.constrained.values()):
            kept = [job for job in jobs if not job.done()]
            jobs.clear()
            jobs.extend(kept)

    def clear(self) -> None:
        """Take out all."""
        self.common.clear()
        self.constrained.clear()

    def _forget_empty(self) -> None:
        for terms in [terms for terms, jobs in self.constrained.items() if not jobs]:
            del self.constrained[terms]


def _terms(job: Job) -> Terms:
    return job.options.on, job.options.isolate, job.avoid
