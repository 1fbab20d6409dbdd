"""Functions for use inside jobs; elsewhere they do nothing, so that you can try a job function without a network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pconnect.errors import ConfigurationError


@dataclass
class _Side:
    """Hooks of the worker that runs a job; the worker sets them."""

    report: Callable[[object], None] | None = None
    make_folder: Callable[[str | None], Path] | None = None
    number: int = 0
    #: Keeps changes that freshly imported modules have made to the process, so that they outlast the job.
    keep_imported: Callable[[], object] = lambda: None


side = _Side()


def progress(value: object) -> None:
    """Report the progress of this job to the client: ``job.progress`` has the last value, progress callbacks get all.

    Engines have ``progress`` in their workspaces, so a function that runs as a job needs no import.

    Parameters
    ----------
    value
        Any value that can be sent. It is copied before this returns.

    Raises
    ------
    UnsupportedValueError, MessageTooLargeError
        The value cannot be sent. The job may continue.

    Examples
    --------
    >>> from pconnect import local_network
    >>> from pconnect.jobs.worker_api import progress
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


def job_folder(name: str | None = None) -> Path:
    """Return the private folder of the job that runs here, with a folder ``outputs``; the first call creates it.

    The files in ``outputs`` when the job ends, even by an exception, are returned as `Job.outputs`. The folder is then
    removed, unless it has a name. If the worker dies, the folder remains until the session ends.

    Engines have ``job_folder`` in their workspaces, so a function that runs as a job needs no import.

    Parameters
    ----------
    name
        Keep the folder under this name. A relative name is below the session's file folder, as with `net.get`, and
        lasts until the session ends; an absolute name lasts. An existing folder is used unchanged.

    Raises
    ------
    ConfigurationError
        No job is running here, or its folder has another name already.
    OSError
        The folder cannot be created.

    Examples
    --------
    >>> from pconnect import local_network
    >>> from pconnect.jobs.worker_api import job_folder
    >>> def simulate(seed):
    ...     (job_folder() / "outputs" / "log.txt").write_text(f"seed {seed}")
    ...     return seed**2
    >>> with local_network(1) as net:
    ...     job = net.submit(simulate, 7)
    ...     job.result(), job.outputs["log.txt"]
    (49, b'seed 7')
    """
    if not side.number or side.make_folder is None:
        raise ConfigurationError(
            "job_folder() works only in functions that run as jobs: use submit, map or an executor"
        )
    return side.make_folder(name)


def job_number() -> int:
    """Return the number of the job that runs here, or 0 outside of jobs."""
    return side.number
