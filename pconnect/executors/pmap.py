"""`pmap`: call a function for each element of arrays or sequences, like Octave's ``parcellfun``."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pconnect.errors import ConfigurationError, RemoteError
from pconnect.executors.executor import Executor
from pconnect.executors.job_map import map_jobs


class JobFailure(RuntimeError):  # noqa: N818 - an argument of error handlers, like Octave's error struct
    """The first argument of an error handler of `pmap`: the failed item and its error."""

    def __init__(self, index: Any, error: BaseException) -> None:
        super().__init__(f"item {index}: {error}")
        self.index = index  #: of the item in the whole input; a tuple for an array
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
) -> Any:
    """Return the results of a function for each element; see `pconnect.views.job_views.JobView.pmap`."""
    shape, flat = _common_shape(inputs)
    outcomes = map_jobs(executor, function, flat, ordered=True, chunksize=chunksize, on_error="return")
    results = []
    for position, outcome in enumerate(outcomes):
        if not isinstance(outcome, BaseException):
            results.append(outcome)
            continue
        index: Any = position
        if shape is not None and len(shape) != 1:
            index = tuple(int(k) for k in np.unravel_index(position, shape))
        failure = JobFailure(index, outcome)
        if error_handler is None:
            raise failure from outcome
        results.append(error_handler(failure, *(items[position] for items in flat)))
    if results and all(isinstance(result, tuple) for result in results):
        if len({len(result) for result in results}) > 1:
            raise ConfigurationError(
                "pmap: the function returned tuples of different lengths; return the same number of values each time"
            )
        return tuple(
            _shaped(list(part), shape, uniform=uniform_output) for part in zip(*results, strict=True)
        )
    return _shaped(results, shape, uniform=uniform_output)


def _common_shape(inputs: Sequence[Any]) -> tuple[tuple[int, ...] | None, list[Sequence[Any]]]:
    """Return the shape of the result, and all inputs as flat sequences; inputs with one element are repeated."""
    if not inputs:
        raise ConfigurationError("pmap: no input was given; pass at least one array or sequence")
    shapes = [items.shape if isinstance(items, np.ndarray) else (len(items),) for items in inputs]
    # An empty input counts as well, so the largest size is not enough.
    shape = max(shapes, key=lambda s: (int(np.prod(s)) != 1, int(np.prod(s)), len(s)))
    if any(s != shape and int(np.prod(s)) != 1 for s in shapes):
        raise ConfigurationError(
            f"pmap: the inputs have different shapes {shapes}; give them one shape, or a single element"
        )
    count = int(np.prod(shape))
    flat: list[Any] = [items.reshape(-1) if isinstance(items, np.ndarray) else items for items in inputs]
    return shape, [items if len(items) == count else [items[0]] * count for items in flat]


def _shaped(results: list[Any], shape: tuple[int, ...] | None, *, uniform: bool) -> Any:
    if not uniform:
        if shape is None or len(shape) == 1:
            return results
        cells = np.empty(len(results), dtype=object)
        cells[:] = results
        return cells.reshape(shape)
    try:
        array = np.array(results)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.ndim != 1 or len(array) != len(results) or array.dtype == object:
        raise ConfigurationError(
            "pmap: the results are not all single values of one type; uniform_output=False returns them unchanged"
        )
    return array.reshape(shape or array.shape)
