"""Which nodes are asked for workers, and which workers are given back."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.jobs.job import Job, JobOptions
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.scheduler.job_queue import JobQueue
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.remote_worker import RemoteWorker
from pconnect.scheduler.worker_demand import WorkerDemand
from srp_tools.channel import Channel
from tests.support.links import channels
from tests.support.workers import Owner

_opened: list[Channel] = []


@pytest.fixture(autouse=True)
def _close_channels() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def open_channel() -> Channel:
    pair = channels()
    _opened.extend(pair)
    return pair[0]


def make_node(number: int, slots: int, server: str = "") -> NodeWorkers:
    """Return a node that is ready, with its own server unless one is given."""
    facts: Any = SimpleNamespace(
        node=number,
        host=f"host{number}",
        location=SimpleNamespace(server=(server or f"host{number}", 1)),
    )
    node = NodeWorkers(facts)
    node.open(open_channel(), lambda _: None, lambda _: None)
    node.take_facts({"slots": slots, "ready": True, "died": ""})
    return node


def add_worker(node: NodeWorkers, *, is_open: bool = True) -> RemoteWorker:
    number = len(node.workers) + 1
    worker = RemoteWorker(node.server, number, 1, 0, DEFAULT_LIMITS)
    node.add(worker)
    if is_open:
        worker.open(open_channel())
    return worker


def queue_of(count: int, **options: Any) -> JobQueue:
    waiting = JobQueue()
    for number in range(count):
        waiting.add(Job(number, "f(...)", [], JobOptions(**options), Owner()))
    return waiting


def demand_of(*nodes: NodeWorkers) -> WorkerDemand:
    return WorkerDemand({node.number: node for node in nodes}, RemoteWorker.retire)


def ask(demand: WorkerDemand, waiting: JobQueue, now: float = 100.0) -> None:
    demand.ask(waiting, lambda job: job.options.on or {node.number for node in demand.ready()}, now)


@pytest.mark.parametrize(
    ("count", "wanted"), [(0, [0, 0]), (1, [1, 0]), (2, [1, 1]), (3, [1, 2]), (9, [2, 4])]
)
def test_as_many_workers_as_jobs_and_slots(count: int, wanted: list[int]) -> None:
    nodes = make_node(1, 2), make_node(2, 4)
    ask(demand_of(*nodes), queue_of(count))
    assert [node.wanted for node in nodes] == wanted


def test_expected_and_idle_workers_count() -> None:
    node = make_node(1, 9)
    demand = demand_of(node)
    for _ in range(2):
        ask(demand, queue_of(3))
        assert node.wanted == 3
    add_worker(node)
    add_worker(node)
    ask(demand, queue_of(4))
    assert node.wanted == 4


def test_other_servers_are_asked_while_one_is_late() -> None:
    full, free = make_node(1, 4), make_node(2, 8)
    demand = demand_of(full, free)
    for now in (100.0, 100.01, 100.2):
        ask(demand, queue_of(1), now)
        assert (full.wanted, free.wanted) == (1, 0)
    ask(demand, queue_of(2), 100.2)
    assert (full.wanted, free.wanted) == (1, 1)
    add_worker(free)
    ask(demand, queue_of(4), 100.4)
    assert (full.wanted, free.wanted) == (1, 4)  # one worker is idle there, three are expected
    ask(demand, queue_of(5), 100.4)
    assert (full.wanted, free.wanted) == (1, 5)
    for _ in range(2):  # together with the expected workers of the full server, each job has one
        ask(demand, queue_of(9), 100.4)
        assert (full.wanted, free.wanted) == (1, 8)


def test_full_servers_are_asked_for_at_most_one_worker_per_job() -> None:
    nodes = make_node(1, 4), make_node(2, 4)
    demand = demand_of(*nodes)
    for tenth in range(20):
        ask(demand, queue_of(3), 100 + tenth / 10)
    assert sorted(node.wanted for node in nodes) == [1, 2]
    add_worker(nodes[0])  # its server has slots again
    ask(demand, queue_of(1), 102.0)
    assert sorted(node.wanted for node in nodes) == [1, 2]


def test_jobs_of_one_node_are_no_reason_to_ask_another() -> None:
    one, two = make_node(1, 4), make_node(2, 1)
    demand = demand_of(one, two)
    for now in (100.0, 100.1, 101.0):
        ask(demand, queue_of(3, on=frozenset({2})), now)
    assert (one.wanted, two.wanted) == (0, 1)


def test_requests_are_cancelled_when_no_job_waits() -> None:
    node = make_node(1, 4)
    demand = demand_of(node)
    ask(demand, queue_of(3), time.monotonic() - 2)
    add_worker(node)
    ask(demand, queue_of(2), time.monotonic() - 1)
    demand.give_back_idle(queue_of(1))
    assert node.wanted == 3
    demand.give_back_idle(queue_of(0))
    assert node.wanted == 1


def test_another_node_gives_up_a_slot_for_a_constrained_job() -> None:
    one, two = make_node(1, 1, "same"), make_node(2, 1, "same")
    demand = demand_of(one, two)
    one.want_more()
    worker = add_worker(one)
    ask(demand, queue_of(1, on=frozenset({2})))
    assert worker.retiring and (one.wanted, two.wanted) == (0, 1)


def test_only_long_idle_workers_are_given_back() -> None:
    node = make_node(1, 2)
    demand = demand_of(node)
    idle, busy = add_worker(node), add_worker(node)
    for _ in range(2):
        node.want_more()
    busy.jobs[1] = next(iter(queue_of(1)))
    demand.give_back_idle(queue_of(0))
    for worker in (idle, busy):
        worker._idle_since -= 100.0
    demand.hold([1], 1)
    demand.give_back_idle(queue_of(0))
    assert not idle.retiring
    demand.hold([1], -1)
    idle._idle_since -= 100.0
    demand.give_back_idle(queue_of(1))
    assert not idle.retiring
    demand.give_back_idle(queue_of(0))
    assert idle.retiring and not busy.retiring and node.wanted == 1
