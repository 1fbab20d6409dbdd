"""Maps over two servers: how many jobs run at the same time, and reductions while workers die."""

import concurrent.futures
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import JobLostError
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    """Two servers with two slots each."""
    with (
        run_server(tmp_path_factory.mktemp("first"), "--slots=2", users=users) as first,
        run_server(tmp_path_factory.mktemp("second"), "--slots=2", users=users) as second,
    ):
        yield [first, second]


@pytest.fixture
def net(servers: list[Server]) -> Iterator[ClientNetwork]:
    with connect(servers) as network:
        yield network


def nap(_: object) -> tuple[float, float]:
    """Return when a job began and ended; all workers of this machine have the same clock."""
    begin = time.monotonic()
    time.sleep(0.1)
    return begin, time.monotonic()


def most_at_a_time(naps: list[tuple[float, float]]) -> int:
    return max(sum(begin <= start < end for begin, end in naps) for start, _ in naps)


def naps_of(net: ClientNetwork, way: str, **options: Any) -> list[tuple[float, float]]:
    if way == "map":
        return list(net.map(nap, range(16), **options))
    if way == "pmap":
        return list(zip(*net.pmap(nap, range(16), **options), strict=True))
    with net.executor(**options) as executor:
        return list(executor.map(nap, range(16)))


@pytest.mark.parametrize("way", ["map", "pmap", "executor"])
def test_at_most_as_many_jobs_as_allowed_run_at_the_same_time(net: ClientNetwork, way: str) -> None:
    assert most_at_a_time(naps_of(net, way)) > 2
    for limit in (1, 2):
        assert most_at_a_time(naps_of(net, way, max_workers=limit)) == limit


def test_a_reduction_survives_the_death_of_workers(net: ClientNetwork, tmp_path: Path) -> None:
    def square_or_die(k: int) -> int:
        mark = tmp_path / str(k)
        if k % 5 == 0 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return k * k

    for options in ({}, {"max_workers": 2}, {"ordered": False}):
        for mark in tmp_path.iterdir():
            mark.unlink()
        found = net.pmap(square_or_die, range(20), reduce=lambda a, b: a + b, retries=3, **options)
        assert found == sum(k * k for k in range(20))


def test_chunks_of_an_array_on_all_slots(net: ClientNetwork) -> None:
    data = np.random.default_rng(1).standard_normal((10_000, 3))
    norms = net.pmap(lambda rows: np.sqrt((rows**2).sum(axis=1)), data, vectorized=True)
    assert (norms == np.sqrt((data**2).sum(axis=1))).all()
    total = net.pmap(lambda rows: rows.T @ rows, data, vectorized=True, reduce=np.add)
    assert np.allclose(total, data.T @ data)


def test_held_back_jobs_are_lost_when_the_network_is_closed(servers: list[Server]) -> None:
    with connect(servers) as net:
        executor = net.executor(max_workers=1)
        jobs = [executor.submit(time.sleep, 60) for _ in range(4)]
        assert "its limit (jobs in progress: 1)" in jobs[3].why
    _, pending = concurrent.futures.wait(jobs, DEADLINE)
    assert not pending
    for job in jobs:
        with pytest.raises(JobLostError):
            job.result(0)


def test_shutdown_cancels_held_back_jobs(net: ClientNetwork) -> None:
    executor = net.executor(max_workers=1)
    jobs = [executor.submit(time.sleep, 0.5) for _ in range(4)]
    executor.shutdown(cancel_futures=True)
    assert [job.cancelled() for job in jobs[1:]] == [True] * 3
