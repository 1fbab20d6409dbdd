"""How many jobs a worker gets, and the messages sent to it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.function_cache import Functions
from pconnect.jobs.job import Job, JobOptions, encode_job
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import encode_message
from pconnect.scheduler.remote_worker import RemoteWorker
from pconnect.session.running_commands import RunningCommands
from srp_tools.channel import Channel
from tests.support.links import channels
from tests.support.workers import Far, Owner

FUNCTIONS = Functions()


@pytest.fixture
def links() -> Iterator[tuple[Channel, Channel]]:
    pair = channels()
    yield pair
    for channel in pair:
        channel.close()


@pytest.fixture
def worker() -> RemoteWorker:
    """Return a worker whose connection is not open yet."""
    server: Any = SimpleNamespace(node=1, host="alpha", commands=RunningCommands())
    return RemoteWorker(server, 5, 4321, 7, DEFAULT_LIMITS)


@pytest.fixture
def far(worker: RemoteWorker, links: tuple[Channel, Channel]) -> Far:
    """Connect a worker."""
    worker.open(links[0])
    return Far(worker.connection, links[1], Role.WORKER)


def a_job(
    number: int, function: Any = abs, *args: Any, estimate: DurationEstimate | None = None, **options: Any
) -> Job:
    job = Job(number, "f(...)", [], JobOptions(**options), Owner())
    job.function = FUNCTIONS.get(function)
    if estimate is not None:
        job.function = job.function.with_estimate(estimate)
    job.buffers = encode_job(job, args, {}, DEFAULT_LIMITS.max_message_bytes)
    return job


def known() -> DurationEstimate:
    """Return an estimate for jobs that take no time."""
    estimate = DurationEstimate()
    estimate.learn(0.0)
    return estimate


def test_nothing_for_a_worker_that_is_not_connected(
    worker: RemoteWorker, links: tuple[Channel, Channel]
) -> None:
    assert not worker.is_open and not worker.has_room
    worker.open(links[0])
    assert worker.is_open and worker.has_room


@pytest.mark.usefixtures("far")
def test_jobs_in_flight_count(worker: RemoteWorker) -> None:
    estimate = DurationEstimate()
    for _ in range(8):
        estimate.learn(0.001)
    short = a_job(1, len, "", estimate=estimate)
    assert worker.limit > 1000
    worker.send([short])
    assert worker.limit == 5 and worker.has_room
    others = [a_job(number, len, "", estimate=estimate) for number in range(2, 6)]
    worker.send(others)
    assert list(worker.jobs) == [1, 2, 3, 4, 5] and not worker.has_room
    worker.take(short, 0.001)
    assert list(worker.jobs) == [2, 3, 4, 5] and worker.has_room


@pytest.mark.usefixtures("far")
def test_nothing_is_sent_behind_a_potentially_long_job(worker: RemoteWorker) -> None:
    short, unknown = a_job(1, len, "", estimate=known()), a_job(2, "lambda: 'never done before'")
    worker.send([short, unknown])
    assert worker.limit == 1 and not worker.has_room
    worker.take(unknown, 10.0)
    assert worker.has_room


def test_nothing_is_sent_while_jobs_are_called_back(worker: RemoteWorker, far: Far) -> None:
    worker.send([a_job(number, len, "", estimate=known()) for number in (1, 2, 3)])
    far.messages()
    assert worker.begin_recall() == 0  # no job is known to be long
    worker.mark_long(1, 0.3)
    assert worker.begin_recall() == 1
    assert far.messages() == [(Kind.RECALL, 1, None)]
    assert not worker.has_room and worker.begin_recall() == 0
    assert worker.end_recall(1, runs_still=False) == []
    assert list(worker.jobs) == [1, 2, 3] and worker.begin_recall() == 0
    worker.mark_long(2, 0.0)
    assert worker.begin_recall() == 2
    assert [job.number for job in worker.end_recall(2, runs_still=True)] == [3]
    assert list(worker.jobs) == [1, 2]  # the first one ended before, and its result is being sent


@pytest.mark.usefixtures("far")
def test_nothing_is_sent_behind_a_job_that_proved_long(worker: RemoteWorker) -> None:
    long = a_job(1, len, "", estimate=known())
    worker.send([long])
    assert worker.has_room
    worker.mark_long(long.number, 0.0)
    assert not worker.has_room and long.state == "running"
    worker.take(long, 10.0)
    assert worker.has_room


def test_a_job_that_wants_a_process_of_its_own_is_the_last_of_its_worker(
    worker: RemoteWorker, far: Far
) -> None:
    alone = a_job(1, abs, -1, isolate=True)
    worker.send([alone])
    assert not worker.is_open
    worker.forget(alone)  # it was cancelled before it began
    assert worker.is_open
    worker.send([alone])
    worker.take(alone, 0.001)
    assert worker.retiring and far.messages()[-1][0] is Kind.RETIRE


def test_a_worker_retired_before_connecting_is_notified_when_connected(
    worker: RemoteWorker, links: tuple[Channel, Channel]
) -> None:
    worker.retire()
    worker.open(links[0])
    assert [kind for kind, _, _ in Far(worker.connection, links[1], Role.WORKER).messages()] == [Kind.RETIRE]


def test_a_worker_is_outdated_that_was_forked_before_a_command(worker: RemoteWorker) -> None:
    job = a_job(1)
    commands = worker.server.commands
    for number in (6, 7, 8):
        commands.finish(number, now=10.0 * number)
    for after, is_outdated in [(59, False), (60, False), (75, False), (80, True), (90, True)]:
        job.after = after
        assert worker.is_outdated(job) is is_outdated
    commands.forget()  # the engine was restarted
    assert not worker.is_outdated(job)


def test_the_idle_time_of_a_worker(worker: RemoteWorker) -> None:
    assert worker.idle_seconds(10.0, is_held=False) == 0
    assert worker.idle_seconds(12.0, is_held=False) == 2
    assert worker.idle_seconds(13.0, is_held=True) == 0
    worker.jobs[1] = a_job(1)
    assert worker.idle_seconds(20.0, is_held=False) == 0
    del worker.jobs[1]
    assert worker.idle_seconds(21.0, is_held=False) == 1


@pytest.mark.usefixtures("far")
def test_a_worker_with_much_unsent_data_gets_nothing(worker: RemoteWorker) -> None:
    worker.connection.post_encoded([bytes(2**23 + 1)])
    assert not worker.has_room


def test_a_function_is_sent_once_before_its_first_job(worker: RemoteWorker, far: Far) -> None:
    worker.send([a_job(1, abs, -1), a_job(2, abs, -2), a_job(3, len, [])])
    worker.send([a_job(4, len, "ab")])
    kinds = [(kind, tag) for kind, tag, _ in far.messages()]
    of = {name: FUNCTIONS.get(name).number for name in (abs, len)}
    assert kinds == [
        (Kind.FUNCTION, of[abs]), (Kind.JOB, 1), (Kind.JOB, 2), (Kind.FUNCTION, of[len]), (Kind.JOB, 3),
        (Kind.JOB, 4),
    ]  # fmt: skip


def test_old_functions_are_forgotten_unless_a_job_needs_them(worker: RemoteWorker, far: Far) -> None:
    first = a_job(1, "lambda: 0")
    worker.send([first])
    for k in range(1, 70):
        job = a_job(1 + k, f"lambda: {k}")
        worker.send([job])
        worker.take(job, 0.001)
    forgotten = {tag for kind, tag, value in far.messages() if kind is Kind.FUNCTION and value is None}
    assert first.function is not None
    assert first.function.number not in forgotten and len(forgotten) == 70 - 64
    worker.send([a_job(100, "lambda: 1")])  # this function was forgotten, so it is sent again
    assert [kind for kind, _, value in far.messages() if value is not None] == [Kind.FUNCTION, Kind.JOB]


def test_a_retiring_worker_gets_no_more_jobs(worker: RemoteWorker, far: Far) -> None:
    worker.retire()
    worker.retire()
    assert not worker.has_room
    assert [kind for kind, _, _ in far.messages()] == [Kind.RETIRE]


def test_results_that_could_not_be_sent_are_decoded(worker: RemoteWorker) -> None:
    data = b"".join(
        bytes(buffer)
        for number in (8, 9)
        for buffer in encode_message(Kind.RESULT, number, [0, number, 0.0, 0.0], 2**20)
    )
    assert [(message.tag, message.value[1]) for message in worker.decode(data)] == [(8, 8), (9, 9)]
    assert worker.decode(b"") == []
