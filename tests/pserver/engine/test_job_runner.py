"""One job in a worker: every way in which its function may end becomes a result."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.commands.function_pickling import pickle_value
from pconnect.errors import UnsupportedValueError
from pconnect.jobs.job import FAILED, PICKLED, PLAIN
from pconnect.jobs.worker_api import job_number, progress, side
from pserver.engine import job_runner
from pserver.engine.job_runner import JobRunner
from pserver.jobs.shared_status import SharedStatus


class Sender:
    """Keeps what is sent, and refuses what its name says."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[Any]]] = []
        self.reports: list[tuple[int, object]] = []

    def send(self, number: int, result: list[Any]) -> None:
        if result[0] == PLAIN and isinstance(result[1], complex):
            raise UnsupportedValueError("value[1]: cannot send it")
        self.sent.append((number, result))

    def report(self, number: int, value: object) -> None:
        self.reports.append((number, value))


class Folders:
    """The folders of jobs, of which none is asked for."""

    def make(self, _: str | None) -> Path:
        raise AssertionError

    def take_outputs(self) -> None:
        return None


@pytest.fixture(autouse=True)
def _no_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The descriptors 1 and 2 are those of the tests, not of a worker."""
    monkeypatch.setattr(job_runner, "take_output", lambda: None)
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
    runner = JobRunner({"factor": 3}, page, Folders(), sender)  # type: ignore[arg-type]
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


def test_a_value_that_cannot_be_sent(run: Callable[..., list[Any]]) -> None:
    kind, account, *_ = run(complex, 1, 2)
    assert kind == FAILED
    assert account["message"] == "value: cannot send it; allow_pickle=True lets it come by pickle"
    assert run(complex, 1, 2, options={"pickle": True})[:2] == [PICKLED, pickle_value(1 + 2j)]


def test_only_the_job_that_is_meant_is_interrupted(page: SharedStatus, sender: Sender) -> None:
    runner = JobRunner({}, page, Folders(), sender)  # type: ignore[arg-type]
    page.interrupt(5)
    runner.on_interrupt()
    runner.functions[7] = runner.on_interrupt
    for number in (4, 5):
        runner.run(number, [7, [], {}, None])
    assert [result[0] for _, result in sender.sent] == [PLAIN, FAILED]


def test_a_function_that_is_missing_is_a_failure(run: Callable[..., list[Any]]) -> None:
    assert run(["no_such_name", {}])[1]["type"] == "NameError"
    assert sys.exc_info() == (None, None, None)


_PRINT = """
import os, sys, tempfile
from pserver.engine.job_runner import take_output
files = [tempfile.TemporaryFile() for _ in range(2)]
told = os.dup(1)
for descriptor, file in zip((1, 2), files):
    os.dup2(file.fileno(), descriptor)
before = take_output()
print("x" * (2**20 + 5), end="")
print("err", end="", file=sys.stderr)
out, left_out, err, err_left_out = take_output()
facts = [before, len(out), left_out, err, err_left_out, take_output()]
os.dup2(told, 1)
print(facts)
"""

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
    """Run a script in a process of its own, for it changes what belongs to the process."""
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_the_end_of_what_is_printed_is_taken_once() -> None:
    assert run_script(_PRINT) == f"[None, {2**20}, 5, b'err', 0, None]"


def test_memory_is_limited_for_a_while() -> None:
    assert run_script(_LIMIT) == "refused"
