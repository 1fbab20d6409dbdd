"""The methods of networks and nodes that run jobs."""

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConfigurationError, ConnectionLostError, JobLostError, UnsupportedValueError
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server

LIMIT = 20.0
NODE = "lambda *_: sockets.node"  # a name of the engine's workspace


def test_a_node_runs_its_jobs_itself(jobs_network: ClientNetwork) -> None:
    for node in (1, 2):
        jobs = [jobs_network[node].submit(NODE) for _ in range(5)]
        assert {job.result(LIMIT) for job in jobs} == {node} == {job.node for job in jobs}


def test_a_part_of_the_network_runs_its_jobs_itself(jobs_network: ClientNetwork) -> None:
    assert set(jobs_network[2:].map(NODE, range(20))) == {2}
    assert jobs_network[[1]].pmap(NODE, [0, 0]).tolist() == [1, 1]


def test_an_executor_sends_the_rest_when_jobs_have_ended(jobs_network: ClientNetwork) -> None:
    with jobs_network.executor(max_workers=1) as executor:
        jobs = [executor.submit(pow, 2, k) for k in range(10)]
        assert [job.result(LIMIT) for job in jobs] == [2**k for k in range(10)]
    with pytest.raises(ConfigurationError, match="max_workers=-1 is not allowed"):
        jobs_network.executor(max_workers=-1)


def test_jobs_find_the_workspace(jobs_network: ClientNetwork) -> None:
    jobs_network["table"] = {"a": 1, "b": 2}
    assert jobs_network.submit(lambda key: table[key], "b").result(LIMIT) == 2  # type: ignore[name-defined]  # noqa: F821
    assert jobs_network.submit("table.get", "a").result(LIMIT) == 1


def test_what_a_job_changes_in_the_workspace_is_its_own(jobs_network: ClientNetwork) -> None:
    jobs_network["state"] = [1]
    jobs_network.submit("state.append", 2).result(LIMIT)
    assert jobs_network.pull("state", timeout=LIMIT) == [[1], [1]]


def test_the_executor_of_a_view_is_made_once(jobs_network: ClientNetwork) -> None:
    jobs_network.submit(abs, 1).result(LIMIT)
    before = len(jobs_network.mesh.jobs.executors)  # type: ignore[attr-defined]
    for _ in range(5):
        jobs_network.submit(abs, 1).result(LIMIT)
    assert len(jobs_network.mesh.jobs.executors) == before  # type: ignore[attr-defined]


def test_submit_has_options(jobs_network: ClientNetwork) -> None:
    made = jobs_network.submit(type, "Made", (), {}, allow_pickle=True).result(LIMIT)
    assert made.__name__ == "Made"
    draw = "lambda: __import__('pconnect').rng().random()"
    first, again = (jobs_network.submit(draw, seed=7).result(LIMIT) for _ in range(2))
    assert first == again
    with jobs_network.executor(seed=7) as executor:
        assert executor.submit(draw).result(LIMIT) == first


def test_an_option_of_submit_that_the_function_has_too_is_refused(jobs_network: ClientNetwork) -> None:
    def simulate(*, seed: int) -> int:
        return seed

    with pytest.raises(ConfigurationError, match=r"simulate\(\.\.\.\) and submit both have a parameter seed"):
        jobs_network.submit(simulate, seed=3)
    assert jobs_network.submit(functools.partial(simulate, seed=3)).result(LIMIT) == 3
    assert jobs_network.executor().submit(simulate, seed=4).result(LIMIT) == 4


def test_a_result_that_cannot_be_sent_stays_at_its_node(jobs_network: ClientNetwork) -> None:
    job = jobs_network.submit(type, "Made", (), {"a": 1})
    with pytest.raises(
        UnsupportedValueError, match=r"its node keeps it, and job\.result\(allow_pickle=True\) fetches"
    ):
        job.result(LIMIT)
    jobs_network.eval("1").result(LIMIT)
    for _ in range(2):
        assert job.result(LIMIT, allow_pickle=True).a == 1
    assert isinstance(job.exception(), UnsupportedValueError)
    assert jobs_network.submit(abs, -1).result(LIMIT, allow_pickle=True) == 1
    other = jobs_network.submit("sockets.close_all_of_them")
    with pytest.raises(AttributeError):
        other.result(LIMIT, allow_pickle=True)


def test_a_job_that_fails_with_such_an_error_has_no_result(jobs_network: ClientNetwork) -> None:
    def fail() -> None:
        from pconnect import UnsupportedValueError

        raise UnsupportedValueError("of the user's")

    with pytest.raises(UnsupportedValueError, match="of the user's"):
        jobs_network.submit(fail).result(LIMIT, allow_pickle=True)


def test_the_value_of_a_command_stays_at_its_node(jobs_network: ClientNetwork) -> None:
    made = jobs_network.eval("type('Made', (), {'node': sockets.node})")
    with pytest.raises(ExceptionGroup) as raised:
        made.result(LIMIT)
    for error in raised.value.exceptions:
        assert "its node keeps it, and command.result(allow_pickle=True) fetches it" in str(error)
    values: Any = made.result(LIMIT, allow_pickle=True)
    assert [value.node for value in values] == [1, 2]
    assert made[1].result(LIMIT, allow_pickle=True).node == 2
    mixed = jobs_network.eval("1 / 0 if sockets.node == 1 else type('Made', (), {})")
    with pytest.raises(ExceptionGroup):
        mixed.result(LIMIT, allow_pickle=True)
    half = jobs_network.eval("1 if sockets.node == 1 else type('Made', (), {})")
    values = half.result(LIMIT, allow_pickle=True)
    assert values[0] == 1 and values[1].__name__ == "Made"


def test_what_cannot_be_called_is_the_error_of_the_job(jobs_network: ClientNetwork) -> None:
    with pytest.raises(ConfigurationError, match="5 cannot be called"):
        jobs_network.submit(5).result(LIMIT)  # type: ignore[arg-type]
    with pytest.raises(NameError, match="nobody_has_this"):
        jobs_network.submit("nobody_has_this").result(LIMIT)
    with pytest.raises(SyntaxError):
        jobs_network.submit("1 +").result(LIMIT)


def test_a_job_runs_beside_a_command(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    """The worker exists already; the engine is busy until the job has run."""
    assert jobs_network[1].submit(os.getpid).result(LIMIT) > 0
    mark = tmp_path / "mark"
    source = f"import os, time\nwhile not os.path.exists({str(mark)!r}): time.sleep(0.01)"
    command = jobs_network[1].eval(source)
    jobs_network[1].submit(mark.touch).result(LIMIT)
    command.result(LIMIT)


def test_after_the_close_there_are_no_jobs(one_slot: Server) -> None:
    with one_slot.connect() as net:
        assert net.submit(abs, -1).result(LIMIT) == 1
    with pytest.raises((JobLostError, ConnectionLostError, ConfigurationError), match="closed"):
        net.submit(abs, -1).result(LIMIT)
    with pytest.raises((ConnectionLostError, ConfigurationError), match="closed"):
        net.executor()
