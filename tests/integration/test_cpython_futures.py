"""CPython's tests of its own executors, run on ours.

The tests come from the running Python's package `test`, which some distributions omit or package separately. Their
functions travel by name: the engines import the same package.
"""

import importlib
import logging
import os
import pkgutil
import sys
import unittest
from collections.abc import Callable, Iterator
from concurrent import futures
from types import ModuleType
from typing import Any

import pytest

from pconnect import JobLostError, local_network
from pconnect.executors.executor import Executor
from pconnect.jobs.job import Job, JobOptions
from pconnect.views.network_views import ClientNetwork

NAME = "test.test_concurrent_futures"  # a module until Python 3.11, a package since

# Debian's package libpython3.X-testsuite installs them here. They also serve a Python of the same version that lacks
# these tests or the whole package `test`.
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
FIND_DEBIANS = f"""
import importlib.util, sys, types
if importlib.util.find_spec("test") is None:
    sys.modules["test"] = types.ModuleType("test")
    sys.modules["test"].__path__ = []
import test
test.__path__.append("/usr/lib/python{VERSION}/test")
"""

exec(FIND_DEBIANS)
try:
    _root = importlib.import_module(NAME)
except ImportError as _error:
    _reason = f"this Python comes without {NAME}; Debian has it in libpython{VERSION}-testsuite: {_error}"
    if os.environ.get("CI"):
        raise AssertionError(_reason) from _error
    pytest.skip(_reason, allow_module_level=True)

pytestmark = pytest.mark.slow
WORKERS = 5  # as their tests expect

#: CPython's classes that run here, each with its own tests (not inherited ones) that cannot apply, and the reasons.
CANNOT_APPLY: dict[str, dict[str, str]] = {
    "ExecutorTest": {
        "test_max_workers_negative": "the servers set the number of workers",
    },
    "ThreadPoolExecutorTest": {
        "test_map_submits_without_iteration": "the job changes a list of the client",
        "test_default_workers": "looks into _max_workers",
        "test_saturation": "looks into _threads",
        "test_idle_thread_reuse": "looks into _threads",
        "test_hang_global_shutdown_lock": "tests only threads and forks; a job submits to its own pool",
        "test_executor_map_current_future_cancel": "the job changes a list of the client",
    },
    "ProcessPoolExecutorTest": {
        "test_max_workers_too_large": "is of Windows",
        "test_killed_child": "looks into _processes; a lost worker is replaced, and does not break the executor",
        "test_traceback": "the cause is a RemoteError with the traceback, not _RemoteTraceback",
        "test_ressources_gced_in_workers": "a multiprocessing manager takes in children of its own process only",
        "test_saturation": "looks into _processes",
        "test_idle_process_reuse_one": "looks into _processes",
        "test_idle_process_reuse_multiple": "looks into _processes",
        "test_max_tasks_per_child": "looks into _processes; our counterpart is isolate=True",
        "test_max_tasks_per_child_defaults_to_spawn_context": "looks into _mp_context",
        "test_max_tasks_early_shutdown": "needs a multiprocessing context",
    },
    "ExecutorShutdownTest": {
        "test_cancel_futures": "expects that a job has begun by then; another thread sends jobs. See test_executor",
        "test_interpreter_shutdown": "runs an executor of the standard library, by name, in another interpreter",
        "test_submit_after_interpreter_shutdown": "runs one of the standard library in another interpreter",
        "test_hang_gh83386": "runs one of the standard library in another interpreter",
    },
    "ThreadPoolShutdownTest": {
        "test_threads_terminate": "looks into _threads",
        "test_context_manager_shutdown": "looks into _threads",
        "test_del_shutdown": "looks into _threads",
        "test_shutdown_no_wait": "looks into _threads",
        "test_thread_names_assigned": "looks into _threads",
        "test_thread_names_default": "looks into _threads",
        "test_cancel_futures_wait_false": "runs one of the standard library in another interpreter",
    },
    "ProcessPoolShutdownTest": {
        "test_processes_terminate": "looks into _processes",
        "test_context_manager_shutdown": "looks into _processes",
        "test_del_shutdown": "looks into _processes",
        "test_shutdown_no_wait": "looks into _processes",
    },
    "WaitTests": {},
    "ThreadPoolWaitTests": {
        "test_pending_calls_race": "the jobs wait for an event of the client",
    },
    "AsCompletedTests": {
        "test_free_reference_yielded_future": "checks when the job thread releases a future",
    },
    "ExecutorDeadlockTest": {
        # test_job_crashes tests the error that we raise there instead.
        "test_error_at_task_pickle": "is a ConfigurationError here, which names the unsendable part",
        "test_exit_at_task_unpickle": "fails the job with the raised error, and does not break the executor",
        "test_error_at_task_unpickle": "fails the job with the raised error, and does not break the executor",
        "test_error_during_result_pickle_on_worker": "is a ConfigurationError here, which names the unsendable part",
        "test_error_during_result_unpickle_in_result_handler": "is an UnreadableValueError here",
        "test_exit_during_result_unpickle_in_result_handler": "is an UnreadableValueError here",
        "test_shutdown_deadlock_pickle": "looks into _executor_manager_thread",
    },
    "FutureTests": {
        "test_repr": "the repr of a job shows its name and where it runs",
        "test_cancel": "a running job can be cancelled",
        "test_multiple_set_result": "the repr of a job shows its name and where it runs",
        "test_multiple_set_exception": "the repr of a job shows its name and where it runs",
    },
}

#: The same for tests that came with a later Python.
CAME_LATER: dict[tuple[int, int], dict[str, dict[str, str]]] = {
    (3, 12): {
        "ExecutorDeadlockTest": {
            "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "looks into _executor_manager_thread",
        },
    },
    (3, 13): {
        "ProcessPoolExecutorTest": {
            "test_python_finalization_error": "runs one of the standard library in another interpreter",
        },
    },
}


def excluded() -> dict[str, dict[str, str]]:
    """Return the tests of this Python that cannot apply."""
    found = {name: dict(tests) for name, tests in CANNOT_APPLY.items()}
    for version, table in CAME_LATER.items():
        if sys.version_info >= version:
            for name, tests in table.items():
                found[name] |= tests
    return found


def modules() -> Iterator[ModuleType]:
    yield _root
    for info in pkgutil.iter_modules(getattr(_root, "__path__", ())):
        if info.name != "__main__":
            yield importlib.import_module(f"{NAME}.{info.name}")


def their(name: str) -> Any:
    """Return a class of CPython's tests, from the module that defines it."""
    for module in modules():
        found = vars(module).get(name)
        if found is not None and found.__module__ == module.__name__:
            return found
    raise AssertionError(f"{NAME} has no {name}")


class Ours:
    """The counterpart of CPython's executor mixins."""

    network: ClientNetwork
    executor: Executor
    worker_count = WORKERS

    @staticmethod
    def executor_type(max_workers: int = WORKERS, **_: object) -> Executor:
        assert max_workers <= WORKERS
        return Ours.network.executor(allow_pickle=True)

    def get_context(self) -> None:
        return None

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.executor = self.executor_type()

    def tearDown(self) -> None:
        self.executor.shutdown(wait=True)
        super().tearDown()  # type: ignore[misc]


class ToStderr:
    """Writes log records about futures to standard error, where CPython's tests look for them."""

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        logger = logging.getLogger("concurrent.futures")
        logger.propagate = False
        self.addCleanup(setattr, logger, "propagate", True)  # type: ignore[attr-defined]


class NoOwner:
    """The scheduler of jobs that never run."""

    def drop(self, job: Job) -> None:
        """Do nothing: the jobs are not in a queue."""

    def stop(self, job: Job, grace: float) -> None:
        """Do nothing: the jobs are not on a worker."""

    def attend(self, job: Job, deadline: float) -> None:
        """Do nothing: there are no results."""

    def show(self, job: Job, stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Do nothing: nobody watches."""

    def fetch(self, job: Job, error: Exception, timeout: float | None) -> Any:  # noqa: ARG002
        """Raise the error: no job keeps it."""
        raise error

    def why(self, job: Job) -> str:  # noqa: ARG002
        """Return why the job waits."""
        return ""

    def call_back(self, function: Callable[[], object]) -> None:
        """Call the function, as in the job thread."""
        function()


def made_job(state: str = "PENDING", exception: object = None, result: object = None) -> Job:
    """Return a job in a given state, as CPython's `create_future` does with futures."""
    job: Any = Job(1, "f(...)", [], JobOptions(), NoOwner())
    job._state, job._exception, job._result = state, exception, result
    return job  # type: ignore[no-any-return]


def make_suite(name: str, *bases: type) -> type:
    """Return a copy of a CPython test class, with only those of its own tests that apply."""
    left_out = excluded()[name]
    kept = {
        key: value
        for key, value in vars(their(name)).items()
        if key not in left_out and not key.startswith("__")
    }
    return type(f"Test{name}", (*bases, their("BaseTestCase")), kept | {"__module__": __name__})


globals().update({f"Test{name}": make_suite(name, Ours) for name in CANNOT_APPLY if name != "FutureTests"})
TestFutureTests = make_suite("FutureTests", ToStderr)


@pytest.fixture(scope="module", autouse=True)
def network() -> Iterator[None]:
    with local_network(1, slots=WORKERS) as net:
        # The workers are forked with these modules loaded, and the client's threads exist before a test counts them.
        net.eval(FIND_DEBIANS).result(60)
        net.eval("; ".join(f"import {module.__name__}" for module in modules())).result(60)
        Ours.network = net
        assert net.submit(pow, 2, 3).result(20) == 8
        yield


@pytest.fixture(autouse=True)
def our_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the types that CPython's tests name by ours."""
    deadlocks = sys.modules[their("ExecutorDeadlockTest").__module__]
    monkeypatch.setattr(deadlocks, "BrokenProcessPool", JobLostError)
    tests = sys.modules[their("FutureTests").__module__]
    monkeypatch.setattr(tests, "Future", made_job)
    monkeypatch.setattr(tests, "create_future", made_job)
    for name, value in list(vars(tests).items()):
        if name.endswith("_FUTURE"):
            made = made_job(value._state, value._exception, value._result)
            monkeypatch.setattr(tests, name, made)


@pytest.mark.parametrize("name", CANNOT_APPLY)
def test_what_is_left_out_exists(name: str) -> None:
    own: dict[str, object] = vars(their(name))
    assert [test for test in excluded()[name] if not isinstance(own.get(test), Callable)] == []  # type: ignore[arg-type]


def test_an_executor_is_one_of_the_standard_library() -> None:
    assert isinstance(Ours.executor_type(), futures.Executor)
    assert issubclass(their("BaseTestCase"), unittest.TestCase)
