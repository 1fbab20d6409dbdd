"""`Pool`: the interface of `multiprocessing.pool.Pool` for the worker processes of a network.

This serves code that expects a pool or the ``map`` of one. It differs in three ways: `initializer` and
`maxtasksperchild` do not exist, because workers are forked from engines, which `pconnect.reval` prepares; an
interrupted call cancels its jobs; and the iterators read only as many items ahead as the workers need to stay busy.
"""

import functools
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from types import TracebackType
from typing import Any, Self

from pconnect.executors.executor import Executor
from pconnect.executors.lazy_map import LazyMap, error_of
from pconnect.executors.throttle import Throttle, check_limit
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job
from pconnect.loop.forked_copies import check_process
from pconnect.remote_entry import map_part

# An iterator submits at least this many jobs per process ahead of the results taken.
_AHEAD = 4
# Default chunks per process, as in `multiprocessing.pool`.
_CHUNKS = 4


class AsyncResult:
    """The handle of a call in progress; it receives a result or an error later.

    `combine` computes the result from those of the jobs. The scheduler's thread calls `callback` with the result, or
    `error_callback` with the error.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        combine: Callable[[list[Any]], Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._jobs = jobs
        self._combine = combine
        self._callback = callback
        self._error_callback = error_callback
        self._value: Any = None
        self._error: BaseException | None = None
        self._left = len(jobs)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        for job in jobs:
            job.add_done_callback(self._take)  # type: ignore[arg-type]
        if not jobs:
            self._end()

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise the first error.

        Raises `TimeoutError` if the result has not arrived in time; you can call this again.
        """
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError(f"timed out after {timeout:g} s waiting for the result")
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has ended, or until `timeout` seconds have passed."""
        if not self.ready():
            check_process(self._process)
        self._ended.wait(timeout)

    def ready(self) -> bool:
        """Return whether the call has ended."""
        return self._ended.is_set()

    def successful(self) -> bool:
        """Return whether the call succeeded. Raises `ValueError` if it has not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def cancel(self) -> None:
        """Cancel all jobs of this call that have not ended."""
        for job in self._jobs:
            job.cancel()

    def _take(self, job: Job) -> None:
        with self._lock:
            self._left -= 1
            is_last = not self._left
            if self._error is None:
                self._error = error_of(job)
        if is_last:
            self._end()

    def _end(self) -> None:
        if self._error is None:
            self._value = self._combine([job.result() for job in self._jobs])
        self._jobs = ()
        try:
            if self._error is not None and self._error_callback is not None:
                self._error_callback(self._error)
            elif self._error is None and self._callback is not None:
                self._callback(self._value)
        finally:
            self._ended.set()


class ResultIterator(Iterator[Any]):
    """The results of `Pool.imap` and `Pool.imap_unordered`, one by one; an item that failed raises its error."""

    def __init__(self, jobs: LazyMap) -> None:
        self._jobs = jobs
        self._values: deque[Any] = deque()
        jobs.fill()

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result. Raises `TimeoutError` if it has not arrived in time; you can call this again."""
        if not self._values:
            if not self._jobs:
                raise StopIteration
            try:
                job = self._jobs.take(timeout)
            except TimeoutError:
                raise TimeoutError(f"timed out after {timeout:g} s waiting for the next result") from None
            self._jobs.fill()
            self._values.extend(job.result())
        return self._values.popleft()


class Pool:
    """Calls functions in worker processes of a network; ``net.pool()`` creates one.

    `executor`: provides the workers. `processes`: maximum number of jobs in flight; ``None`` sets no maximum.
    """

    def __init__(self, executor: Executor, processes: int | None = None) -> None:
        processes = check_limit("processes", processes)
        self._executor = executor
        limits = [limit for limit in (processes, executor.max_workers) if limit is not None]
        self._processes = min(limits, default=None)
        self._throttle = Throttle(executor.start, self._processes, executor.throttles)
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<pool of {self.size} processes{', closed' if self._is_closed else ''}>"

    @functools.cached_property
    def size(self) -> int:
        """Number of processes that run at the same time as long as no other client needs their slots."""
        slots = self._executor.count_slots()
        return slots if self._processes is None else min(slots, self._processes)

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function and return its result."""
        return _wait_or_cancel(self.apply_async(func, args, kwds))

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Start a call of a function and return its handle without waiting."""
        self._check_open()
        job = self._executor.prepare(func, tuple(args), dict(kwds or {}))
        return self._begin([job], lambda values: values[0], callback, error_callback)

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call a function for each item and return the list of results.

        The function, with any bound arguments, is sent to each worker once; the items are sent in chunks.

        Parameters
        ----------
        func
            A function of one argument.
        iterable
            The items; this call reads all of them first.
        chunksize
            Number of items per job; the default makes four jobs for each process.

        Raises
        ------
        RemoteError, JobLostError
            The first error, raised after all jobs have ended.

        Examples
        --------
        >>> import math
        >>> from pconnect import local_network
        >>> with local_network(2) as net, net.pool() as pool:
        ...     pool.map(math.factorial, range(6)), pool.starmap(pow, [(2, 5), (3, 2)])
        ([1, 1, 2, 6, 24, 120], [32, 9])
        """
        return self.starmap(func, _singly(iterable), chunksize)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Call a function with each tuple as its arguments; otherwise like `map`."""
        result: list[Any] = _wait_or_cancel(self.starmap_async(func, iterable, chunksize))
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Start a `map` and return its handle without waiting."""
        return self.starmap_async(func, _singly(iterable), chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Start a `starmap` and return its handle without waiting."""
        self._check_open()
        items = list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (_CHUNKS * max(1, self.size))))
        jobs = list(self._chunks(func, items, chunksize))
        return self._begin(jobs, lambda parts: list(itertools.chain(*parts)), callback, error_callback)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> ResultIterator:
        """Call a function for each item; yield the results in input order as they arrive."""
        return self._iterate(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> ResultIterator:
        """Call a function for each item; yield the results in the order in which they arrive."""
        return self._iterate(func, iterable, chunksize, ordered=False)

    def close(self) -> None:
        """Refuse further work."""
        self._is_closed = True

    def terminate(self) -> None:
        """Refuse further work and cancel the jobs in flight. The workers remain for other uses."""
        self._is_closed = True
        self._throttle.cancel()

    def join(self) -> None:
        """Wait until all work has ended. Call `close` or `terminate` first."""
        if not self._is_closed:
            raise ValueError("Pool is still running")
        self._throttle.join()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("Pool not running")

    def _chunks(
        self, func: Callable[..., Any], items: Iterable[Iterable[Any]], chunksize: int
    ) -> Iterator[Job]:
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        packed: Function = self._executor.pack(functools.partial(map_part, func))
        iterator = iter(items)
        while chunk := [tuple(item) for item in itertools.islice(iterator, chunksize)]:
            yield self._executor.prepare(packed, (chunk,), items=len(chunk))

    def _begin(
        self,
        jobs: Sequence[Job],
        combine: Callable[[list[Any]], Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> AsyncResult:
        result = AsyncResult(jobs, combine, callback, error_callback)
        for job in jobs:
            self._throttle.submit(job)
        return result

    def _iterate(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, *, ordered: bool
    ) -> ResultIterator:
        self._check_open()
        jobs = (self._submit(job) for job in self._chunks(func, _singly(iterable), chunksize))
        total = -(-len(iterable) // max(1, chunksize)) if isinstance(iterable, Sized) else None
        unread = self._executor.unread_maps
        return ResultIterator(
            LazyMap(jobs, ordered=ordered, least_ahead=_AHEAD * self.size, total=total, unread_maps=unread)
        )

    def _submit(self, job: Job) -> Job:
        self._throttle.submit(job)
        return job


def _singly(items: Iterable[Any]) -> Iterator[tuple[Any]]:
    return ((item,) for item in items)


def _wait_or_cancel(result: AsyncResult) -> Any:
    try:
        return result.get()
    except BaseException:
        result.cancel()  # after an interrupt, jobs may still be running
        raise
