"""Lazy maps: jobs that are submitted ahead of what is taken, and taken one by one as they end."""

import os
import queue
from collections import deque
from collections.abc import Iterator

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.job import Job
from pconnect.loop.forked_copies import check_process

# So many seconds of work are submitted ahead, and so many jobs at the least and at the most.
_AHEAD_SECONDS = 0.2
_MIN_AHEAD, _MAX_AHEAD = 32, 4096


class Lookahead:
    """How many jobs of a lazy map may be under way (`count`), by how long they take; at least `least`."""

    def __init__(self, least: int = _MIN_AHEAD) -> None:
        self.count = self._least = max(_MIN_AHEAD, least)
        self._estimate = DurationEstimate()

    def learn(self, seconds: float) -> None:
        """Take into account how long a job took."""
        self._estimate.learn(seconds)
        wanted = _AHEAD_SECONDS / max(self._estimate.mean, 1e-6)
        # In steps, because the first jobs may differ from the next.
        self.count = int(max(self._least, min(_MAX_AHEAD, wanted, 2 * self.count)))


class LazyMap:
    """The jobs of one lazy map.

    `jobs`: submits a job whenever one is taken from it. `ordered`: whether they are taken in their order, or as they
    end. `least_ahead`: as of `Lookahead`.
    """

    def __init__(self, jobs: Iterator[Job], *, ordered: bool, least_ahead: int = _MIN_AHEAD) -> None:
        self._jobs = jobs
        self._lookahead = Lookahead(least_ahead)
        self._under_way: dict[Job, None] = {}
        self._waiting: deque[Job] | None = deque() if ordered else None
        self._ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._process = os.getpid()

    def __bool__(self) -> bool:
        """Whether there are jobs that were not taken."""
        return bool(self._under_way)

    def fill(self) -> None:
        """Submit jobs, as many as may be under way."""
        while len(self._under_way) < self._lookahead.count and (job := next(self._jobs, None)) is not None:
            self._under_way[job] = None
            if self._waiting is not None:
                self._waiting.append(job)
            else:
                job.add_done_callback(self._ended.put)  # type: ignore[arg-type]

    def take(self, timeout: float | None) -> Job:
        """Return the next job, which has ended.

        Raises `TimeoutError` if it has not ended in time; it can be taken later.
        """
        check_process(self._process)
        if self._waiting is None:
            try:
                job = self._ended.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError from None
        else:
            job = self._waiting[0]
            wait_for(job, timeout)
            self._waiting.popleft()
        del self._under_way[job]
        if job.duration is not None:
            self._lookahead.learn(job.duration)
        return job

    def ended_count(self) -> int:
        """Return how many have ended that were not taken."""
        return sum(job.done() for job in self._under_way)

    def cancel(self) -> None:
        """Cancel the jobs that were not taken."""
        for job in self._under_way:
            job.cancel()


def wait_for(job: Job, timeout: float | None) -> None:
    """Wait for the end of a job, whatever it is. Raises `TimeoutError` if it has not ended in time."""
    try:
        job.exception(timeout)
    except BaseException:
        if not job.done():
            raise


def error_of(job: Job) -> BaseException | None:
    """Return the error of a job that has ended."""
    try:
        return job.exception()
    except BaseException as error:  # noqa: BLE001 - it is that of a cancelled job
        return error
