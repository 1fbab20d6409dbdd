"""What becomes of jobs in the queue, and what functions find in workers."""

import concurrent.futures
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE


@pytest.fixture(scope="module")
def narrow_server(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("narrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)  # what is set for the server holds in workers, too
        with run_server(folder, "--slots=1", users=users) as server:
            yield server


@pytest.fixture
def narrow(narrow_server: Server) -> Iterator[ClientNetwork]:
    """Give a network with one slot."""
    with narrow_server.connect() as net:
        yield net


def test_jobs_that_are_cancelled_in_the_queue_are_skipped(narrow: ClientNetwork) -> None:
    narrow.submit(time.sleep, 0.1).result(DEADLINE)  # so that no jobs of unknown length are sent ahead
    for _ in range(4):  # the thread of the jobs is somewhere else each time
        jobs = [narrow.submit(time.sleep, 0.15) for _ in range(6)]
        time.sleep(0.1)
        assert all(job.cancel() for job in jobs[1:])
        concurrent.futures.wait(jobs, DEADLINE)
        assert all(job.cancelled() for job in jobs[1:])
    assert narrow.submit(pow, 2, 3).result(DEADLINE) == 8


def test_functions_for_chunks_find_the_workspace_too(narrow: ClientNetwork) -> None:
    narrow["table"] = {"a": 1, "b": 2}
    assert list(narrow.map(lambda key: table[key], "abab", chunksize=3)) == [1, 2, 1, 2]  # type: ignore[name-defined] # noqa: F821
    job = narrow.submit(lambda: None)
    assert job.name.endswith("<lambda>(...)")
    assert list(narrow.map("abs", [-1, -2], chunksize=2)) == [1, 2]
    with narrow.executor() as executor:
        assert list(executor.map(lambda key: table[key], "abab", chunksize=3)) == [1, 2, 1, 2]  # type: ignore[name-defined] # noqa: F821


def test_libraries_that_a_job_imports_share_the_processors(narrow: ClientNetwork) -> None:
    def threads() -> tuple[str, int]:
        import os

        return os.environ["OMP_NUM_THREADS"], len(os.sched_getaffinity(0))

    told, processors = narrow.submit(threads).result(DEADLINE)
    assert told == str(processors)  # one slot may take all


def test_functions_that_jobs_still_need_are_not_forgotten(narrow: ClientNetwork) -> None:
    for k in range(50):
        narrow.submit(pow, k, 2).result(DEADLINE)  # so short that many are sent ahead
    jobs = [narrow.submit(lambda x, k=k: x + k, 1) for k in range(400)]
    assert [job.result(DEADLINE) for job in jobs] == [1 + k for k in range(400)]


def test_large_functions_are_forgotten(narrow: ClientNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pconnect.scheduler.remote_worker._KEPT_BYTES", 2**22)
    monkeypatch.setattr("pconnect.jobs.function_cache._KEPT_BYTES", 2**22)
    for k in range(10):
        data = bytes([k]) * 2**20
        assert narrow.submit(lambda data=data: len(data)).result(DEADLINE) == 2**20
    scheduler: Any = narrow.mesh.scheduler  # type: ignore[attr-defined]
    (worker,) = scheduler._manager.nodes[1].workers.values()
    assert sum(function.size for function in worker._functions.values()) < 2**22
    assert sum(function.size for function in scheduler.functions._by_digest.values()) < 2**22
