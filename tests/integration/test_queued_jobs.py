"""The fate of queued jobs, and the environment of functions in workers."""

import concurrent.futures
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import JobLostError
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def narrow_server(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("narrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)  # the server's variables apply in workers, too
        with run_server(folder, "--slots=1", users=users) as server:
            yield server


@pytest.fixture
def narrow(narrow_server: Server) -> Iterator[ClientNetwork]:
    """Yield a network with one slot."""
    with narrow_server.connect() as net:
        yield net


def test_jobs_that_are_cancelled_in_the_queue_are_skipped(narrow: ClientNetwork) -> None:
    narrow.submit(time.sleep, 0.1).result(DEADLINE)  # so no jobs of unknown length are sent ahead
    for _ in range(4):  # the job thread is at a different point each time
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
    assert told == str(processors)  # one slot may take all jobs


def test_functions_that_jobs_still_need_are_not_forgotten(narrow: ClientNetwork) -> None:
    for k in range(50):
        narrow.submit(pow, k, 2).result(DEADLINE)  # short enough to be sent ahead in large numbers
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


def test_a_job_behind_a_busy_engine_says_so(narrow: ClientNetwork) -> None:
    command = narrow[1].eval("import time; time.sleep(60)")
    job = narrow.submit(pow, 2, 3)
    with pytest.raises(
        TimeoutError, match=r"its engine is busy with command 'import time; time.sleep\(60\)'"
    ):
        job.result(1.0)
    assert "queued: node 1" in repr(job)
    command.cancel()
    assert job.result(DEADLINE) == 8
    assert not job.why


def test_a_job_that_a_worker_has_does_not_wait_in_the_queue(narrow: ClientNetwork) -> None:
    job = narrow.submit(time.sleep, 0.5)
    wait_until(lambda: job.node is not None, "the worker")
    assert not job.why
    job.result(DEADLINE)


def test_a_job_without_a_slot_says_so(narrow: ClientNetwork, narrow_server: Server) -> None:
    with narrow_server.connect() as other, other.executor(exclusive=True) as executor:
        assert executor.submit(pow, 2, 3).result(DEADLINE) == 8
        job = narrow.submit(pow, 2, 4)
        with pytest.raises(
            TimeoutError, match=r"no slot is free: its server has 1.* has exclusive use of the server"
        ):
            job.result(1.0)
    assert job.result(DEADLINE) == 16


def test_a_job_on_a_drained_server_says_so(narrow: ClientNetwork, narrow_server: Server) -> None:
    narrow_server.ask("drain")
    try:
        job = narrow.submit(pow, 2, 4)
        with pytest.raises(TimeoutError, match=r"no slot is free: .* starts no jobs now \(it is drained, or"):
            job.result(1.0)
    finally:
        narrow_server.ask("resume")
    assert job.result(DEADLINE) == 16


def test_a_job_of_a_session_whose_folder_was_removed_fails(narrow_server: Server) -> None:
    with narrow_server.connect() as net:
        shutil.rmtree(Path(str(net[1].eval("str(session_files)").result(DEADLINE))).parent)
        with pytest.raises(
            JobLostError, match=r"started: the private folder of this session was removed; connect again \(/"
        ):
            net.submit(pow, 2, 3).result(DEADLINE)
