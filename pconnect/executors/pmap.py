"""`pmap`: call a function for each element of arrays or sequences, like Octave's ``parcellfun``.

The elements and chunks of the inputs, and how their results are put together, are in `pconnect.executors.pmap_inputs`.
"""

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

from pconnect.errors import ConfigurationError, RemoteError
from pconnect.executors.executor import Executor
from pconnect.executors.job_map import outcomes
from pconnect.executors.lazy_map import error_of
from pconnect.executors.pmap_inputs import Chunks, Elements, items_of
from pconnect.jobs.job import Job


class JobFailure(RuntimeError):  # noqa: N818 - an argument of error handlers, like Octave's error struct
    """The first argument of an error handler of `pmap`: the failed item and its error."""

    def __init__(self, index: Any, error: BaseException) -> None:
        super().__init__(f"{items_of(index)}: {error}")
        self.index = index  #: of the item in the whole input: a tuple for an array, a slice for a chunk
        self.error = error
        #: Text of the error, name of the exception's type, and traceback on the worker.
        self.message = error.message if isinstance(error, RemoteError) else str(error)
        self.identifier = error.type_name if isinstance(error, RemoteError) else type(error).__name__
        self.traceback = error.remote_traceback if isinstance(error, RemoteError) else ""


def pmap(
    executor: Executor,
    function: Callable[..., Any] | str,
    inputs: Sequence[Any],
    *,
    uniform_output: bool,
    error_handler: Callable[..., Any] | None,
    chunksize: int | str,
    vectorized: bool = False,
    reduce: Callable[[Any, Any], Any] | None = None,
    ordered: bool = True,
) -> Any:
    """Return the results of a function for each element; see `pconnect.views.map_views.MapView.pmap`."""
    if reduce is not None and not callable(reduce):
        raise ConfigurationError(f"pmap: reduce={reduce!r} cannot be called: give a function of two results")
    if not ordered and reduce is None:
        raise ConfigurationError(
            "pmap: ordered=False is only for reduce=; without it, the results have the order of the inputs"
        )
    if error_handler is not None and not callable(error_handler):
        raise ConfigurationError(
            f"pmap: error_handler={error_handler!r} cannot be called: give a function of a failure and the elements"
        )
    if not inputs:
        raise ConfigurationError("pmap: no input was given; pass at least one array or sequence")
    work = (
        Chunks(executor, function, inputs, chunksize) if vectorized else Elements(function, inputs, chunksize)
    )
    if reduce is not None and not work.count:
        raise ConfigurationError("pmap: the inputs are empty; reduce= needs at least one element")
    with contextlib.closing(_results(executor, work, error_handler, ordered=ordered)) as results:
        if reduce is not None:
            return functools.reduce(reduce, results)
        return work.joined(list(results), uniform=uniform_output)


def _results(
    executor: Executor,
    work: Elements | Chunks,
    error_handler: Callable[..., Any] | None,
    *,
    ordered: bool,
) -> Generator[Any, None, None]:
    """Yield the results. When this generator ends, it cancels the remaining jobs."""
    first: dict[Job, int] = {}

    def jobs() -> Generator[Job, None, None]:
        begin = 0
        for job in work.submit(executor):
            first[job] = begin
            begin += job.items
            yield job

    pairs = outcomes(executor, jobs(), work.job_count, ordered=ordered, on_error="return")
    with contextlib.closing(pairs):
        for outcome, job in pairs:
            error = error_of(job)  # a function may also return an exception
            begin = first.pop(job)
            if error is None:
                yield from outcome if work.has_lists else [outcome]
                continue
            for position in range(begin, begin + job.items):
                failure = JobFailure(work.index(position), error)
                if error_handler is None:
                    raise failure from error
                yield error_handler(failure, *work.elements(position))
