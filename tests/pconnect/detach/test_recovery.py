"""Recovery on the client, with a server played by the test."""

import types
from typing import Any

import pytest

from pconnect.detach.recovery import Recovering
from pconnect.detach.token import Token
from pconnect.errors import ConfigurationError, ConnectionLostError, JobLostError
from pconnect.jobs.job import LOST, PLAIN, Job, JobCancelledError
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pconnect.scheduler.node_workers import NodeWorkers

TOKEN = Token(bytes(16), b"secret", (("a", 1), ("b", 2)), {1: [1, 4], 2: [3]}, frozenset({4}))
PLACES = {1: 1, 2: 2}


class Channel:
    """A job channel that records the messages sent on it."""

    def __init__(self) -> None:
        self.posted: list[tuple[Kind, int, Any]] = []

    def post(self, kind: Kind, tag: int = 0, value: object = None) -> None:
        self.posted.append((kind, tag, value))


class Flow:
    def flush(self, _: object) -> None:
        pass


def make() -> tuple[Recovering, list[NodeWorkers], set[Job]]:
    recovering = Recovering(TOKEN, lambda function: function(), PLACES)  # type: ignore[arg-type]
    open_jobs: set[Job] = set()
    nodes = [NodeWorkers(types.SimpleNamespace(node=n, host=f"host{n}")) for n in (1, 2)]  # type: ignore[arg-type]
    for node in nodes:
        node.channel = Channel()  # type: ignore[assignment]
    recovering.begin({node.number: node for node in nodes}, Flow(), open_jobs, lambda _: set())  # type: ignore[arg-type]
    recovering.step()
    return recovering, nodes, open_jobs


def say(node: NodeWorkers, kind: Kind, tag: int = 0, value: object = None) -> None:
    node.on_kept(node, Message(kind, tag, value))


def recovered() -> tuple[Recovering, list[NodeWorkers], set[Job]]:
    recovering, nodes, open_jobs = make()
    say(nodes[1], Kind.RECOVER, 0, [[3, "g", 1.5, 2.0]])
    recovering.step()
    assert not recovering.ready.done()
    say(nodes[0], Kind.RECOVER, 0, [[1, "f", None, 5.0], [4, "f", None, 5.0]])
    recovering.step()
    assert recovering.ready.done()
    return recovering, nodes, open_jobs


def test_a_node_that_has_not_answered_is_named() -> None:
    recovering, nodes, _ = make()
    say(nodes[1], Kind.RECOVER, 0, [])
    assert recovering.unanswered() == "node 1 (host1)"


def test_recovered_jobs_have_their_state() -> None:
    recovering, nodes, open_jobs = recovered()
    assert nodes[0].channel.posted == [(Kind.RECOVER, 0, [bytes(16), 1, b"secret"])]  # type: ignore[union-attr]
    jobs = recovering.jobs
    assert [(n, job.name, job.node, job.host) for n, job in jobs.items()] == [
        (1, "f", 1, "host1"),
        (3, "g", 2, "host2"),
        (4, "f", 1, "host1"),
    ]
    assert (jobs[3].options.time_limit, jobs[1].options.allow_pickle, jobs[4].options.allow_pickle) == (
        1.5,
        False,
        True,
    )
    assert open_jobs == set(jobs.values())


def test_the_session_that_runs_a_job_is_asked_to_stop_it() -> None:
    recovering, nodes, open_jobs = recovered()
    job = recovering.jobs[3]
    assert job.cancel()
    channel: Any = nodes[1].channel
    assert channel.posted[-1] == (Kind.STOP, 0, [3, 2.0])
    say(nodes[1], Kind.RESULT, 3, [LOST, "it was cancelled before it began", 1.0, 0.0])
    say(nodes[1], Kind.TAKE, 3, True)
    with pytest.raises(JobCancelledError):
        job.result(0)
    assert job.cancelled() and job not in open_jobs
    assert job.cancel()  # true, because it is cancelled already
    with pytest.raises(AssertionError, match="was not sent"):
        recovering.drop(job)


def test_the_server_grants_each_result() -> None:
    recovering, nodes, open_jobs = recovered()
    jobs = recovering.jobs
    for number in (1, 4):
        say(nodes[0], Kind.RESULT, number, [PLAIN, number * 10, 7.0, 0.5, [b"out", 0, b"", 0]])
        assert not jobs[number].done()
        assert nodes[0].channel.posted[-1] == (Kind.TAKE, number, None)  # type: ignore[union-attr]
    say(nodes[0], Kind.TAKE, 1, True)
    say(nodes[0], Kind.TAKE, 4, False)
    assert (jobs[1].result(0), jobs[1].started, jobs[1].duration, jobs[1].stdout) == (10, 7.0, 0.5, "out")
    with pytest.raises(JobLostError, match="another client has recovered it"):
        jobs[4].result(0)
    assert open_jobs == {jobs[3]}
    say(nodes[1], Kind.RESULT, 3, [LOST, "its worker died", 1.0, 2.0])
    say(nodes[1], Kind.TAKE, 3, True)
    with pytest.raises(JobLostError, match="g is lost: its worker died"):
        jobs[3].result(0)


def test_nothing_anywhere_is_an_error() -> None:
    recovering, nodes, _ = make()
    for node in nodes:
        say(node, Kind.RECOVER, 0, "the secret is wrong")
    recovering.step()
    with pytest.raises(ConfigurationError, match=r"node 1 \(host1\): the secret is wrong; node 2 \(host2\)"):
        recovering.ready.result(0)


def test_a_node_without_anything_has_failed_jobs() -> None:
    recovering, nodes, _ = make()
    say(nodes[0], Kind.RECOVER, 0, [[1, "f", None]])
    say(nodes[1], Kind.RECOVER, 0, "swept")
    recovering.step()
    recovering.ready.result(0)
    assert list(recovering.jobs) == [1, 3]
    with pytest.raises(JobLostError, match=r"node 2 \(host2\): swept"):
        recovering.jobs[3].result(0)


def test_a_node_lost_during_recovery() -> None:
    recovering, nodes, open_jobs = recovered()
    nodes[0].lose("it is lost: gone")
    recovering.step()
    assert open_jobs == {recovering.jobs[3]}
    with pytest.raises(JobLostError, match=r"node 1 \(host1\): it is lost: gone"):
        recovering.jobs[1].result(0)


def test_the_end_of_the_loop() -> None:
    recovering, _, _ = make()
    recovering.end("the network was closed")
    with pytest.raises(ConnectionLostError, match="nothing was recovered: the network was closed"):
        recovering.ready.result(0)


def test_no_result_is_taken_before_all_nodes_have_answered() -> None:
    recovering, nodes, _ = make()
    say(nodes[0], Kind.RECOVER, 0, [[1, "f", None, 5.0]])
    say(nodes[0], Kind.RESULT, 1, [0, 7])
    channel: Any = nodes[0].channel
    assert [kind for kind, *_ in channel.posted] == [Kind.RECOVER]
    say(nodes[1], Kind.RECOVER, 0, "nothing is kept")
    recovering.step()
    assert channel.posted[1:] == [(Kind.TAKE, 1, None)]


def test_an_abandoned_recovery_takes_no_result() -> None:
    recovering, nodes, _ = make()
    say(nodes[0], Kind.RECOVER, 0, [[1, "f", None, 5.0]])
    say(nodes[0], Kind.RESULT, 1, [0, 7])
    assert recovering.ready.cancel()
    say(nodes[1], Kind.RECOVER, 0, [])
    recovering.step()
    say(nodes[0], Kind.RESULT, 1, [0, 7])
    channel: Any = nodes[0].channel
    assert [kind for kind, *_ in channel.posted] == [Kind.RECOVER]


def test_the_jobs_of_a_missing_node_fail_and_say_how_to_get_them() -> None:
    recovering = Recovering(TOKEN, lambda function: function(), {1: 2})  # type: ignore[arg-type]
    node = NodeWorkers(types.SimpleNamespace(node=1, host="host2"))  # type: ignore[arg-type]
    node.channel = channel = Channel()  # type: ignore[assignment]
    recovering.begin({1: node}, Flow(), set(), lambda _: set())  # type: ignore[arg-type]
    recovering.step()
    assert channel.posted == [(Kind.RECOVER, 0, [bytes(16), 2, b"secret"])]
    say(node, Kind.RECOVER, 0, [[3, "g", None, 5.0]])
    recovering.step()
    assert [(number, job.node) for number, job in recovering.jobs.items()] == [(1, None), (3, 1), (4, None)]
    for number in (1, 4):
        with pytest.raises(
            ConnectionLostError, match=rf"job {number} is kept on a:1, .* with the same token"
        ):
            recovering.jobs[number].result(0)
    assert not recovering.jobs[3].done()


def test_an_empty_recovery_names_missing_servers() -> None:
    recovering = Recovering(TOKEN, lambda function: function(), {})  # type: ignore[arg-type]
    recovering.begin({}, Flow(), set(), lambda _: set())  # type: ignore[arg-type]
    recovering.step()
    with pytest.raises(ConfigurationError, match="nothing can be recovered; a:1: it is missing; b:2: it is"):
        recovering.ready.result(0)
