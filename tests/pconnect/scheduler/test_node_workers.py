"""How many jobs a worker is given, and what it is sent."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.job import Functions, Job, JobOptions, encode_job
from pconnect.link.connection import Connection
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import encode_message
from pconnect.scheduler.node_workers import NodeWorkers, RemoteWorker
from srp_tools.channel import Channel
from tests.support.links import channels
from tests.support.workers import Owner

FUNCTIONS = Functions()


def make_pool() -> NodeWorkers:
    server: Any = SimpleNamespace(node=1, host="alpha")
    return NodeWorkers(server)


class Far:
    """The far end of a worker's connection, or of a job channel."""

    def __init__(self, near: Connection, channel: Channel, role: Role) -> None:
        self._near = near
        self._far = Connection(0, "client", channel, role=role)
        self._messages: list[tuple[Kind, int, Any]] = []
        self._far.on_message = lambda message: self._messages.append(
            (message.kind, message.tag, message.value)
        )

    def messages(self) -> list[tuple[Kind, int, Any]]:
        """Return what has come since the last call."""
        self._near.flush()
        while self._far.fill():
            pass
        came, self._messages[:] = list(self._messages), []
        return came


@pytest.fixture
def links() -> Iterator[tuple[Channel, Channel]]:
    pair = channels()
    yield pair
    for channel in pair:
        channel.close()


@pytest.fixture
def worker() -> RemoteWorker:
    """A worker whose connection is not made yet."""
    return RemoteWorker(make_pool(), 5, 4321, 7, DEFAULT_LIMITS)


@pytest.fixture
def far(worker: RemoteWorker, links: tuple[Channel, Channel]) -> Far:
    """Connect the worker."""
    worker.open(links[0])
    return Far(worker.connection, links[1], Role.WORKER)


def a_job(number: int, function: Any = abs, *args: Any) -> Job:
    job = Job(number, "f(...)", [], JobOptions(), Owner())
    job.function = FUNCTIONS.get(function)
    job.estimate = job.function.estimate
    job.buffers = encode_job(job, args, {}, DEFAULT_LIMITS.max_message_bytes)
    return job


def test_nothing_for_a_worker_that_is_not_connected(
    worker: RemoteWorker, links: tuple[Channel, Channel]
) -> None:
    assert not worker.is_open and not worker.has_room
    worker.open(links[0])
    assert worker.is_open and worker.has_room


@pytest.mark.usefixtures("far")
def test_what_is_under_way_counts(worker: RemoteWorker) -> None:
    short, estimate = a_job(1, len, ""), DurationEstimate()
    for _ in range(8):
        estimate.learn(0.001)
    short.estimate = estimate
    assert worker.limit > 1000
    worker.send([short])
    assert worker.limit == 5 and worker.has_room
    others = [a_job(number, len, "") for number in range(2, 6)]
    for job in others:
        job.estimate = estimate
    worker.send(others)
    assert list(worker.jobs) == [1, 2, 3, 4, 5] and not worker.has_room
    worker.take(short, 0.001)
    assert list(worker.jobs) == [2, 3, 4, 5] and worker.has_room


@pytest.mark.usefixtures("far")
def test_nothing_is_sent_behind_a_job_that_may_take_long(worker: RemoteWorker) -> None:
    short, unknown = a_job(1, len, ""), a_job(2, "lambda: 'never done before'")
    short.estimate = DurationEstimate()
    short.estimate.learn(0.0)
    worker.send([short, unknown])
    assert worker.limit == 1 and not worker.has_room
    worker.take(unknown, 10.0)
    assert worker.has_room


@pytest.mark.usefixtures("far")
def test_nothing_is_sent_while_jobs_are_called_back(worker: RemoteWorker) -> None:
    worker.recalling = 5
    assert not worker.has_room
    worker.recalling = 0
    assert worker.has_room


@pytest.mark.usefixtures("far")
def test_nothing_is_sent_behind_a_job_that_turned_out_long(worker: RemoteWorker) -> None:
    long = a_job(1, len, "")
    long.estimate = DurationEstimate()
    long.estimate.learn(0.0)
    worker.send([long])
    assert worker.has_room
    worker.stuck = long.number
    assert not worker.has_room
    worker.take(long, 10.0)
    assert worker.has_room


@pytest.mark.usefixtures("far")
def test_a_worker_that_is_far_behind_gets_nothing(worker: RemoteWorker) -> None:
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


def test_old_functions_are_forgotten_but_not_those_of_jobs_under_way(worker: RemoteWorker, far: Far) -> None:
    first = a_job(1, "lambda: 0")
    worker.send([first])
    for k in range(1, 70):
        job = a_job(1 + k, f"lambda: {k}")
        worker.send([job])
        worker.take(job, 0.001)
    forgotten = {tag for kind, tag, value in far.messages() if kind is Kind.FUNCTION and value is None}
    assert first.function is not None
    assert first.function.number not in forgotten and len(forgotten) == 70 - 64
    worker.send([a_job(100, "lambda: 1")])  # one of the forgotten: it is sent again
    assert [kind for kind, _, value in far.messages() if value is not None] == [Kind.FUNCTION, Kind.JOB]


def test_one_that_retires_gets_nothing_more(worker: RemoteWorker, far: Far) -> None:
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


def test_a_pool_is_ready_when_its_engine_is(links: tuple[Channel, Channel]) -> None:
    pool = make_pool()
    assert not pool.is_ready
    pool.open(links[0], lambda _: None, lambda _: None)
    assert not pool.is_ready
    for facts, gone in [
        ({"slots": 3, "ready": False, "died": ""}, "not ready"),
        ({"slots": 3, "ready": False, "died": "SIGKILL"}, "its engine died: SIGKILL"),
        ({"slots": 3, "ready": True, "died": ""}, ""),
    ]:
        pool.take_facts(facts)
        assert (pool.gone, pool.is_ready, pool.slots) == (gone, not gone, 3)


def test_a_wish_is_told_when_it_has_changed(links: tuple[Channel, Channel]) -> None:
    pool = make_pool()
    pool.open(links[0], lambda _: None, lambda _: None)
    assert pool.channel is not None
    far = Far(pool.channel, links[1], Role.WORKERS)
    for wanted, exclusive in [(0, False), (2, False), (2, False), (2, True), (0, False)]:
        pool.wanted = wanted
        pool.want(exclusive=exclusive)
    told = [(kind, wanted, exclusive) for kind, wanted, exclusive in far.messages()]
    assert told == [(Kind.WANT, 2, False), (Kind.WANT, 2, True), (Kind.WANT, 0, False)]
