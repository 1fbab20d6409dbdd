"""All failures of a job, in all places, and the client's errors; the executor keeps working."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError, JobLostError, RemoteError, UnreadableValueError
from pconnect.executors.executor import Executor
from pconnect.jobs.job import Job
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support import crashing
from tests.support.clients import ClientProcess
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

WAYS = list(crashing.WAYS)

# The error of a job for each kind of failure in its worker.
AT_WORK: dict[str, tuple[type[BaseException], str]] = {
    "exception": (LookupError, "of the user"),
    "sys.exit": (SystemExit, "3"),
    "os._exit": (JobLostError, "died: exit status 7"),
    "SIGSEGV": (JobLostError, "died: SIGSEGV"),
}
LIVES = ("exception", "sys.exit")  # the worker survives

# Where it fails: the submitted function, and the error if it differs from the above.
PLACES: dict[str, Any] = {
    "unpickling the function": lambda way: (crashing.FailsWhenUnpickled(way),),
    "unpickling an argument": lambda way: (id, [crashing.FailsWhenUnpickled(way)]),
    "running": lambda way: (crashing.say_and_fail, way),
    "pickling the result": lambda way: (crashing.make, crashing.FailsWhenPickled, way),
    "pickling the exception": lambda way: (crashing.raise_it, crashing.UnpicklableError, way),
}
EXCEPTIONS: dict[tuple[str, str], tuple[type[BaseException], str]] = {
    ("pickling the result", "exception"): (
        ConfigurationError,
        "the value cannot be sent: LookupError: of the user",
    ),
    ("pickling the exception", "exception"): (ValueError, "pickling this: exception"),
    ("pickling the exception", "sys.exit"): (ValueError, "pickling this: sys.exit"),
}


@pytest.fixture(scope="module")
def net(two_slots: Server) -> Iterator[ClientNetwork]:
    with two_slots.connect() as network:
        yield network


@pytest.fixture(scope="module")
def executor(net: ClientNetwork) -> Executor:
    return net.executor(allow_pickle=True)


@pytest.fixture(scope="module")
def lone(one_slot: Server) -> Iterator[ClientNetwork]:
    """A network with a single worker."""
    with one_slot.connect() as network:
        yield network


def submit_with_others(executor: Executor, *call: Any) -> tuple[Job, list[Job]]:
    """Submit a failing job and further jobs after it."""
    return executor.submit(*call), [executor.submit(pow, 2, k) for k in range(30)]


def assert_goes_on(executor: Executor, others: list[Job]) -> None:
    assert [job.result(DEADLINE) for job in others] == [2**k for k in range(30)]
    assert [job.losses for job in others] == [0] * 30
    assert executor.submit(sum, [1, 2]).result(DEADLINE) == 3


def worker_of(net: ClientNetwork) -> int:
    return int(net.submit(os.getpid).result(DEADLINE))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
def test_a_failure_at_the_worker_is_told_as_what_it_is(executor: Executor, place: str, way: str) -> None:
    kind, words = EXCEPTIONS.get((place, way), AT_WORK[way])
    job, others = submit_with_others(executor, *PLACES[place](way))
    with pytest.raises(kind, match=words) as told:
        job.result(DEADLINE)
    assert_goes_on(executor, others)
    if kind is JobLostError:
        assert job.state == "lost" and job.losses == 1
        assert "on node 1 (127.0.0.1:" in str(told.value)
    else:
        assert job.state == "failed" and job.losses == 0
        assert isinstance(told.value, RemoteError) or isinstance(told.value.__cause__, RemoteError)
    if place == "running":
        assert job.stdout == "the last words\n"
        assert (kind is not JobLostError) or str(told.value).endswith("its last output:\nthe last words")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["argument", "result"])
def test_a_failure_when_it_is_over_costs_no_result(lone: ClientNetwork, what: str, way: str) -> None:
    executor = lone.executor(allow_pickle=True)
    worker = worker_of(lone)
    if what == "argument":
        call: tuple[Any, ...] = (lambda _: 5, crashing.FailsWhenFreed(way, os.getpid()))
    else:
        call = (crashing.make, crashing.FailsWhenFreed, way, os.getpid())
    job, others = submit_with_others(executor, *call)
    value = job.result(DEADLINE)
    assert value == 5 if what == "argument" else value.way == way
    assert job.state == "done"
    assert_goes_on(executor, others)
    assert (worker_of(lone) == worker) == (way in LIVES)


def test_arguments_of_a_job_that_failed_are_freed(lone: ClientNetwork) -> None:
    executor = lone.executor()
    executor.submit("__import__('gc').disable").result(DEADLINE)
    before = len(executor.submit(crashing.freed_by_now).result(DEADLINE))
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda _: 1 / 0, crashing.CountsWhenFreed()).result(DEADLINE)
    assert len(executor.submit(crashing.freed_by_now).result(DEADLINE)) == before + 1
    executor.submit("__import__('gc').enable").result(DEADLINE)


# --- on the client ---


def test_an_exception_in_pickling_here_is_the_error_of_the_job(executor: Executor) -> None:
    job, others = submit_with_others(executor, id, crashing.FailsWhenPickled("exception"))
    with pytest.raises(ConfigurationError, match="the arguments cannot be sent: LookupError: of the user"):
        job.result(DEADLINE)
    assert_goes_on(executor, others)


def test_an_exit_in_pickling_here_is_raised_here(executor: Executor) -> None:
    with pytest.raises(SystemExit):
        executor.submit(id, crashing.FailsWhenPickled("sys.exit"))
    assert_goes_on(executor, submit_with_others(executor, id, 1)[1])
    executor.submit(id, 1)


@pytest.mark.parametrize(
    ("way", "words"), [("exception", "LookupError: of the user"), ("sys.exit", "SystemExit: 3")]
)
def test_a_failure_in_unpickling_here_is_the_error_of_the_job(
    executor: Executor, way: str, words: str
) -> None:
    job, others = submit_with_others(executor, crashing.make, crashing.FailsWhenUnpickled, way)
    with pytest.raises(UnreadableValueError, match=rf"the result of make\(\.\.\.\) arrived.*{words}"):
        job.result(DEADLINE)
    assert_goes_on(executor, others)


def test_an_exception_that_cannot_be_unpickled_here_is_told_by_its_account(executor: Executor) -> None:
    job, others = submit_with_others(
        executor, crashing.raise_it, crashing.UnreadableError, "the disk", "full"
    )
    with pytest.raises(ValueError, match="the disk: full") as told:
        job.result(DEADLINE)
    assert isinstance(told.value, RemoteError) and told.value.type_name == "UnreadableError"
    assert "cannot be unpickled here: TypeError" in told.value.__notes__[0]
    assert_goes_on(executor, others)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "status"), [("os._exit", 7), ("SIGSEGV", -signal.SIGSEGV)])
@pytest.mark.parametrize("place", ["pickling an argument", "unpickling the result"])
def test_a_client_that_dies_leaves_no_slot_behind(
    one_slot: Server, place: str, way: str, status: int
) -> None:
    call = {
        "pickling an argument": f"id, crashing.FailsWhenPickled({way!r})",
        "unpickling the result": f"crashing.make, crashing.FailsWhenUnpickled, {way!r}",
    }[place]
    script = f"""
from tests.support import crashing
executor = net.executor(allow_pickle=True)
say(executor.submit(os.getpid).result())
executor.submit({call}).result()
say("still here")
"""
    with ClientProcess(script, one_slot) as client:
        worker = int(client.line())
        assert client.process.wait(DEADLINE) == status
        wait_gone(worker)
    with one_slot.connect() as net:
        assert net.submit(sum, [1, 2]).result(DEADLINE) == 3


@pytest.fixture(scope="module")
def one_slot(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Any]) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("slot"), "--slots=1", users=users) as server:
        yield server


# --- killed workers ---


def test_a_worker_killed_while_idle_costs_nothing(lone: ClientNetwork) -> None:
    worker = worker_of(lone)
    os.kill(worker, signal.SIGKILL)
    jobs = [lone.submit(pow, 2, k) for k in range(30)]  # the client may not have noticed yet
    assert_goes_on(lone.executor(), jobs)
    assert worker_of(lone) != worker


def test_a_worker_killed_while_it_receives_costs_nothing(lone: ClientNetwork) -> None:
    worker = worker_of(lone)
    os.kill(worker, signal.SIGSTOP)
    job, others = submit_with_others(lone.executor(), len, np.zeros(2**23))
    wait_until(job.running, "the job to be sent")
    os.kill(worker, signal.SIGKILL)
    assert job.result(DEADLINE) == 2**23
    assert (job.state, job.losses) == ("done", 0)
    assert_goes_on(lone.executor(), others)


def test_a_worker_killed_while_it_sends_loses_its_job(lone: ClientNetwork) -> None:
    job, others = submit_with_others(lone.executor(), crashing.return_much_and_be_killed)
    with pytest.raises(JobLostError, match="died: SIGKILL"):
        job.result(DEADLINE)
    assert_goes_on(lone.executor(), others)


def test_jobs_that_each_end_their_worker_do_not_end_those_between(executor: Executor) -> None:
    jobs = [executor.submit(crashing.fail, "os._exit" if k % 2 else "exception") for k in range(20)]
    kinds = [JobLostError if k % 2 else LookupError for k in range(20)]
    assert [type(job.exception(DEADLINE)) for job in jobs] == kinds
