"""The supervisor's side of jobs: how it says that a worker ended, and what it does about it."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from pconnect import JobLostError, local_network
from pconnect.views import ClientNetwork

LIMIT = 20.0


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1, slots=2) as made:
        yield made


@pytest.mark.parametrize(
    ("end", "words"),
    [(lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"), (lambda: os._exit(3), "status 3")],
)
def test_how_a_worker_ended_is_told(net: ClientNetwork, end: object, words: str) -> None:
    job = net.submit(end)  # type: ignore[arg-type]
    with pytest.raises(JobLostError, match=words):
        job.result(LIMIT)


def test_a_job_that_does_not_heed_its_limit_is_killed(net: ClientNetwork) -> None:
    def stubborn() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        time.sleep(60)

    job = net.executor(time_limit=0.2).submit(stubborn)
    with pytest.raises(JobLostError, match=r"did not end within 5 s of its time limit"):
        job.result(LIMIT)


def test_workers_end_with_their_engine_and_come_again_with_the_next(net: ClientNetwork) -> None:
    job = net.submit(time.sleep, 60)
    while job.state != "running":
        time.sleep(0.05)
    net[1].kill()
    with pytest.raises(JobLostError, match="the engine died: SIGKILL"):
        job.result(LIMIT)
    net[1].restart()
    assert net.submit(pow, 2, 5).result(LIMIT) == 32


def test_facts_count_what_was_done(net: ClientNetwork) -> None:
    list(net.map(abs, range(10)))
    facts = net.mesh.query(5)[1][0]["jobs"]  # type: ignore[attr-defined]
    assert facts["slots"] == 2
    assert sum(worker[2] for worker in facts["workers"]) + facts["ended"][0] >= 10
