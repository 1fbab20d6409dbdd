"""Jobs as futures: their attributes, and cancellation."""

import builtins
import contextlib
import gc
import logging
import math
import os
import signal
import threading
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError
from pconnect.jobs.function_cache import Functions
from pconnect.jobs.job import Job, JobCancelledError, JobOptions, State, encode_job
from pconnect.protocol.kinds import Role
from pconnect.protocol.messages import Unfinished, decode_messages
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import wait_until
from tests.support.workers import Owner, made

LIMIT = 20.0


# --- states ---


def test_the_states_of_a_successful_job() -> None:
    job = made()
    states = [job.state]
    assert job.begin()
    job.is_started = True
    states.append(job.state)
    job.finish(3)
    assert [*states, job.state] == [State.QUEUED, State.RUNNING, State.DONE] == ["queued", "running", "done"]
    assert job.result(0) == 3
    assert len(job.buffers) == 0  # the arguments are released


def test_a_job_has_all_attributes_of_a_standard_future() -> None:
    ours = vars(made())
    for name, value in vars(Future()).items():
        assert name in ours
        assert name == "_condition" or ours[name] == value


def test_a_job_adds_few_objects_for_the_garbage_collector() -> None:
    options, owner = JobOptions(), Owner()
    before = len(gc.get_objects())
    jobs = [Job(number, "f(...)", (b"data",), options, owner) for number in range(1000)]
    for job in jobs:
        job.place, job.is_started = (1, "host"), False
        job.begin()
        job.finish(3)
    # The job, its condition, and two lists of the standard library's future: no dictionary for its attributes.
    assert len(gc.get_objects()) - before < 4100


def test_a_requeued_job_can_begin_again() -> None:
    job = made()
    assert job.begin() and job.begin()
    assert job.running()


def test_a_cancelled_job_never_begins() -> None:
    job = made()
    assert job.cancel()
    assert [job.begin(), job.begin(), job.state] == [False, False, "cancelled"]


def test_cancelling_and_beginning_at_the_same_time() -> None:
    for _ in range(300):
        job = made()
        outcome: list[bool] = []
        barrier = threading.Barrier(2)

        def begin(
            barrier: threading.Barrier = barrier, outcome: list[bool] = outcome, job: Job = job
        ) -> None:
            barrier.wait(LIMIT)
            outcome.append(job.begin())

        thread = threading.Thread(target=begin)
        thread.start()
        barrier.wait(LIMIT)
        assert job.cancel()
        thread.join()
        assert outcome == [job.running()]
        assert job.cancelled() != job.running()


def test_a_running_job_is_stopped_with_its_grace_option() -> None:
    owner = Owner()
    job = made(JobOptions(grace=0.5), owner)
    job.begin()
    assert job.cancel() and owner.stopped == [0.5]
    assert not job.cancelled()
    job.fail(KeyboardInterrupt())
    assert job.cancelled() and job.state == "cancelled" and job.cancel()
    with pytest.raises(JobCancelledError, match=r"f\(\.\.\.\) was cancelled while it ran"):
        job.result(0)


def test_a_cancelled_job_keeps_its_own_error() -> None:
    job = made()
    job.begin()
    job.cancel()
    job.fail(LookupError("of the user"))
    assert job.state == "failed" and not job.cancelled()


def test_callbacks_that_raise_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    job = made()
    job.begin()
    told: list[object] = []

    def fail(_: object) -> None:
        raise SystemExit

    job.add_progress_callback(fail)
    job.add_progress_callback(lambda job: told.append(job.progress))
    job.report(0.5)
    job.add_done_callback(fail)
    with caplog.at_level(logging.ERROR, "pconnect"):
        job.finish(1)
    assert told == [0.5] and job.result(0) == 1
    assert [record.message.split(" for ")[0] for record in caplog.records] == [
        "exception calling progress callback",
        "exception calling callback",
    ]


def test_the_repr_of_a_job() -> None:
    job = made()
    assert repr(job) == "<job 7 f(...), queued>"
    job.place = 2, "alpha"
    assert repr(job) == "<job 7 f(...) on node 2 (alpha), queued>"


def test_the_repr_and_a_timeout_explain_why_a_job_waits() -> None:
    class Busy(Owner):
        def why(self, job: Job) -> str:
            return f"node 1 has no slot for {job.number}"

    job = made(owner=Busy())
    text = "<job 7 f(...), queued: node 1 has no slot for 7>"
    assert (job.why, repr(job)) == ("node 1 has no slot for 7", text)
    for wait in (job.result, job.exception):
        with pytest.raises(TimeoutError) as caught:
            wait(0.01)
        assert str(caught.value) == f"timed out after 0.01 s waiting for {text}"
    assert job.begin()
    job.is_started = True
    assert not job.why
    with pytest.raises(TimeoutError, match="running"):
        job.result(0)
    own = TimeoutError("its own")
    job.fail(own)
    with pytest.raises(TimeoutError, match=r"^its own$"):
        job.result(1)
    assert not job.why


# --- with real workers ---


def test_the_attributes_of_a_job_that_has_ended(jobs_network: ClientNetwork) -> None:
    before = time.time()

    def work() -> int:
        import sys

        print("to the output")
        print("to the errors", file=sys.stderr)
        time.sleep(0.02)
        return 5

    for _ in range(3):
        job = jobs_network.submit(work)
        assert job.result(LIMIT) == 5
        assert (job.stdout, job.stderr) == ("to the output\n", "to the errors\n")
        assert job.node in {1, 2} and str(job.host).startswith("127.0.0.1:")
        assert job.started is not None and before - 1 < job.started < time.time() + 1
        assert job.duration is not None and 0.02 <= job.duration < LIMIT
        assert job.losses == 0
    quiet = jobs_network.submit(pow, 2, 3)
    quiet.result(LIMIT)
    assert quiet.stdout == quiet.stderr == ""


def test_the_end_of_long_output_is_kept(jobs_network: ClientNetwork) -> None:
    job = jobs_network.submit(lambda: print("x" * (2**20 + 5) + "end"))
    job.result(LIMIT)
    first, _, rest = job.stdout.partition("\n")
    assert first == f"({len('x' * 5 + 'end') + 1} bytes before this are left out)"
    assert len(rest) == 2**20 and rest.endswith("end\n")


def test_the_state_of_a_job_that_fails_or_is_lost(jobs_network: ClientNetwork) -> None:
    failing = jobs_network.submit(divmod, 1, 0)
    lost = jobs_network.submit("__import__('os')._exit", 3)
    assert isinstance(failing.exception(LIMIT), ZeroDivisionError)
    assert lost.exception(LIMIT) is not None
    assert (failing.state, lost.state) == ("failed", "lost")


def test_a_queued_job_is_cancelled_immediately_and_later_ones_run(jobs_network: ClientNetwork) -> None:
    with jobs_network.executor() as executor:
        blocking = [executor.submit(time.sleep, 0.3) for _ in range(4)]
        waiting = [executor.submit(pow, 2, k) for k in range(40)]
        cancelled = waiting[10:30]
        assert all(job.cancel() for job in cancelled)
        assert {str(job.state) for job in cancelled} == {"cancelled"}
        others = waiting[:10] + waiting[30:]
        assert [job.result(LIMIT) for job in others] == [2**k for k in [*range(10), *range(30, 40)]]
        assert [job.result(LIMIT) for job in blocking] == [None] * 4


def test_a_running_job_is_interrupted_and_its_worker_survives(jobs_network: ClientNetwork) -> None:
    node = jobs_network[1]
    worker = node.submit(os.getpid).result(LIMIT)
    job = node.submit(time.sleep, LIMIT)
    wait_until(lambda: job.state == "running", "the job to run")
    assert job.cancel()
    with pytest.raises(JobCancelledError):
        job.result(LIMIT)
    assert job.state == "cancelled"
    assert node.submit(os.getpid).result(LIMIT) == worker


def test_a_stubborn_job_is_killed_after_the_grace(jobs_network: ClientNetwork) -> None:
    def sleep_stubbornly() -> None:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(60)

    executor = jobs_network[1].executor(grace=0.2)
    worker = executor.submit(os.getpid).result(LIMIT)
    job = executor.submit(sleep_stubbornly)
    wait_until(lambda: job.state == "running", "the job to run")
    begin = time.monotonic()
    assert job.cancel()
    with pytest.raises(JobCancelledError):
        job.result(LIMIT)
    assert 0.2 <= time.monotonic() - begin < 5
    assert job.state == "cancelled" and "SIGKILL" in str(job.exception().__cause__)  # type: ignore[union-attr]
    assert executor.submit(os.getpid).result(LIMIT) != worker


def test_an_unrelated_interrupt_does_not_affect_a_job(jobs_network: ClientNetwork) -> None:
    def work() -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 5

    assert jobs_network.submit(work).result(LIMIT) == 5


def test_progress_is_reported_while_a_job_runs(jobs_network: ClientNetwork) -> None:
    told: list[object] = []
    go_on = threading.Event()

    def work() -> int:
        for k in range(5):
            time.sleep(0.02)
            progress(k)  # type: ignore[name-defined]  # noqa: F821 - defined in the workspace
        return 5

    job = jobs_network.submit(work)
    job.add_progress_callback(lambda job: told.append(job.progress))
    job.add_progress_callback(lambda _: go_on.set())
    assert go_on.wait(LIMIT) and job.state == "running"
    assert job.result(LIMIT) == 5
    assert told == list(range(5))[-len(told) :] and len(told) >= 2


# --- functions ---


def test_each_submit_sends_the_present_state_of_a_function(jobs_network: ClientNetwork) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("def scaled(x): return factor * x", namespace)
    jobs = []
    for factor in range(10):
        namespace["factor"] = factor
        jobs.append(jobs_network.submit(namespace["scaled"], 3))
    assert [job.result(LIMIT) for job in jobs] == [3 * factor for factor in range(10)]


# --- options ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"retries": 1.5},
        {"retries": "2"},
        {"time_limit": 0},
        {"time_limit": "2"},
        {"memory_limit": -5},
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        JobOptions(**wrong)


def test_the_options_sent_to_a_worker() -> None:
    assert JobOptions(retries=3, isolate=True).wire(pickled=False) is None
    assert JobOptions(memory_limit=math.inf).wire(pickled=False) == {"memory": 2**62}  # type: ignore[arg-type]
    assert JobOptions(memory_limit=np.int64(9)).wire(pickled=False) == {"memory": 9}  # type: ignore[arg-type]
    told = JobOptions(time_limit=2, memory_limit=10, allow_pickle=True).wire(pickled=True)
    assert told == {"pickled": True, "pickle": True, "seconds": 2.0, "memory": 10}


LIMIT = 20.0


def a_job() -> Job:
    job = made()
    job.function = Functions().get(builtins.len)
    return job


@pytest.mark.parametrize(
    "args",
    [(), (1, None, 2.5, True, "x" * 99), ("x" * 100,), (2**70,), (b"data", [1, {"a": 2}]), (np.arange(3),)],
)
@pytest.mark.parametrize("kwargs", [{}, {"key": 1}])
def test_the_message_for_a_worker(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    job = a_job()
    assert job.function is not None
    buffers = encode_job(job, args, kwargs, 2**20)
    (message,) = decode_messages(Role.WORKER, b"".join(bytes(buffer) for buffer in buffers))
    contents: Any = message.value.finish() if type(message.value) is Unfinished else message.value
    number, came, came_kwargs, options = contents
    assert (message.tag, number, came_kwargs, options) == (job.number, job.function.number, kwargs, None)
    assert repr(came) == repr(list(args))


def test_arguments_too_large_are_refused_here() -> None:
    job = a_job()
    with pytest.raises(ValueError, match="more than this network's max_message_bytes"):
        encode_job(job, [b"x" * 5000], {}, 4000)


def test_an_argument_is_sent_with_its_class() -> None:
    (message,) = decode_messages(Role.WORKER, bytes(encode_job(a_job(), [State.DONE], {}, 2**20)[0]))
    _, data, _, options = message.value
    assert type(data) is bytes and options == {"pickled": True}
