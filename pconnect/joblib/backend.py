"""The joblib backend ``"pserver"``: tasks of `joblib.Parallel` run as jobs on the nodes of a network.

joblib combines tasks into batches, and each batch is a job. When a job ends, joblib is called back and takes the next
tasks from the user's generator. This happens in a separate thread, because the generator may run any code, including
code that waits for other jobs.

Arrays of at least joblib's ``max_nbytes`` are shared, see `pconnect.jobs.shared_arrays`: each is read once per call of
a `Parallel`, and sent to each worker once. Tasks must not write to them, as with joblib's own processes.
"""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from pconnect.commands.function_pickling import describe, pack_batch
from pconnect.errors import ConfigurationError, ParallelError
from pconnect.executors.executor import Executor
from pconnect.executors.throttle import Throttle
from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job, JobOptions
from pconnect.jobs.seeds import Seeds
from pconnect.jobs.shared_arrays import Sharing
from pconnect.remote_entry import run_batch
from pconnect.session import open_networks
from pconnect.views.job_views import JobView

log = logging.getLogger("pconnect")

_NEVER = 2**63  # no array is this large


class Backend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """The backend selected by ``joblib.parallel_config("pserver", ...)``.

    Parameters
    ----------
    network
        A network, a part of one, or a node; the default is the network connected last.
    allow_pickle
        Whether results and exceptions that cannot be sent otherwise are pickled. Unpickling runs code that the server
        chooses; estimators of scikit-learn need this.
    retries, time_limit, memory_limit
        For each batch; see `pconnect.views.job_views.JobView.executor`.
    seed
        For the random numbers of tasks. The numbers of a task depend on the seed, the number of calls of a `Parallel`
        before, and the number of tasks before it in its call. They do not depend on batches or workers.
    nesting_level, inner_max_num_threads
        As in joblib's other backends.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    def __init__(
        self,
        network: Any = None,
        *,
        allow_pickle: bool = True,
        retries: int | None = None,
        time_limit: float | None = None,
        memory_limit: int | None = None,
        seed: int | None = None,
        nesting_level: int | None = None,
        inner_max_num_threads: int | None = None,
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        if network is not None and not isinstance(network, JobView):
            raise ConfigurationError(
                f"network={network!r} is not a network: give one that pconnect returned, or omit it for the last one"
            )
        self._network: Any = network
        self._options: dict[str, Any] = {
            "allow_pickle": allow_pickle,
            "retries": retries,
            "time_limit": time_limit,
            "memory_limit": memory_limit,
        }
        self._seeds = None if seed is None else Seeds(seed)
        self._executor: Executor | None = None
        self._limit: int | None = None
        self._throttle: Throttle | None = None
        self._sharing: Sharing | None = None
        self._min_bytes = _NEVER
        self._run_batch: Function | None = None
        self._callers: ThreadPoolExecutor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at the same time: `n_jobs`, but at most the number of slots of the servers."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = self.default_n_jobs
        if n_jobs == 1:
            return 1
        slots = self._open().count_slots()
        if not slots:
            raise ConfigurationError(
                "the servers of this network offer no slots for jobs: ask their administrator"
            )
        wanted = slots + 1 + n_jobs if n_jobs < 0 else n_jobs
        # For joblib, 1 means to run tasks here without a backend; a single remote slot should still be used.
        return max(2, min(wanted, slots))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Prepare for calls of one `Parallel`; return how many tasks run at the same time."""
        self.parallel = parallel
        self._executor = None
        count = self.effective_n_jobs(n_jobs)
        if self._seeds is not None:
            self._open().seeds = self._seeds.branch()
        slots = self._open().count_slots()
        limit = slots + 1 + n_jobs if n_jobs < 0 else n_jobs
        self._limit = None if limit >= slots else max(1, limit)
        max_nbytes = options.get("max_nbytes")
        self._min_bytes = _NEVER if max_nbytes is None else max(1, int(max_nbytes))
        return count

    def _open(self) -> Executor:
        if self._executor is None:
            if self._network is not None:
                self._executor = self._network.executor(**self._options)
            else:
                meshes = open_networks.all_open()
                if not meshes:
                    raise ConfigurationError("no network is open: connect with pconnect first")
                self._executor = Executor(meshes[-1], JobOptions(**self._options))
        return self._executor

    def start_call(self) -> None:
        """Begin a call of the `Parallel`."""
        self._throttle = Throttle(self._open().start, self._limit, self._open().throttles)
        # All batches call the same function, whatever their tasks are, so each call of `Parallel` has its own estimate.
        self._run_batch = self._open().pack(run_batch).with_estimate(DurationEstimate())
        self._sharing = self._open().share(self._min_bytes)
        self._callers = ThreadPoolExecutor(1, thread_name_prefix="pconnect joblib")

    def stop_call(self) -> None:
        """End a call of the `Parallel`."""
        if self._callers is not None:
            self._callers.shutdown(wait=False)

    def submit(self, func: Any, callback: Callable[[Job], Any] | None = None) -> Job:
        """Run a batch; `callback` is called with the job when it ends."""
        assert self._throttle is not None  # noqa: S101 - set by `start_call`
        assert self._sharing is not None and self._run_batch is not None  # noqa: S101 - set by `start_call`
        executor, callers = self._open(), self._callers
        try:
            packed = pack_batch(func, self._sharing.reduce, executor.foreign)
        except ParallelError as error:
            job = executor.prepare(self._run_batch)
            job.set_running_or_notify_cancel()
            job.fail(error)
        else:
            job = executor.prepare(self._run_batch, [*packed, self.inner_max_num_threads], items=len(func))
            job.shared = self._sharing.take_found()
        job.name = _name(func)
        if callback is not None:
            job.add_done_callback(lambda job: _call_back(callers, callback, job))  # type: ignore[arg-type]
        self._throttle.submit(job)
        return job

    apply_async = submit  # the name used by joblib before 1.5

    def retrieve_result_callback(self, out: Job) -> Any:
        """Return the results of a batch, or raise the error of the first task that failed."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002 - the backend is always ready
        """Cancel all jobs that have not ended: running ones are interrupted, and killed if they do not end."""
        if self._throttle is not None:
            self._throttle.cancel()
        if self._sharing is not None:
            self._sharing.distrust()


def _call_back(callers: ThreadPoolExecutor | None, callback: Callable[[Job], Any], job: Job) -> None:
    assert callers is not None  # noqa: S101 - set by `start_call`

    def call() -> None:
        try:
            callback(job)
        except BaseException:
            log.exception("joblib could not take the result of %r", job)
            raise

    with contextlib.suppress(RuntimeError):  # the call has ended, and joblib wants no further results
        callers.submit(call)


def _name(batch: Any) -> str:
    """Return a description of a batch: the call of its first task, and the number of tasks."""
    name = describe(batch.items[0][0])
    return name if len(batch) == 1 else f"{len(batch)} times {name}"
