"""Jobs in this process: each runs during `submit`, which returns a future that has ended."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pconnect.commands.function_pickling import describe
from pconnect.errors import ConfigurationError
from pconnect.executors.executor import Executor
from pconnect.executors.job_map import check_chunksize, spread, submit_chunks, submit_items
from pconnect.executors.throttle import Throttle, check_limit
from pconnect.jobs import random_streams
from pconnect.jobs.broadcast_value import Broadcast
from pconnect.jobs.job import Job, JobOptions
from pconnect.jobs.seeds import Seeds
from pconnect.jobs.worker_api import side
from pconnect.loop.in_process import missing
from pconnect.one_process.node import Home
from pconnect.programs.completed import CompletedProgram, ProgramFailedError
from pconnect.programs.run_here import HOST

_DEPTH = 10  # nesting depth of lists and dicts in which broadcast values are replaced


class _Owner:
    """The owner of jobs that have ended, for which nothing is left to do."""

    def drop(self, job: Job) -> None:
        pass

    def stop(self, job: Job, grace: float) -> None:
        pass

    def attend(self, job: Job, deadline: float) -> None:
        pass

    def call_back(self, function: Callable[[], object]) -> None:
        function()

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        pass

    def fetch(self, job: Job, error: Exception, timeout: float | None) -> Any:
        raise error

    def why(self, job: Job) -> str:
        return ""


class SerialJob(Job):
    """A job that keeps its function and arguments."""

    called: tuple[Callable[..., Any] | str, Sequence[Any], Mapping[str, Any]] = ("", (), {})


class SerialExecutor(Executor):
    """An executor with the usual interface. `on`: the nodes whose workspaces the jobs use in turn."""

    def __init__(
        self,
        home: Home,
        options: JobOptions,
        on: Sequence[int],
        seeds: Seeds | None = None,
        *,
        max_workers: int | None = None,
    ) -> None:
        # Does not call the constructor of the base class, which needs servers.
        check_limit("max_workers", max_workers)
        home.check_open()
        self._home = home
        self._options = options
        self._on = list(on)
        self.seeds = seeds
        self._jobs = set()
        self._lock = threading.Lock()
        self._is_shut_down, self._held = False, frozenset()
        self.max_workers = self._throttle = None  # one job runs at a time anyway

    @property
    def throttles(self) -> set[Throttle]:
        """An empty set: jobs end in their submission, so none is held back."""
        return set()

    @property
    def unread_maps(self) -> set[Any]:
        """An empty set: this network cannot be detached."""
        return set()

    def pack(self, fn: Callable[..., Any]) -> Any:
        """Return the function itself, which needs no packing."""
        return fn

    def pack_for_map(self, fn: Callable[..., Any] | str) -> Any:
        """Return the function itself, which needs no packing."""
        return fn

    def prepare(
        self,
        fn: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = {},
        items: int = 1,
    ) -> Job:
        """Return a job for `start`."""
        job = SerialJob(next(self._home.job_numbers), describe(fn), (), self._options, _Owner())
        if items != 1:
            job.items = items
        if (seeds := self.seeds or self._home.seeds) is not None:
            job.stream = seeds.take(items)
        job.called = fn, args, kwargs
        if not callable(fn) and not isinstance(fn, str):
            job.begin()
            job.fail(ConfigurationError(f"{fn!r} cannot be called: give a function"))
        return job

    def start(self, job: Job) -> None:
        """Run a job. Raises `RuntimeError` after `shutdown`."""
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self._home.check_open()
        if job.done() or not job.begin():
            return
        assert isinstance(job, SerialJob)  # noqa: S101 - made by `prepare`
        workspace = self._home.nodes[self._on[job.number % len(self._on)]]
        job.place = workspace.number, HOST
        job.is_started = True
        function, args, kwargs = job.called
        began, begin = time.time(), time.perf_counter()
        error: Exception | None = None
        value: object = None
        try:
            with _as_job(job, self._home.network_id):
                if self._home.has_broadcasts:
                    args, kwargs = _values(args), _values(kwargs)
                value = workspace.call_here(function, args, kwargs)
        except Exception as raised:  # noqa: BLE001 - `result` raises any exception; Ctrl-C ends this call itself
            error = raised
        job.started, job.duration = began, time.perf_counter() - begin
        if isinstance(value, CompletedProgram):
            job.outputs = value.outputs
        elif isinstance(error, ProgramFailedError):
            job.outputs = error.outputs
        if error is None:
            job.finish(value)
        else:
            job.fail(error)

    def count_slots(self, timeout: float = 30.0) -> int:
        """Return 1."""
        return 1

    def share(self, min_bytes: int) -> Any:
        """Refuse this call, which the joblib backend needs."""
        raise missing("joblib", "use joblib's own backend for this, sequential")

    def results(
        self,
        function: Callable[..., Any] | str,
        iterables: Sequence[Iterable[Any]],
        on_error: str,
        chunksize: int | str,
    ) -> Iterator[Any]:
        """Compute each result when the iterator is advanced; see `pconnect.views.map_views.MapView.map`."""
        if on_error not in {"raise", "return"}:
            raise ConfigurationError(f'on_error={on_error!r} is not allowed: use "raise" or "return"')
        size = check_chunksize(chunksize)
        items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if size is None or size == 1:
            return (_outcome(job, on_error) for job in submit_items(self, function, items))
        chunks = submit_chunks(self, function, items, size)
        return (value for job in chunks for value in spread(_outcome(job, on_error), job))


def _outcome(job: Job, on_error: str) -> Any:
    return job.result() if on_error == "raise" or job.exception() is None else job.exception()


class _as_job:  # noqa: N801 - used like a function
    """Run the body as a job, with its random numbers and hooks. A class, because it adds fewer traceback frames."""

    def __init__(self, job: Job, network_id: int) -> None:
        self._job = job
        self._network_id = network_id

    def __enter__(self) -> None:
        # Without a seed, the state of the global generators carries over from job to job.
        is_seeded = self._job.stream is not None
        self._before = random_streams.save(with_global_generators=is_seeded), vars(side).copy()
        side.number, side.report, side.make_folder = self._job.number, self._job.report, _no_folder
        if self._job.stream is None:
            random_streams.begin(self._network_id, (self._job.number,), is_seeded=False)
        else:
            seed, *key = self._job.stream
            random_streams.begin(seed, tuple(key), is_seeded=True)

    def __exit__(self, *_: object) -> None:
        saved, facts = self._before
        vars(side).update(facts)
        random_streams.restore(saved)


def _no_folder(_: str | None) -> Any:
    raise missing("job_folder()", "use local_network() for jobs with their own folders")


def _values(given: Any, depth: int = _DEPTH) -> Any:
    """Replace broadcast handles in arguments by their values."""
    if isinstance(given, Broadcast):
        return given.value
    if depth and type(given) in {list, tuple}:
        return type(given)(_values(item, depth - 1) for item in given)
    if depth and type(given) is dict:
        return {key: _values(value, depth - 1) for key, value in given.items()}
    return given
