"""Calling a function for each of many items: jobs sent ahead of what is taken, and results as they come."""

import functools
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from pconnect.errors import ConfigurationError, RemoteError
from pconnect.executors.executor import Executor
from pconnect.jobs.job import Job
from pconnect.loop.progress_bars import Meter, ProgressBar
from pconnect.remote_entry import map_part

# So many seconds of work are sent ahead, and so many items at the least and at the most.
_AHEAD_SECONDS = 0.2
_MIN_AHEAD, _MAX_AHEAD = 32, 4096
_WEIGHT = 0.05  # of a job in the mean of their times


class _Ahead:
    """How many jobs may be under way, by how long they take."""

    def __init__(self) -> None:
        self._mean: float | None = None
        self.count = _MIN_AHEAD

    def learn(self, job: Job) -> None:
        seconds = job.duration
        if seconds is None:
            return
        self._mean = seconds if self._mean is None else self._mean + _WEIGHT * (seconds - self._mean)
        wanted = _AHEAD_SECONDS / max(self._mean, 1e-6)
        # By and by, for the first jobs may have been other than the next.
        self.count = int(max(_MIN_AHEAD, min(_MAX_AHEAD, wanted, 2 * self.count)))


def map_jobs(
    executor: Executor,
    function: Callable[..., Any] | str,
    iterables: Sequence[Iterable[Any]],
    *,
    ordered: bool,
    chunksize: int | str,
    on_error: str,
) -> Iterator[Any]:
    """Yield the results of a function for all items; see `pconnect.views.job_views.JobView.map`."""
    if on_error not in {"raise", "return"}:
        raise ConfigurationError(f'on_error={on_error!r}: it is "raise" or "return"')
    if chunksize != "auto" and not (isinstance(chunksize, int) and chunksize > 0):
        raise ConfigurationError(f'chunksize={chunksize!r}: it is "auto" or a number of items')
    total = _length(iterables)
    items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
    if chunksize in {"auto", 1}:
        jobs = (executor.submit(function, *item) for item in items)
        return (outcome for outcome, _ in _outcomes(jobs, total, ordered=ordered, on_error=on_error))
    size = int(chunksize)
    chunks = iter(lambda: [item for _, item in zip(range(size), items, strict=False)], [])
    whole = functools.partial(map_part, function)
    jobs = (_sized(executor.submit(whole, chunk), len(chunk)) for chunk in chunks)
    count = None if total is None else -(-total // size)
    pairs = _outcomes(jobs, count, ordered=ordered, on_error=on_error)
    return (value for outcome, job in pairs for value in _spread(outcome, job))


def _sized(job: Job, count: int) -> Job:
    job.items = count
    return job


def _spread(outcome: Any, job: Job) -> list[Any]:
    """Return the results of a chunk; its one error stands for all its items."""
    return [outcome] * job.items if isinstance(outcome, BaseException) else outcome


def _length(iterables: Sequence[Iterable[Any]]) -> int | None:
    lengths = [len(items) for items in iterables if isinstance(items, Sized)]
    return min(lengths) if len(lengths) == len(iterables) and lengths else None


def _outcomes(
    jobs: Iterator[Job], total: int | None, *, ordered: bool, on_error: str
) -> Iterator[tuple[Any, Job]]:
    """Yield the outcome of each job, and the job; at the end, however it comes, no job is left."""
    ahead = _Ahead()
    under_way: dict[Job, None] = {}
    waiting: deque[Job] = deque()
    ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
    done = 0

    def submit() -> None:
        while len(under_way) < ahead.count and (job := next(jobs, None)) is not None:
            under_way[job] = None
            if ordered:
                waiting.append(job)
            else:
                job.add_done_callback(ended.put)  # type: ignore[arg-type]

    def gauge() -> ProgressBar | None:
        return None if total is None else ProgressBar("jobs", total, " jobs", lambda: done)

    try:
        with Meter(gauge) as meter:
            submit()
            while under_way:
                job = waiting.popleft() if ordered else _next_ended(ended, meter)
                error = _wait(job, meter)
                del under_way[job]
                done += 1
                ahead.learn(job)
                if error is not None and on_error == "raise":
                    raise error
                submit()
                yield (job.result() if error is None else error), job
    finally:
        for job in under_way:
            job.cancel()


def _next_ended(ended: "queue.SimpleQueue[Job]", meter: Meter) -> Job:
    while True:
        try:
            return ended.get(timeout=meter.longest_sleep)
        except queue.Empty:
            meter.look()


def _wait(job: Job, meter: Meter) -> BaseException | None:
    while True:
        meter.look()
        try:
            return job.exception(min(meter.longest_sleep, 3600.0))
        except TimeoutError:
            if job.done():
                raise


class JobFailure(RuntimeError):  # noqa: N818 - it is what an error handler is given
    """What an error handler of `pmap` is told: which item failed, and how.

    Attributes
    ----------
    index
        Of the item, counted through the whole input; for an array a tuple.
    message, identifier, traceback
        Text, name of the exception's type, and traceback at the worker.
    error
        The error itself.
    """

    def __init__(self, index: Any, error: BaseException) -> None:
        super().__init__(f"item {index}: {error}")
        self.index = index
        self.error = error
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
    """Return the results of a function for all elements; see `pconnect.views.job_views.JobView.pmap`."""
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
            raise ConfigurationError("the function returned tuples of different lengths")
        return tuple(
            _shaped(list(part), shape, uniform=uniform_output) for part in zip(*results, strict=True)
        )
    return _shaped(results, shape, uniform=uniform_output)


def _common_shape(inputs: Sequence[Any]) -> tuple[tuple[int, ...] | None, list[Sequence[Any]]]:
    """Return the shape of the result, and all inputs as flat sequences; one of a single element is repeated."""
    if not inputs:
        raise ConfigurationError("pmap needs at least one sequence")
    shapes = [items.shape if isinstance(items, np.ndarray) else (len(items),) for items in inputs]
    # An empty one counts as well, so not simply the largest.
    shape = max(shapes, key=lambda s: (int(np.prod(s)) != 1, int(np.prod(s)), len(s)))
    if any(s != shape and int(np.prod(s)) != 1 for s in shapes):
        raise ConfigurationError(
            f"pmap: the inputs have different shapes {shapes}; each has the same or one element"
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
            "the results are not all single values of one kind: uniform_output=False returns them as they are"
        )
    return array.reshape(shape or array.shape)
