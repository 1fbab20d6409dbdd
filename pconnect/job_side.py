"""What a function can use while it runs as a job; elsewhere these do nothing, so that it can be tried at home."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class _Side:
    """Where a job runs; a worker fills this in."""

    report: Callable[[object], None] | None = None
    number: int = 0


side = _Side()


def progress(value: object) -> None:
    """Tell the client how far this job is: ``job.progress`` has the last value, and `add_progress_callback` all.

    Engines have it in their workspaces, so that in a function which is run as a job ``progress`` needs no import.

    Parameters
    ----------
    value
        Anything that can be sent. It is on its way when this returns.

    Raises
    ------
    UnsupportedValueError, MessageTooLargeError
        It cannot be sent. The job may go on.

    Examples
    --------
    >>> from pconnect import local_network
    >>> from pconnect.job_side import progress
    >>> def count(n):
    ...     for k in range(n):
    ...         progress((k + 1) / n)
    ...     return n
    >>> with local_network(1) as net:
    ...     job = net.submit(count, 4)
    ...     job.result(), job.progress
    (4, 1.0)
    """
    if side.report is not None:
        side.report(value)


def job_number() -> int:
    """Return the number of the job that runs here, 0 outside of jobs."""
    return side.number
