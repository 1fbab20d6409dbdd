"""`Executor`: the standard library's executor interface to the workers of a network."""

import concurrent.futures
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pconnect.commands.function_pickling import describe
from pconnect.errors import ConfigurationError, ParallelError
from pconnect.executors.throttle import Throttle, check_limit
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job, JobOptions, encode_job
from pconnect.jobs.seeds import Seeds
from pconnect.jobs.shared_arrays import Sharing
from pconnect.protocol.messages import check_size
from pconnect.remote_entry import map_part
from pconnect.scheduler.scheduler import Scheduler
from pconnect.session.client_mesh import ClientMesh


class JobMaker:
    """A callable for `submit` or `map` that builds its jobs itself, as a program does."""

    def make_job(
        self,
        scheduler: Scheduler,
        options: JobOptions,
        max_message_bytes: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Job:
        """Return the job for one call. Raises `ParallelError`, which the caller stores as the error of the job."""
        raise NotImplementedError


class Executor(concurrent.futures.Executor):
    """Calls functions in worker processes of a network; ``net.executor()`` creates one.

    `options` apply to all jobs submitted here. `seeds` are for their random numbers; with ``None`` the jobs use the
    network's seeds at the time of the call. `exclusive`: wait until no other client holds a slot of the servers, then
    hold all slots until `shutdown`. `max_workers`: maximum number of jobs in progress; ``None`` sets no maximum.
    """

    def __init__(
        self,
        mesh: ClientMesh,
        options: JobOptions,
        seeds: Seeds | None = None,
        *,
        exclusive: bool = False,
        max_workers: int | None = None,
    ) -> None:
        max_workers = check_limit("max_workers", max_workers)
        mesh.check_open()
        self._mesh = mesh
        self._scheduler = scheduler_of(mesh)
        self._max_bytes = mesh.limits.max_message_bytes
        self._options = options
        self.seeds = seeds
        self.max_workers = max_workers
        self._throttle = (
            Throttle(self._scheduler.submit, max_workers, self.throttles) if max_workers else None
        )
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()
        self._is_shut_down = False
        self._held = self._options.on or self._nodes if exclusive else frozenset()
        if exclusive:
            self._scheduler.set_exclusive(self._held, 1)

    @property
    def _nodes(self) -> frozenset[int]:
        """All nodes that the network has at present."""
        return frozenset(self._mesh.servers)

    @property
    def throttles(self) -> set[Throttle]:
        """The throttles of the network that hold jobs back."""
        return self._mesh.jobs.throttles

    @property
    def unread_maps(self) -> set[Any]:
        """Weak references to the maps of the network that have not read all of their inputs."""
        return self._mesh.jobs.unread_maps

    def submit(self, fn: Function | Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Call ``fn(*args, **kwargs)`` in a worker as soon as one is free.

        The function is copied before this returns. Large arrays among the arguments are sent from their own memory, so
        do not change the arguments until the job has ended. The function sees the effects of all commands that ended in
        the engines' workspaces before this call.

        Returns a `concurrent.futures.Future`. If the function or an argument cannot be sent, the future holds that
        error. Raises `RuntimeError` after `shutdown`.
        """
        job = self.prepare(fn, args, kwargs)
        self.start(job)
        return job

    # --- for interfaces of other libraries, which are built on this class ---

    def submit_chunk(self, function: Any, chunk: Sequence[Any]) -> Job:
        """Call the result of `pack_for_map` for a `map_part` with a chunk of items, as one job."""
        job = self.prepare(function, (chunk,), items=len(chunk))
        self.start(job)
        return job

    @property
    def foreign(self) -> str:
        """The nodes allowed for jobs that run another version of Python, as text; empty if there are none."""
        return self._mesh.foreign_among(self._options.on or self._nodes) if self._mesh.foreign else ""

    def pack(self, fn: Callable[..., Any]) -> Function:
        """Pack a function in its present state, for use in many jobs.

        Raises `ConfigurationError` if it cannot be sent.
        """
        return self._scheduler.functions.get(fn, self.foreign)

    def pack_for_map(self, fn: Callable[..., Any] | str) -> Function | Callable[..., Any] | str:
        """Pack a function for many jobs. Returns `fn` itself if it cannot be sent; each job then reports the error."""
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
        """Return a job of `items` items for `start`. If something cannot be sent, the job has that error already."""
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
            job.after = time.monotonic()  # the job sees all commands that ended before this instant
        except ParallelError as error:
            if not isinstance(fn, Function):
                job.name = describe(fn)
            job.begin()
            job.fail(error)
        return job

    def start(self, job: Job) -> None:
        """Submit a job that `prepare` has returned. Raises `RuntimeError` after `shutdown`."""
        with self._lock:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._jobs.add(job)
        job.siblings = self._jobs
        if job.done():
            self._jobs.discard(job)
        elif self._throttle is None:
            self._scheduler.submit(job)
        else:
            self._throttle.submit(job)

    def count_slots(self, timeout: float = 30.0) -> int:
        """Return the total number of job slots that the servers offer to all their clients together.

        Raises `TimeoutError` if a server has not answered in time.
        """
        return self._scheduler.count_slots(self._options.on or self._nodes, timeout)

    def usable_slots(self, timeout: float = 30.0) -> int:
        """Return how many jobs of this executor may run at the same time. Raises as `count_slots`."""
        slots = self.count_slots(timeout)
        return min(slots, self.max_workers or slots)

    def known_slots(self) -> int:
        """Return how many jobs may run at the same time, without waiting; 0 while servers have not reported."""
        try:
            return self.usable_slots(0)
        except TimeoutError:
            return 0

    def share(self, min_bytes: int) -> Sharing:
        """Return a `Sharing`, which finds large arrays in arguments and sends each of them to a worker once."""
        return Sharing(self._scheduler.contents, min_bytes, self._max_bytes)

    # --- the interface of the standard library ---

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Any]:
        """Call a function, in its present state, for each item; see `concurrent.futures.Executor.map`."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        packed: Any  # `submit` accepts packed functions as well
        if chunksize == 1 or isinstance(fn, JobMaker):
            packed = self.pack_for_map(fn)
            return super().map(packed, *iterables, timeout=timeout)
        items = list(zip(*iterables, strict=False))
        chunks = [items[begin : begin + chunksize] for begin in range(0, len(items), chunksize)]
        packed = self.pack_for_map(functools.partial(map_part, fn))
        parts = _Chunks(self).map(packed, chunks, timeout=timeout)
        return (value for part in parts for value in part)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuse further jobs; see `concurrent.futures.Executor.shutdown`. The workers remain for other executors."""
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
    """An executor whose `submit` takes chunks of items."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def submit(self, fn: Any, chunk: Any) -> Any:  # type: ignore[override] # `map` passes these two arguments
        return self._executor.submit_chunk(fn, chunk)


def scheduler_of(mesh: ClientMesh) -> Scheduler:
    """Return the scheduler of a network; create it on the first call."""
    mesh.check_open()
    if mesh.scheduler is None:
        mesh.renew_certificates()
        with mesh.event_loop.sigint_deferred:  # another thread may be in here as well
            if mesh.scheduler is None:
                mesh.scheduler = Scheduler(mesh)
    found: Scheduler = mesh.scheduler
    return found
