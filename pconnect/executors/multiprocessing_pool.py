"""`Pool`: what `multiprocessing.pool.Pool` offers, in worker processes of a network.

For code that wants a pool or the ``map`` of one. Differences: there are no ``initializer`` and ``maxtasksperchild``,
because workers are forked from engines, which `pconnect.reval` prepares; a call that is interrupted cancels what it has
begun; and the iterators take only so many items ahead as keep the workers busy.
"""

import functools
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from pconnect.errors import ConfigurationError
from pconnect.executors.executor import Executor
from pconnect.executors.lazy_map import LazyMap, error_of
from pconnect.executors.throttle import Throttle
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job
from pconnect.loop.forked_copies import check_process
from pconnect.remote_entry import map_part

# Jobs that an iterator submits ahead of what is taken, for each process, at the least.
_AHEAD = 4
# As `multiprocessing.pool` does without a chunksize: so many chunks for each process.
_CHUNKS = 4


class AsyncResult:
    """What is returned at once, and gets a result or an error later.

    `combine`: makes the result of theirs. `callback`, `error_callback`: called with the result, or with the error, in
    the thread that looks after jobs.
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
        """Wait for the result and return it, or raise the first error there was.

        Raises `TimeoutError` if it is not there in time; it comes later.
        """
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError(f"no result after {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for `timeout` seconds."""
        if not self.ready():
            check_process(self._process)
        self._ended.wait(timeout)

    def ready(self) -> bool:
        """Return whether it has ended."""
        return self._ended.is_set()

    def successful(self) -> bool:
        """Return whether it has ended without an error. Raises `ValueError` if it has not ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def cancel(self) -> None:
        """Cancel what has not ended."""
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
    """The results of `Pool.imap` and `Pool.imap_unordered`, one by one; an error is raised in its item's place."""

    def __init__(self, jobs: LazyMap) -> None:
        self._jobs = jobs
        self._values: deque[Any] = deque()
        jobs.fill()

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result. Raises `TimeoutError` if it is not there in time; it comes later."""
        if not self._values:
            if not self._jobs:
                raise StopIteration
            try:
                job = self._jobs.take(timeout)
            except TimeoutError:
                raise TimeoutError(f"no result after {timeout:g} s") from None
            self._jobs.fill()
            self._values.extend(job.result())
        return self._values.popleft()


class Pool:
    """Calls functions in worker processes of a network; ``net.pool()`` makes one.

    `executor`: whose workers these are. `processes`: no more than so many at once; ``None``: as many as there are.
    """

    def __init__(self, executor: Executor, processes: int | None = None) -> None:
        if processes is not None and processes < 1:
            raise ConfigurationError(f"processes={processes}: at least one is needed")
        self._executor = executor
        self._throttle = Throttle(executor, processes)
        self._processes = processes
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<pool of {self.size} processes{', closed' if self._is_closed else ''}>"

    @functools.cached_property
    def size(self) -> int:
        """How many processes work at once, if no other client needs them."""
        slots = self._executor.count_slots()
        return slots if self._processes is None else min(slots, self._processes)

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function, and wait for what it returns."""
        return _wait_or_cancel(self.apply_async(func, args, kwds))

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Have a function called."""
        self._check_open()
        job = self._executor.prepare(func, tuple(args), dict(kwds or {}))
        return self._begin([job], lambda values: values[0], callback, error_callback)

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call a function for each item, and return the list of results.

        The function, and what is bound to it, is sent to each worker once, the items in chunks.

        Parameters
        ----------
        func
            With one argument.
        iterable
            All of it is read at once.
        chunksize
            How many items are one job; by default four jobs for each process.

        Raises
        ------
        RemoteError, JobLostError
            The first error there was, after all has ended.

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
        """Do what `map` does with a tuple of arguments for each call."""
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
        """Begin a `map`."""
        return self.starmap_async(func, _singly(iterable), chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Begin a `starmap`."""
        self._check_open()
        items = list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (_CHUNKS * max(1, self.size))))
        jobs = list(self._chunks(func, items, chunksize))
        return self._begin(jobs, lambda parts: list(itertools.chain(*parts)), callback, error_callback)

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> ResultIterator:
        """Call a function for each item; the results come in order, as they are there."""
        return self._iterate(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> ResultIterator:
        """Call a function for each item; the results come as they are there."""
        return self._iterate(func, iterable, chunksize, ordered=False)

    def close(self) -> None:
        """Take no more work."""
        self._is_closed = True

    def terminate(self) -> None:
        """Take no more work, and cancel what is under way. The workers stay for others."""
        self._is_closed = True
        self._throttle.cancel()

    def join(self) -> None:
        """Wait until all work has ended; after `close` or `terminate`."""
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
        return ResultIterator(LazyMap(jobs, ordered=ordered, least_ahead=_AHEAD * self.size))

    def _submit(self, job: Job) -> Job:
        self._throttle.submit(job)
        return job


def _singly(items: Iterable[Any]) -> Iterator[tuple[Any]]:
    return ((item,) for item in items)


def _wait_or_cancel(result: AsyncResult) -> Any:
    try:
        return result.get()
    except BaseException:
        result.cancel()  # what is left of it if this is an interrupt
        raise
