"""Jobs of a network in one process."""

import concurrent.futures
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from pconnect import ConfigurationError, serial
from pconnect.job_side import progress
from pconnect.jobs.worker_api import job_number
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE

_DEBUGGED = """
import pconnect

def work(x):
    y = x + 1
    breakpoint()
    return y

with pconnect.serial() as net:
    print("result", net.submit(work, 41).result())
"""

_FAILS = """
import pconnect

def work(x):
    y = x + 1
    return y / 0

with pconnect.serial() as net:
    list(net.map(work, [41]))
"""


def test_a_job_has_ended_when_it_is_returned() -> None:
    with serial(2) as net:
        job = net.submit(pow, 2, 5)
        assert (job.done(), job.result(0), job.state, job.name) == (True, 32, "done", "pow(...)")
        assert job.node in {1, 2}
        assert job.duration is not None
        assert (job.cancel(), job.stdout, job.losses) == (False, "", 0)
        called: list[object] = []
        job.add_done_callback(called.append)
        assert called == [job]
        assert {net.submit(abs, 1).node for _ in range(4)} == {1, 2}
        assert {net[2].submit(abs, 1).node for _ in range(4)} == {2}


def test_an_executor_of_the_standard_library() -> None:
    with serial() as net, net.executor() as executor:
        jobs = [executor.submit(pow, 2, k) for k in range(4)]
        assert [job.result() for job in concurrent.futures.as_completed(jobs)] or jobs
        assert list(executor.map(pow, [2, 3], [5, 2])) == [32, 9]
        assert list(executor.map(abs, [-1, -2, -3], chunksize=2)) == [1, 2, 3]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_an_error_is_in_the_future() -> None:
    def fail(x: int) -> float:
        return x / 0

    with serial() as net:
        job = net.submit(fail, 3)
        assert job.state == "failed"
        with pytest.raises(ZeroDivisionError) as caught:
            job.result()
        frame, _ = list(traceback.walk_tb(caught.value.__traceback__))[-1]
        assert (frame.f_code.co_name, frame.f_locals["x"]) == ("fail", 3)
        assert isinstance(net.submit(3).exception(), ConfigurationError)  # type: ignore[arg-type]


def test_a_chunk_of_a_map_fails_as_a_whole_as_on_servers(jobs_network: ClientNetwork) -> None:
    with serial() as net:
        for each in (net, jobs_network):
            found = list(each.map(divmod, [7, 7, 7, 7], [2, 0, 2, 2], chunksize=2, on_error="return"))
            assert [isinstance(outcome, ZeroDivisionError) for outcome in found] == [True, True, False, False]
            assert found[2:] == [(3, 1), (3, 1)]
            results = each.map(divmod, [7, 7, 7, 7], [2, 2, 2, 0], chunksize=2)
            assert [next(results), next(results)] == [(3, 1), (3, 1)]
            with pytest.raises(ZeroDivisionError):
                next(results)


def test_a_map_runs_on_demand_and_stops_at_the_first_error() -> None:
    seen = []

    def work(k: int) -> float:
        seen.append(k)
        return 6 / (2 - k)

    with serial() as net:
        results = net.map(work, range(10))
        assert seen == []
        assert (next(results), next(results)) == (3.0, 6.0)
        with pytest.raises(ZeroDivisionError):
            next(results)
    assert seen == [0, 1, 2]


def test_what_a_job_reports() -> None:
    numbers = []

    def work() -> None:
        numbers.append(job_number())
        progress(0.5)

    with serial() as net:
        job = net.submit(work)
        assert (job.progress, numbers, job_number()) == (0.5, [job.number], 0)


def test_a_pool() -> None:
    with serial() as net, net.pool() as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert pool.starmap(pow, [(2, 5)]) == [32]
        assert sorted(pool.imap_unordered(abs, range(3))) == [0, 1, 2]
        assert pool.apply(abs, (-3,)) == 3
        assert pool.size == 1


def test_jobs_can_submit_jobs() -> None:
    with serial() as net:
        assert net.submit(lambda: net.submit(abs, -3).result() + 1).result() == 4


def answer_of(arguments: list[str], typed: str) -> str:
    answer = subprocess.run(
        [sys.executable, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return answer.stdout


def test_a_breakpoint_in_a_job_stops_there() -> None:
    shown = answer_of(["-c", _DEBUGGED], "p ('y is', y)\nc\n")
    assert "('y is', 42)" in shown
    assert "result 42" in shown


def test_a_debugger_finds_the_frame_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(_FAILS)
    shown = answer_of(["-m", "pdb", str(path)], "c\np ('y was', y)\nq\n")
    assert "('y was', 42)" in shown
