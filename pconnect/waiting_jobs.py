"""Jobs that wait for a worker."""

from collections import deque
from collections.abc import Iterator

from pconnect.jobs import Job


class WaitingJobs:
    """The jobs of a network that no worker has, in order.

    Attributes
    ----------
    common
        Those that may run everywhere.
    choosy
        Those that may not, or that want a worker of their own. They do not hold up the others.
    """

    def __init__(self) -> None:
        self.common: deque[Job] = deque()
        self.choosy: list[Job] = []

    def __len__(self) -> int:
        return len(self.common) + len(self.choosy)

    def __iter__(self) -> Iterator[Job]:
        yield from self.common
        yield from self.choosy

    def add(self, job: Job) -> None:
        """Put a new job behind the others."""
        if job.options.on or job.options.isolate:
            self.choosy.append(job)
        else:
            self.common.append(job)

    def put_back(self, job: Job) -> None:
        """Put a job before the others that a worker had and has not begun, or that was lost."""
        if job.options.on or job.options.isolate or job.avoid:
            self.choosy.insert(0, job)
        else:
            self.common.appendleft(job)

    def discard(self, job: Job) -> bool:
        """Take a job out; return whether it was there."""
        for jobs in (self.common, self.choosy):
            if job in jobs:
                jobs.remove(job)
                return True
        return False

    def forget_done(self) -> None:
        """Take out those that have been cancelled."""
        for jobs in (self.common, self.choosy):
            kept = [job for job in jobs if not job.done()]
            jobs.clear()
            jobs.extend(kept)

    def clear(self) -> None:
        """Take out all."""
        self.common.clear()
        self.choosy.clear()
