"""Lazy maps: jobs are submitted a limited distance ahead of the results taken, which are taken one by one."""

import concurrent.futures
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.job import Job
from pconnect.loop.forked_copies import check_process

# Submit jobs ahead for this many seconds of work, within a minimum and a maximum number of jobs.
_AHEAD_SECONDS = 0.2
_MIN_AHEAD, _MAX_AHEAD = 32, 4096
# For each slot, submit at least this many jobs ahead, however long they take, so that no worker waits for the caller.
_AHEAD_PER_SLOT = 2
_SLOTS_SECONDS = 0.2  # count the slots this often: servers report late, come and go


class Lookahead:
    """Decides how many jobs of a lazy map may be in flight (`count`, at least `least`) from their durations."""

    def __init__(self, least: int = _MIN_AHEAD) -> None:
        self.count = self._least = max(_MIN_AHEAD, least)
        self._estimate = DurationEstimate()

    def learn(self, seconds: float) -> None:
        """Update the estimate with the duration of one job."""
        self._estimate.learn(seconds)
        wanted = _AHEAD_SECONDS / max(self._estimate.mean, 1e-6)
        # At most double the count each time, because the first jobs may not be typical.
        self.count = int(max(self._least, min(_MAX_AHEAD, wanted, 2 * self.count)))


class LazyMap:
    """The jobs of one lazy map.

    `jobs` is an iterator that submits one job for each item taken from it. `ordered`: take jobs in input order rather
    than in the order in which they end. `least_ahead`: see `Lookahead`. `slots`: returns the present number of slots.
    `total`: the number of jobs; ``None`` if unknown. `unread_maps`: contains a weak reference to this map from the
    first job until all inputs are read, or the map ends; then the map keeps neither `jobs` nor `slots`.
    """

    def __init__(
        self,
        jobs: Iterator[Job],
        *,
        ordered: bool,
        least_ahead: int = _MIN_AHEAD,
        slots: Callable[[], int] = int,
        total: int | None = None,
        unread_maps: "set[weakref.ref[LazyMap]] | None" = None,
    ) -> None:
        self._source: tuple[Iterator[Job], Callable[[], int]] | None = jobs, slots
        self.total = total
        self.submitted = 0  #: the number of jobs submitted so far
        self._unread_maps: set[Any] = set() if unread_maps is None else unread_maps
        self._filling = threading.Lock()
        self._slots_ahead = 0
        self._counted_at = -_SLOTS_SECONDS
        self._lookahead = Lookahead(least_ahead)
        self._under_way: dict[Job, None] = {}
        self._waiting: deque[Job] | None = deque() if ordered else None
        self._ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._process = os.getpid()

    def __bool__(self) -> bool:
        """Whether jobs remain that were not taken."""
        return bool(self._under_way)

    def fill(self) -> None:
        """Submit jobs until the number allowed by the lookahead, or by the slots, is in flight."""
        with self._filling:
            source = self._source
            if source is None:
                return
            now = time.monotonic()
            if now - self._counted_at >= _SLOTS_SECONDS:
                self._counted_at = now
                self._slots_ahead = _AHEAD_PER_SLOT * source[1]()
            self._submit(source[0], max(self._lookahead.count, self._slots_ahead))

    def read_all(self, deadline: float) -> None:
        """Submit all remaining jobs. Raises `TimeoutError` at the deadline; the jobs submitted by then remain."""
        with self._filling:
            while (source := self._source) is not None:
                self._submit(source[0], len(self._under_way) + 1)
                if time.monotonic() >= deadline:
                    raise TimeoutError("timed out handing the jobs over to the servers")

    def _submit(self, jobs: Iterator[Job], limit: int) -> None:
        """Submit jobs until `limit` jobs are in flight or no inputs are left."""
        under_way, waiting = self._under_way, self._waiting
        while len(under_way) < limit:
            job = next(jobs, None)
            if job is None:
                self._forget_source()
                return
            if not self.submitted:
                self._unread_maps.add(weakref.ref(self, self._unread_maps.discard))
            self.submitted += 1
            under_way[job] = None
            if waiting is not None:
                waiting.append(job)
            else:
                job.add_done_callback(self._ended.put)  # type: ignore[arg-type]

    def _forget_source(self) -> None:
        self._source = None
        self._unread_maps.discard(weakref.ref(self))  # references to the same map are equal

    def take(self, timeout: float | None) -> Job:
        """Wait for the next job that has ended, and return it.

        Raises `TimeoutError` if none has ended in time; a later call can still take it.
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
        """Return the number of jobs that have ended but were not taken."""
        return sum(job.done() for job in self._under_way)

    def cancel(self) -> None:
        """Cancel the jobs that were not taken, and submit no more."""
        self._forget_source()
        for job in self._under_way:
            job.cancel()


def wait_for(job: Job, timeout: float | None) -> None:
    """Wait until a job has ended in any way. Raises `TimeoutError` if it has not ended in time."""
    try:
        job.exception(timeout)
    except concurrent.futures.CancelledError:
        pass
    except TimeoutError:
        if not job.done():
            raise


def error_of(job: Job) -> BaseException | None:
    """Return the error of a job that has ended."""
    try:
        return job.exception()
    except concurrent.futures.CancelledError as error:
        return error
