"""`map`: call a function for each of many items; results arrive in input order or as jobs end."""

import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.executors.executor import Executor, JobMaker
from pconnect.executors.lazy_map import LazyMap, error_of
from pconnect.jobs.job import Job
from pconnect.loop.progress import ProgressBar
from pconnect.loop.progress_bars import Meter
from pconnect.remote_entry import map_part
from srp_tools.rules.numbers import positive_integer


def map_jobs(
    executor: Executor,
    function: Callable[..., Any] | str,
    iterables: Sequence[Iterable[Any]],
    *,
    ordered: bool,
    chunksize: int | str,
    on_error: str,
) -> Iterator[Any]:
    """Yield the results of a function for all items; see `pconnect.views.map_views.MapView.map`."""
    if on_error not in {"raise", "return"}:
        raise ConfigurationError(f'on_error={on_error!r} is not allowed: use "raise" or "return"')
    size = check_chunksize(chunksize)
    total = _length(iterables)
    items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
    if size is None or size == 1 or isinstance(function, JobMaker):
        jobs = submit_items(executor, function, items)
        return (outcome for outcome, _ in outcomes(executor, jobs, total, ordered=ordered, on_error=on_error))
    jobs = submit_chunks(executor, function, items, size)
    count = None if total is None else -(-total // size)
    pairs = outcomes(executor, jobs, count, ordered=ordered, on_error=on_error)
    return (value for outcome, job in pairs for value in spread(outcome, job))


def check_chunksize(chunksize: int | str) -> int | None:
    """Return the number of items of a chunk; ``None`` for ``"auto"``."""
    if chunksize == "auto":
        return None
    size = positive_integer(chunksize)
    if size is None:
        raise ConfigurationError(
            f'chunksize={chunksize!r} is not allowed: use "auto" or a positive number of items'
        )
    return size


def submit_items(
    executor: Executor, function: Callable[..., Any] | str, items: Iterable[tuple[Any, ...]]
) -> Iterator[Job]:
    """Submit a job for each item when the job is taken from the iterator returned."""
    packed = executor.pack_for_map(function)
    return (executor.submit(packed, *item) for item in items)


def submit_chunks(
    executor: Executor, function: Callable[..., Any] | str, items: Iterator[tuple[Any, ...]], size: int
) -> Iterator[Job]:
    """Submit a job for each `size` items when the job is taken from the iterator returned."""
    chunks = iter(lambda: [item for _, item in zip(range(size), items, strict=False)], [])
    packed = executor.pack_for_map(functools.partial(map_part, function))
    return (executor.submit_chunk(packed, chunk) for chunk in chunks)


def spread(outcome: Any, job: Job) -> list[Any]:
    """Return the results of a chunk; an error is repeated for each of its items."""
    return [outcome] * job.items if isinstance(outcome, BaseException) else outcome


def _length(iterables: Sequence[Iterable[Any]]) -> int | None:
    lengths = [len(items) for items in iterables if isinstance(items, Sized)]
    return min(lengths) if len(lengths) == len(iterables) and lengths else None


def outcomes(
    executor: Executor, jobs: Iterator[Job], total: int | None, *, ordered: bool, on_error: str
) -> Generator[tuple[Any, Job], None, None]:
    """Yield the outcome of each job together with the job. When this generator ends, it cancels the remaining jobs.

    It does not keep the executor once all jobs are submitted.
    """
    under_way = LazyMap(
        jobs, ordered=ordered, slots=executor.known_slots, total=total, unread_maps=executor.unread_maps
    )
    return _outcomes(under_way, total, on_error=on_error)


def _outcomes(
    under_way: LazyMap, total: int | None, *, on_error: str
) -> Generator[tuple[Any, Job], None, None]:
    taken = 0

    def progress_bar() -> ProgressBar | None:
        if total is None:
            return None
        return ProgressBar("jobs", total, " jobs", lambda: taken + under_way.ended_count())

    try:
        with Meter(progress_bar) as meter:
            under_way.fill()
            while under_way:
                job = meter.wait(under_way.take)
                error = error_of(job)
                taken += 1
                if error is not None and on_error == "raise":
                    raise error
                under_way.fill()
                meter.make_room()
                yield (job.result() if error is None else error), job
    finally:
        under_way.cancel()
