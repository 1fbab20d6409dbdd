"""Jobs waiting for a worker."""

from collections import deque
from collections.abc import Iterator

from pconnect.jobs.job import Job

# The nodes where a job may run, whether it needs its own process, and the nodes where it was lost before.
Terms = tuple[frozenset[int] | None, bool, frozenset[int]]


class JobQueue:
    """The jobs of a network that no worker has, in order."""

    def __init__(self) -> None:
        self.common: deque[Job] = deque()  #: jobs that may run everywhere
        #: All other jobs, grouped by their terms. They do not block the rest.
        self.constrained: dict[Terms, deque[Job]] = {}
        self.stuck_since: float | None = (
            None  #: since when some jobs have had no node; ``None`` if all have one
        )
        self.has_cancelled = False  #: whether the queue may hold cancelled jobs; any thread may set it

    def __len__(self) -> int:
        return len(self.common) + sum(map(len, self.constrained.values()))

    def __iter__(self) -> Iterator[Job]:
        yield from self.common
        for jobs in self.constrained.values():
            yield from jobs

    def add(self, job: Job) -> None:
        """Append a new job."""
        self._queue_of(job).append(job)

    def put_back(self, job: Job) -> None:
        """Return a job to the front of its queue: a worker had it and did not begin it, or was lost."""
        self._queue_of(job).appendleft(job)

    def _queue_of(self, job: Job) -> deque[Job]:
        if not (job.options.on or job.options.isolate or job.avoid):
            return self.common
        return self.constrained.setdefault(_terms(job), deque())

    def constrained_in_order(self) -> list[deque[Job]]:
        """Return the groups that have jobs; the group with the oldest job comes first."""
        if not self.constrained:
            return []
        self._forget_empty()
        return sorted(self.constrained.values(), key=lambda jobs: jobs[0].number)

    def discard(self, job: Job) -> bool:
        """Remove a job; return whether it was queued."""
        jobs = self._queue_of(job)
        is_there = job in jobs
        if is_there:
            jobs.remove(job)
        return is_there

    def forget_cancelled(self) -> None:
        """Remove cancelled jobs. The queue may be long, so it is searched only if it may hold some."""
        if not self.has_cancelled:
            return
        self.has_cancelled = False
        for jobs in (self.common, *self.constrained.values()):
            kept = [job for job in jobs if not job.done()]
            jobs.clear()
            jobs.extend(kept)

    def clear(self) -> None:
        """Remove all jobs."""
        self.common.clear()
        self.constrained.clear()

    def _forget_empty(self) -> None:
        for terms in [terms for terms, jobs in self.constrained.items() if not jobs]:
            del self.constrained[terms]


def _terms(job: Job) -> Terms:
    return job.options.on, job.options.isolate, job.avoid
