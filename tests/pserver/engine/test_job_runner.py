"""One job in a worker: however its function ends, there is a result."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.commands.function_pickling import pickle_value
from pconnect.errors import UnsupportedValueError
from pconnect.jobs.job import FAILED, PICKLED, PLAIN, State
from pconnect.jobs.worker_api import job_number, progress, side
from pserver.engine.job_runner import JobRunner
from pserver.jobs.job_output import JobOutput
from pserver.jobs.shared_status import SharedStatus


class Sender:
    """Records sent results, and refuses values according to their names."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[Any]]] = []
        self.reports: list[tuple[int, object]] = []

    def send(self, number: int, result: list[Any], *, by_name: bool = True) -> None:
        if result[0] == PLAIN and (
            isinstance(result[1], complex) or (type(result[1]) is State and not by_name)
        ):
            raise UnsupportedValueError("value[1]: cannot send it")
        self.sent.append((number, result))

    def keep(self, number: int, data: bytes) -> str:
        self.kept = number, data
        return ""

    def report(self, number: int, value: object) -> None:
        self.reports.append((number, value))


class Folders:
    """The folders of jobs; no job requests one."""

    def make(self, _: str | None) -> Path:
        raise AssertionError

    def take_outputs(self) -> None:
        return None


@pytest.fixture(autouse=True)
def _no_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Descriptors 1 and 2 are those of the tests here, not of a worker."""
    monkeypatch.setattr(JobOutput, "take", lambda _: None)
    before = side.report, side.make_folder
    yield
    side.report, side.make_folder = before


@pytest.fixture
def page() -> Iterator[SharedStatus]:
    memory = SharedStatus.make()
    page = SharedStatus(memory)
    os.close(memory)
    yield page
    page.close()


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def run(page: SharedStatus, sender: Sender) -> Callable[..., list[Any]]:
    runner = JobRunner({"factor": 3}, page, Folders(), sender, b"network")  # type: ignore[arg-type]
    numbers = iter(range(1, 100))

    def run(function: object, *args: Any, options: dict[str, Any] | None = None) -> list[Any]:
        number = next(numbers)
        runner.functions[7] = function
        assert not runner.run(number, [7, list(args), {}, options])
        assert sender.sent[-1][0] == number
        return sender.sent[-1][1]

    return run


def test_a_value_comes_with_its_times(run: Callable[..., list[Any]], page: SharedStatus) -> None:
    kind, value, began, seconds = run(max, 1, 2)
    assert (kind, value) == (PLAIN, 2) and began > 1e9 and 0 <= seconds < 5
    status = page.read()
    assert (status.job, status.jobs) == (0, 1) and status.seconds == seconds


def test_an_expression_is_one_of_the_workspace(run: Callable[..., list[Any]]) -> None:
    assert run(["lambda x: factor * x", {}], 2)[:2] == [PLAIN, 6]


def test_what_a_job_sees_of_itself(run: Callable[..., list[Any]], page: SharedStatus, sender: Sender) -> None:
    def look() -> list[float]:
        progress("half")
        return [job_number(), page.read().job, page.read().limit]

    assert run(look, options={"seconds": 2.5})[1] == [1, 1, 2.5]
    assert sender.reports == [(1, "half")]
    assert job_number() == 0


@pytest.mark.parametrize("error", [LookupError("no such thing"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_it_raises_is_its_failure(run: Callable[..., list[Any]], error: BaseException) -> None:
    def fail() -> None:
        raise error

    kind, account, *_ = run(fail)
    assert kind == FAILED and account["type"] == type(error).__name__ and "pickle" not in account
    assert "pickle" in run(fail, options={"pickle": True})[1]


def test_a_value_that_cannot_be_sent_is_kept(run: Callable[..., list[Any]], sender: Sender) -> None:
    kind, account, *_ = run(complex, 1, 2)
    assert kind == FAILED
    assert account["message"] == (
        "value: cannot send it; its node keeps it, and job.result(allow_pickle=True) fetches it; to send "
        "it by pickle, pass allow_pickle=True: net.submit(..., allow_pickle=True), net.map(..., allow_pickle=True)"
    )
    assert sender.kept == (1, pickle_value(1 + 2j))
    assert run(complex, 1, 2, options={"pickle": True})[:2] == [PICKLED, pickle_value(1 + 2j)]


def test_only_the_job_that_is_meant_is_interrupted(page: SharedStatus, sender: Sender) -> None:
    runner = JobRunner({}, page, Folders(), sender, b"network")  # type: ignore[arg-type]
    page.interrupt(5)
    runner.on_interrupt()
    runner.functions[7] = runner.on_interrupt
    for number in (4, 5):
        runner.run(number, [7, [], {}, None])
    assert [result[0] for _, result in sender.sent] == [PLAIN, FAILED]


def test_a_function_that_is_missing_is_a_failure(run: Callable[..., list[Any]]) -> None:
    assert run(["no_such_name", {}])[1]["type"] == "NameError"
    assert sys.exc_info() == (None, None, None)


_LIMIT = """
from pserver.engine.job_runner import memory_limit
with memory_limit(None):
    bytearray(2**26)
with memory_limit(2**24):
    try:
        bytearray(2**28)
    except MemoryError:
        print("refused")
bytearray(2**28)
"""


def run_script(script: str) -> str:
    """Run a script in its own process, because it changes the state of the process."""
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_memory_is_limited_for_a_while() -> None:
    assert run_script(_LIMIT) == "refused"


def test_a_result_of_a_class_that_has_a_name_is_pickled_only_if_that_is_allowed(
    run: Callable[..., list[Any]],
) -> None:
    assert run(lambda: State.DONE)[:2] == [PLAIN, State.DONE]
    assert run(lambda: State.DONE, options={"pickle": True})[0] == PICKLED
