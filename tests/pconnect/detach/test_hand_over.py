"""How jobs are assigned to nodes when they are handed over."""

import types
from collections.abc import Collection
from typing import Any

import pytest

from pconnect.detach.hand_over import Detaching
from pconnect.errors import ConfigurationError
from pconnect.executors.throttle import Throttle
from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.function_cache import Function
from pconnect.jobs.job import Job, JobOptions
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, decode_messages
from pconnect.scheduler.node_workers import NodeWorkers


class Channel:
    """A job channel that records the messages sent on it."""

    unsent_bytes = 0
    has_unsent = False

    def __init__(self) -> None:
        self.posted: list[Message] = []

    def post_encoded(self, buffers: list[bytes]) -> None:
        self.posted += decode_messages(Role.WORKERS, b"".join(buffers))

    def take(self) -> list[Message]:
        posted, self.posted = self.posted, []
        return posted


def make_node(number: int, slots: int | None) -> NodeWorkers:
    commands = types.SimpleNamespace(finished_by={1: {5.0: 4}, 2: {5.0: 9}}[number].get)
    node = NodeWorkers(types.SimpleNamespace(node=number, host=f"host{number}", commands=commands))  # type: ignore[arg-type]
    node.slots, node.channel = slots, Channel()  # type: ignore[assignment]
    return node


def make_job(number: int, function: Function, **options: Any) -> Job:
    job = Job(number, "f", [b"a job"], JobOptions(**options), None)  # type: ignore[arg-type]
    job.function, job.after = function, 5.0
    return job


def make(nodes: list[NodeWorkers], jobs: list[Job], throttles: Collection[Throttle] = ()) -> Detaching:
    detaching = Detaching(throttles)

    def allowed(job: Job) -> set[int]:
        able = {node.number for node in nodes if node.is_ready and node.slots}
        return able & job.options.on if job.options.on else able

    detaching.begin({node.number: node for node in nodes}, EventLoop(), set(jobs), allowed)
    return detaching


def posted(node: NodeWorkers) -> list[Message]:
    assert isinstance(node.channel, Channel)
    return node.channel.take()


def test_nodes_get_jobs_by_their_slots() -> None:
    function = Function("f", ["f", {}], DurationEstimate())
    nodes = [make_node(1, 1), make_node(2, 3)]
    jobs = [make_job(number, function, retries=2) for number in range(1, 9)]
    detaching = make(nodes, [*jobs, make_job(9, function, on=frozenset({1}))])
    detaching.step()
    begin = [posted(node) for node in nodes]
    assert [[(m.kind, m.tag, len(m.value)) for m in messages] for messages in begin] == [
        [(Kind.KEEP, 0, 32)]
    ] * 2
    detaching.step()
    first, second = (posted(node) for node in nodes)
    assert (len(first), len(second)) == (3, 6)
    assert 9 in [m.tag for m in first]
    facts, _, job = first[0].value
    assert (facts["retries"], facts["after"], facts["parts"], job) == (
        2,
        4,
        [f"f{function.number}"],
        b"a job",
    )
    assert [list(m.value[1]) for m in first] == [facts["parts"], [], []]  # the function is sent once
    assert second[0].value[0]["after"] == 9  # the engine was restarted in the meantime
    assert not detaching.uploaded.done()
    for node, count in zip(nodes, (4, 7), strict=True):
        for _ in range(count):
            node.on_kept(node, Message(Kind.KEEP, 1, None))
    detaching.step()
    assert {node: len(jobs) for node, jobs in detaching.uploaded.result(0).items()} == {1: 3, 2: 6}


def test_planning_waits_for_the_servers_reports() -> None:
    node = make_node(1, None)
    detaching = make([node], [make_job(1, Function("f", ["f", {}], DurationEstimate()))])
    detaching.step()
    assert posted(node) == []
    node.slots = 1
    detaching.step()
    assert len(posted(node)) == 1


def test_a_job_without_a_possible_node() -> None:
    detaching = make([make_node(1, 0)], [make_job(1, Function("f", ["f", {}], DurationEstimate()))])
    detaching.step()
    with pytest.raises(ConfigurationError, match="no node is able to run it now"):
        detaching.uploaded.result(0)
    assert not detaching.pauses


def test_a_server_that_refuses() -> None:
    node = make_node(1, 1)
    detaching = make([node], [make_job(1, Function("f", ["f", {}], DurationEstimate()))])
    detaching.step()
    node.on_kept(node, Message(Kind.KEEP, 0, "the server cannot keep jobs: no space"))
    with pytest.raises(ConfigurationError, match=r"node 1 \(host1\): .*no space"):
        detaching.uploaded.result(0)
    assert [(m.kind, m.value) for m in posted(node)][-1] == (Kind.KEEP, None)
    assert not detaching.pauses


def test_it_begins_after_all_answers_to_an_undone_attempt() -> None:
    """Otherwise it would count these answers as its own, and wait forever."""
    node = make_node(1, 1)
    jobs = [make_job(1, Function("f", ["f", {}], DurationEstimate()))]
    undone = make([node], jobs)
    undone.step()
    undone.undo()
    assert len(posted(node)) == 2
    detaching = make([node], jobs)
    for _ in range(2):
        detaching.step()
        assert posted(node) == []
        node.on_kept(node, Message(Kind.KEEP, 0, None))
    for _ in range(2):
        detaching.step()
    for _ in posted(node):
        node.on_kept(node, Message(Kind.KEEP, 0, None))
    detaching.step()
    assert detaching.uploaded.result(0) == {1: {1: jobs[0]}}


def hold_back(count: int, function: Function) -> tuple[list[Job], list[Job], set[Throttle]]:
    """Submit jobs with a limit of two; return the jobs, those started, and the throttles that hold jobs back."""
    throttles: set[Throttle] = set()
    started: list[Job] = []
    throttle = Throttle(started.append, 2, throttles)
    jobs = [make_job(number, function) for number in range(1, count + 1)]
    for job in jobs:
        throttle.submit(job)
    return jobs, started, throttles


def test_jobs_held_back_are_handed_over_with_their_limit() -> None:
    function = Function("f", ["f", {}], DurationEstimate())
    nodes = [make_node(1, 1), make_node(2, 3)]
    jobs, started, throttles = hold_back(8, function)
    assert started == jobs[:2]
    assert len(throttles) == 1
    detaching = make(nodes, started, throttles)
    detaching.step()
    first, second = (posted(node) for node in nodes)
    assert [(m.kind, m.tag) for m in second] == [(Kind.KEEP, 0), (Kind.LIMIT, 1)]
    assert (first, second[1].value) == ([], [2, list(range(1, 9))])  # the larger node gets the whole limit
    for _ in range(2 + 8):
        nodes[1].on_kept(nodes[1], Message(Kind.KEEP, 1, None))
    detaching.step()
    assert list(detaching.uploaded.result(0)[2]) == list(range(1, 9))


def test_a_limit_leaves_busy_workers_where_they_are() -> None:
    function = Function("f", ["f", {}], DurationEstimate())
    nodes = [make_node(1, 4), make_node(2, 4)]
    _, started, throttles = hold_back(6, function)
    for number in (1, 2):
        worker: Any = types.SimpleNamespace(node=2, number=number, jobs={number: None})
        nodes[1].workers[number] = worker
    detaching = make(nodes, started, throttles)
    detaching.step()
    assert posted(nodes[0]) == []
    assert [m.value for m in posted(nodes[1]) if m.kind is Kind.LIMIT] == [[2, list(range(1, 7))]]


def test_a_long_list_of_jobs_with_a_limit_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pconnect.detach.hand_over._LIMIT_JOBS", 3)
    function = Function("f", ["f", {}], DurationEstimate())
    node = make_node(1, 4)
    throttles: set[Throttle] = set()
    throttle = Throttle(lambda _: None, 1, throttles)
    for number in range(1, 6):
        throttle.submit(make_job(number, function))
    detaching = make([node], [], throttles)
    detaching.step()
    assert [m.value for m in posted(node) if m.kind is Kind.LIMIT] == [[1, [1, 2, 3]], [1, [4, 5]]]
