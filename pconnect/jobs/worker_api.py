"""What a function can use while it runs as a job; elsewhere these do nothing, so that it can be tried at home."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pconnect.errors import ConfigurationError


@dataclass
class _Side:
    """Where a job runs; a worker fills this in."""

    report: Callable[[object], None] | None = None
    make_folder: Callable[[str | None], Path] | None = None
    number: int = 0
    #: Whatever modules that were imported just now have changed in the process stays so after the job.
    keep_imported: Callable[[], object] = lambda: None


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
    """Return a private folder of the job that runs here, with an empty folder ``outputs``; the first call makes it.

    What is in ``outputs`` when the job ends, also by an exception, comes back as `Job.outputs`. Then the folder is
    removed, unless it has a name. That of a job whose worker died stays until the session ends.

    Engines have it in their workspaces, so that in a function which is run as a job ``job_folder`` needs no import.

    Parameters
    ----------
    name
        Keep the folder, under this name: a relative one leads into the session's folder of files, as with `net.get`,
        and stays until the session ends; an absolute one stays. A folder that is there already is used as it is.

    Raises
    ------
    ConfigurationError
        No job runs here, or its folder has another name already.
    OSError
        The folder cannot be made.

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
        raise ConfigurationError("job_folder() is for functions that run as jobs: submit, map, executor")
    return side.make_folder(name)


def job_number() -> int:
    """Return the number of the job that runs here, 0 outside of jobs."""
    return side.number
