"""A limit on the number of jobs in flight, for interfaces that promise one.

A throttle holds jobs back on the client. While it does, it is in the set of its network's throttles, so that
`pconnect.detach` can hand over these jobs and the limit.
"""

import os
import threading
from collections import deque
from collections.abc import Callable

from pconnect.errors import ConfigurationError
from pconnect.jobs.job import Job
from pconnect.loop.forked_copies import check_process
from srp_tools.rules.numbers import positive_integer

# A nested call may end the last job between the check and the wait of `join`, so it checks again after this time.
_LOOK_SECONDS = 0.5


class _Guard:
    """A lock for code that calls of the same thread may interrupt.

    A signal handler or the garbage collector may end jobs at any point: an abandoned ``map`` cancels its jobs when it
    is collected. Such a nested call cannot wait for the lock, so it is deferred until the interrupted block ends.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._holder = 0  # the thread inside
        self._deferred: list[Callable[[], None]] = []

    def defers(self, call: Callable[[], None]) -> bool:
        """Whether this thread is inside, so that `call` is deferred."""
        is_inside = self._holder == threading.get_ident()
        if is_inside:
            self._deferred.append(call)
        return is_inside

    def __enter__(self) -> None:
        self.lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._holder = 0
        deferred, self._deferred = self._deferred, []
        self.lock.release()
        for call in deferred:
            call()


class Throttle:
    """Starts jobs, in order, with a limit on how many are in flight.

    `start`: starts a job. `limit`: maximum number in flight; ``None`` sets no maximum. `throttles`: contains this
    throttle while it holds jobs back.
    """

    def __init__(
        self, start: Callable[[Job], None], limit: int | None, throttles: "set[Throttle] | None" = None
    ) -> None:
        self._start_now = start
        self.limit = limit
        self._throttles = set() if throttles is None else throttles
        self._jobs: dict[Job, None] = {}  # in flight
        self._waiting: deque[Job] = deque()
        self._is_cancelled = False
        self._is_starting = False  # whether a thread is starting jobs that were held back
        self._process = os.getpid()
        self._guard = _Guard()
        self._has_ended = threading.Condition(self._guard.lock)

    def submit(self, job: Job) -> None:
        """Start a job now or later. A failed job is left unchanged; after `cancel` the job is cancelled."""
        if self._guard.defers(lambda: self.submit(job)):
            return
        with self._guard:
            is_cancelled = self._is_cancelled
            if not is_cancelled:
                if self.limit is not None and len(self._jobs) >= self.limit:
                    job.held = f"its executor or pool has reached its limit (jobs in progress: {self.limit})"
                    if not self._waiting:
                        self._throttles.add(self)
                    self._waiting.append(job)
                    return
                self._jobs[job] = None
        if is_cancelled:
            job.cancel()
        else:
            self._start(job)

    def cancel(self) -> None:
        """Cancel all jobs that have not ended, and all submitted later."""
        with self._guard:
            self._is_cancelled = True
            jobs = [*self._waiting, *self._jobs]
            self._waiting.clear()
            self._throttles.discard(self)
        for job in jobs:
            job.cancel()

    def unfinished(self) -> list[Job]:
        """Return the jobs that have not ended: in flight first, then the jobs held back, in order."""
        with self._guard:
            return [job for job in (*self._jobs, *self._waiting) if not job.done()]

    def join(self) -> None:
        """Wait until all jobs have ended."""
        check_process(self._process)
        with self._has_ended:
            while self._jobs or self._waiting:
                self._has_ended.wait(_LOOK_SECONDS)

    def _start(self, job: Job) -> None:
        job.held = ""
        if not job.done():
            self._start_now(job)
        job.add_done_callback(self._end)  # type: ignore[arg-type]

    def _end(self, job: Job) -> None:
        if self._guard.defers(lambda: self._end(job)):
            return
        with self._guard:
            self._jobs.pop(job, None)
            following = None if self._is_starting else self._take_next()
            self._is_starting = self._is_starting or following is not None
            self._has_ended.notify_all()
        # A job may end while it is started, for example in a closed network. Its call of this method then leaves the
        # next job to this loop, because a call for each of thousands of jobs would exceed the recursion limit.
        while following is not None:
            try:
                self._start(following)
            except BaseException:
                self._is_starting = False
                raise
            with self._guard:
                following = self._take_next()
                self._is_starting = following is not None

    def _take_next(self) -> Job | None:
        """Remove and return the next job to start; ``None`` if there is none, or the limit is reached."""
        following = None
        if self.limit is not None and len(self._jobs) < self.limit:
            while self._waiting and following is None:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    following = waiting
                    self._jobs[following] = None
                if not self._waiting:
                    self._throttles.discard(self)
                    self._has_ended.notify_all()
        return following


def check_limit(name: str, limit: int | None) -> int | None:
    """Return a limit; refuse one that is not a positive integer. `name`: of the parameter, for the error."""
    checked = positive_integer(limit)
    if limit is not None and checked is None:
        raise ConfigurationError(f"{name}={limit!r} is not allowed: give 1 or more")
    return checked
