"""`as_completed`: yield jobs in the order in which they end, with a progress bar."""

import queue
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from pconnect.loop.progress import ProgressBar
from pconnect.loop.progress_bars import Meter
from srp_tools.steps import deadline_after, describe_seconds

F = TypeVar("F", bound="Future[object]")


def as_completed(jobs: Iterable[F], timeout: float | None = None) -> Iterator[F]:
    """Yield each job once, when it has ended; like `concurrent.futures.as_completed`, with a progress bar.

    Parameters
    ----------
    jobs
        Jobs of one or several networks; other futures are accepted as well.
    timeout
        Seconds from this call until the last job must have ended; ``None`` waits without limit.

    Yields
    ------
    Job
        A job that has ended: with a result, with an error, or cancelled.

    Raises
    ------
    TimeoutError
        The time limit expired before all jobs had ended. The jobs keep running.

    Examples
    --------
    >>> from pconnect import as_completed, local_network
    >>> with local_network(2) as net:
    ...     jobs = [net.submit(pow, 2, k) for k in range(5)]
    ...     sorted(job.result() for job in as_completed(jobs))
    [1, 2, 4, 8, 16]
    """
    return _as_they_end(dict.fromkeys(jobs), timeout)


def _as_they_end(jobs: dict[F, None], timeout: float | None) -> Iterator[F]:
    deadline = deadline_after(timeout)
    ended: queue.SimpleQueue[F] = queue.SimpleQueue()
    for job in jobs:
        job.add_done_callback(ended.put)  # type: ignore[arg-type] # the callback receives the job
    total = left = len(jobs)

    def progress_bar() -> ProgressBar:
        return ProgressBar("jobs", total, " jobs", lambda: total - left + ended.qsize())

    def take(seconds: float) -> F:
        try:
            return ended.get(timeout=seconds)
        except queue.Empty:
            waited = describe_seconds(timeout or 0.0)  # with a limit, as a wait without one does not end
            text = f"timed out after {waited} waiting for jobs: {left} of {total} have not ended"
            raise TimeoutError(text) from None

    with Meter(progress_bar) as meter:
        while left:
            job = meter.wait(take, deadline)
            left -= 1
            meter.make_room()
            yield job
