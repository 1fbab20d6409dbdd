"""`Executor`: the standard library's interface to the processors that the servers of a network offer."""

import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pconnect.commands.function_pickling import describe
from pconnect.errors import ConfigurationError, ParallelError
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job, JobOptions, encode_job
from pconnect.jobs.seeds import Seeds
from pconnect.jobs.shared_arrays import Sharing
from pconnect.protocol.messages import check_size
from pconnect.remote_entry import map_part
from pconnect.scheduler.scheduler import Scheduler
from pconnect.session.client_mesh import ClientMesh


class JobMaker:
    """What is given to `submit` or `map` as a function is, and makes the jobs itself; a program does."""

    def make_job(
        self,
        scheduler: Scheduler,
        options: JobOptions,
        max_message_bytes: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Job:
        """Return the job of one call. Raises `ParallelError`, which becomes the error of a job."""
        raise NotImplementedError


class Executor(concurrent.futures.Executor):
    """Calls functions in worker processes of a network; ``net.executor()`` makes one.

    `options`: for all jobs submitted here. `seeds`: for their random numbers; ``None``: as those of the network are
    then. `exclusive`: wait until no other client has a slot of the servers, and hold all of them until the shutdown.
    """

    def __init__(
        self, mesh: ClientMesh, options: JobOptions, seeds: Seeds | None = None, *, exclusive: bool = False
    ) -> None:
        mesh.check_open()
        self._mesh = mesh
        self._scheduler = scheduler_of(mesh)
        self._max_bytes = mesh.limits.max_message_bytes
        self._options = options
        self.seeds = seeds
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()
        self._is_shut_down = False
        self._held = self._options.on or self._nodes if exclusive else frozenset()
        if exclusive:
            self._scheduler.set_exclusive(self._held, 1)

    @property
    def _nodes(self) -> frozenset[int]:
        """All nodes that the network has now."""
        return frozenset(self._mesh.servers)

    def submit(self, fn: Function | Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Have ``fn(*args, **kwargs)`` called in some worker, as soon as one is free.

        The function is sent as it is now, the arguments as they are until the job has ended: do not change them before.
        What commands that have ended by now have done in the engines' workspaces, the function finds there.

        Returns a `concurrent.futures.Future`. What cannot be sent is its error, too. Raises `RuntimeError` after
        `shutdown`.
        """
        job = self.prepare(fn, args, kwargs)
        self.start(job)
        return job

    # --- for the interfaces of other libraries, which are made of this one ---

    def submit_chunk(self, function: Any, chunk: Sequence[Any]) -> Job:
        """Have what `pack_for_map` returned for a `map_part` called with a chunk of items, as one job."""
        job = self.prepare(function, (chunk,), items=len(chunk))
        self.start(job)
        return job

    @property
    def foreign(self) -> str:
        """Which nodes where jobs may run have another version of Python, in words."""
        return self._mesh.foreign_among(self._options.on or self._nodes) if self._mesh.foreign else ""

    def pack(self, fn: Callable[..., Any]) -> Function:
        """Return a function as it is now, to be used for many jobs.

        Raises `ConfigurationError` if it cannot be sent.
        """
        return self._scheduler.functions.get(fn, self.foreign)

    def pack_for_map(self, fn: Callable[..., Any] | str) -> Function | Callable[..., Any] | str:
        """Return a function as it is now, for many jobs; `fn` itself if it cannot be sent, which each job then says."""
        if isinstance(fn, JobMaker):
            return fn
        try:
            return self._scheduler.functions.get(fn, self.foreign)
        except ParallelError:
            return fn

    def prepare(
        self,
        fn: Function | Callable[..., Any] | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = {},
        items: int = 1,
    ) -> Job:
        """Return a job, of so many items, that `start` starts; what cannot be sent is its error already."""
        scheduler, foreign = self._scheduler, self.foreign
        job = Job(scheduler.next_number(), "", (), self._options, scheduler)
        if items != 1:
            job.items = items
        if (seeds := self.seeds or self._mesh.jobs.seeds) is not None:
            job.stream = seeds.take(items)
        if quieted := self._mesh.console.quieted:
            job.quiet = frozenset(quieted)
        try:
            if isinstance(fn, JobMaker):
                return fn.make_job(scheduler, self._options, self._max_bytes, args, kwargs)
            if not callable(fn) and not isinstance(fn, str | Function):
                raise ConfigurationError(f"{fn!r} cannot be called: give a function")
            function = job.function = fn if isinstance(fn, Function) else scheduler.functions.get(fn, foreign)
            job.name = function.name
            check_size(function.size, self._max_bytes)
            job.buffers = encode_job(job, args, kwargs, self._max_bytes, foreign)
            job.after = time.monotonic()  # as of the ends of commands
        except ParallelError as error:
            if not isinstance(fn, Function):
                job.name = describe(fn)
            job.begin()
            job.fail(error)
        return job

    def start(self, job: Job) -> None:
        """Have a job done that `prepare` has returned. Raises `RuntimeError` after `shutdown`."""
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._jobs.add(job)
        job.siblings = self._jobs
        if job.done():
            self._jobs.discard(job)
        else:
            self._scheduler.submit(job)

    def count_slots(self, timeout: float = 30.0) -> int:
        """Return how many processes for jobs the servers offer at once, to all their clients together.

        Raises `TimeoutError` if not all have said it in time.
        """
        return self._scheduler.count_slots(self._options.on or self._nodes, timeout)

    def share(self, min_bytes: int) -> Sharing:
        """Return what finds large arrays in arguments, so that they are sent to each worker once."""
        return Sharing(self._scheduler.contents, min_bytes, self._max_bytes)

    # --- the standard library's ---

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Call a function, as it is now, for each item; see `concurrent.futures.Executor.map`."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        packed: Any  # which `submit` takes as well
        if chunksize == 1 or isinstance(fn, JobMaker):
            packed = self.pack_for_map(fn)
            return super().map(packed, *iterables, timeout=timeout)
        items = list(zip(*iterables, strict=False))
        chunks = [items[begin : begin + chunksize] for begin in range(0, len(items), chunksize)]
        packed = self.pack_for_map(functools.partial(map_part, fn))
        parts = _Chunks(self).map(packed, chunks, timeout=timeout)
        return (value for part in parts for value in part)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; see `concurrent.futures.Executor.shutdown`. The workers stay for other executors."""
        with self._lock:
            before, self._is_shut_down = self._is_shut_down, True
            jobs = list(self._jobs)
        if self._held and not before:
            self._scheduler.set_exclusive(self._held, -1)
        if cancel_futures:
            for job in jobs:
                if not job.running():
                    job.cancel()
        if wait:
            concurrent.futures.wait(jobs)


class _Chunks(concurrent.futures.Executor):
    """An executor that takes chunks of items."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Any, chunk: Any) -> Any:  # type: ignore[override] # for `map`, which calls it so
        return self._executor.submit_chunk(fn, chunk)


def scheduler_of(mesh: ClientMesh) -> Scheduler:
    """Return what looks after the jobs of a network."""
    mesh.check_open()
    if mesh.scheduler is None:
        mesh.renew_certificates()
        with mesh.event_loop.sigint_deferred:  # another thread may be here, too
            if mesh.scheduler is None:
                mesh.scheduler = Scheduler(mesh)
    found: Scheduler = mesh.scheduler
    return found
