"""The output of programs, in pieces as it arrives."""

import signal
from collections.abc import Iterator

import pytest

from pconnect import local_network
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobCancelledError, JobOptions
from pconnect.programs.program import ProgramJob, prepare
from pconnect.programs.streams import WINDOW
from pconnect.programs.watched import Watched
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(2) as made:
        yield made


def job_of(net: ClientNetwork, script: str, node: int = 1) -> ProgramJob:
    mesh = mesh_of(net)
    options = JobOptions(on=frozenset([node]))
    return prepare(scheduler_of(mesh), ["sh", "-c", script], options, mesh.limits.max_message_bytes, cwd="/")


def collected(watched: Watched) -> dict[tuple[int | None, int], bytes]:
    found: dict[tuple[int | None, int], bytes] = {}
    while piece := watched.take():
        key = piece.job.node, piece.stream
        found[key] = found.get(key, b"") + piece.data
    return found


def test_pieces_come_while_it_runs_and_none_is_missing(net: ClientNetwork) -> None:
    script = "echo first; read line; sleep 0.2; echo $line >&2; head -c 9000000 /dev/zero"
    watched = Watched([job_of(net, script, node) for node in (1, 2)], b"given\n")
    watched.start()
    first = watched.take()
    assert first is not None and first.data == b"first\n" and not first.job.done()
    found = collected(watched)
    assert 2 * WINDOW < 9_000_000
    for node in (1, 2):
        own = b"" if node == first.job.node else b"first\n"
        assert found[node, 1] == own + bytes(9_000_000) and found[node, 2] == b"given\n"
    assert [job.returncode() for job in watched.jobs] == [0, 0]
    assert watched.take() is None


def test_an_interrupt_is_passed_on(net: ClientNetwork) -> None:
    watched = Watched([job_of(net, "echo begin; exec sleep 100")], b"")
    watched.start()
    assert watched.take() is not None
    watched.interrupt()
    collected(watched)
    assert watched.jobs[0].returncode() == -signal.SIGINT


def test_one_that_waits_is_cancelled_by_an_interrupt(net: ClientNetwork) -> None:
    slots = net.executor().count_slots()
    watched = Watched([job_of(net, "echo begin; exec sleep 100") for _ in range(slots + 1)], b"")
    watched.start()
    assert watched.take() is not None
    assert not all(job.is_started for job in watched.jobs)
    watched.interrupt()
    wait_until(lambda: any(job.cancelled() for job in watched.jobs), "those that wait to be cancelled")
    watched.cancel()
    collected(watched)
    assert all(job.done() for job in watched.jobs)


def test_the_rest_can_be_ended(net: ClientNetwork) -> None:
    watched = Watched([job_of(net, "trap '' INT; echo begin; while :; do sleep 0.1; done")], b"")
    watched.start()
    assert watched.take() is not None
    watched.interrupt()
    watched.cancel()
    collected(watched)
    with pytest.raises(JobCancelledError):
        watched.jobs[0].result(DEADLINE)
