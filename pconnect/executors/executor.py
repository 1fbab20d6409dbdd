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
from pconnect.jobs.shared_arrays import Sharing
from pconnect.protocol.messages import check_size
from pconnect.remote_entry import map_part
from pconnect.scheduler.scheduler import Scheduler
from pconnect.session.client_mesh import ClientMesh

_making = threading.Lock()


class Executor(concurrent.futures.Executor):
    """Calls functions in worker processes of a network; ``net.executor()`` makes one.

    `options`: for all jobs submitted here. `exclusive`: wait until no other client has a slot of the servers, and hold
    all of them until the shutdown.
    """

    def __init__(self, mesh: ClientMesh, options: JobOptions, *, exclusive: bool = False) -> None:
        mesh.check_open()
        self._scheduler = scheduler_of(mesh)
        self._max_bytes = mesh.limits.max_message_bytes
        self._nodes = frozenset(mesh.servers)
        self._options = options
        self._jobs: set[Job] = set()
        self._lock = threading.Lock()
        self._is_shut_down = False
        self._is_exclusive = exclusive
        if exclusive:
            self._scheduler.set_exclusive(self._options.on or self._nodes, 1)

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

    def pack(self, fn: Callable[..., Any]) -> Function:
        """Return a function as it is now, to be used for many jobs.

        Raises `ConfigurationError` if it cannot be sent.
        """
        return self._scheduler.functions.get(fn)

    def pack_for_map(self, fn: Callable[..., Any] | str) -> Function | Callable[..., Any] | str:
        """Return a function as it is now, for many jobs; `fn` itself if it cannot be sent, which each job then says."""
        try:
            return self._scheduler.functions.get(fn)
        except ParallelError:
            return fn

    def prepare(
        self,
        fn: Function | Callable[..., Any] | str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = {},
    ) -> Job:
        """Return a job that `start` starts; what cannot be sent is its error already."""
        scheduler = self._scheduler
        job = Job(scheduler.next_number(), "", (), self._options, scheduler)
        try:
            if not callable(fn) and not isinstance(fn, str | Function):
                raise ConfigurationError(f"{fn!r} cannot be called: give a function")
            function = job.function = fn if isinstance(fn, Function) else scheduler.functions.get(fn)
            job.name = function.name
            check_size(function.size, self._max_bytes)
            job.buffers = encode_job(job, args, kwargs, self._max_bytes)
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
        if chunksize == 1:
            packed = self.pack_for_map(fn)
            return super().map(packed, *iterables, timeout=timeout)
        items = list(zip(*iterables, strict=False))
        chunks = [items[begin : begin + chunksize] for begin in range(0, len(items), chunksize)]
        packed = self.pack_for_map(functools.partial(map_part, fn))
        parts = super().map(packed, chunks, timeout=timeout)
        return (value for part in parts for value in part)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs; see `concurrent.futures.Executor.shutdown`. The workers stay for other executors."""
        with self._lock:
            before, self._is_shut_down = self._is_shut_down, True
            jobs = list(self._jobs)
        if self._is_exclusive and not before:
            self._scheduler.set_exclusive(self._options.on or self._nodes, -1)
        if cancel_futures:
            for job in jobs:
                if not job.running():
                    job.cancel()
        if wait:
            concurrent.futures.wait(jobs)


def scheduler_of(mesh: ClientMesh) -> Scheduler:
    """Return what looks after the jobs of a network."""
    with _making:
        if mesh.scheduler is None:
            mesh.renew_certificates()
            mesh.scheduler = Scheduler(mesh)
        found: Scheduler = mesh.scheduler
        return found
