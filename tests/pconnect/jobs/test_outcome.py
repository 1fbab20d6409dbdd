"""Result messages of workers, turned into outcomes."""

from typing import Any

import pytest

from pconnect import ConfigurationError, ProtocolError, RemoteError, UnreadableValueError
from pconnect.commands.function_pickling import pickle_value
from pconnect.jobs.job import DROPPED, FAILED, PICKLED, PLAIN, Job, JobOptions
from pconnect.jobs.outcome import is_dropped, settle, shown_output
from tests.support.workers import made

FAILURE = {
    "type": "Missing",
    "bases": ["KeyError"],
    "message": "'a'",
    "traceback": "Traceback\nMissing: 'a'\n",
}


class Bomb:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _explode, (self.error,)


def _explode(error: BaseException) -> None:
    raise error


def ended(result: Any, **options: Any) -> Job:
    job = made(JobOptions(**options))
    job.place = 1, "alpha"
    job.begin()
    settle(job, result)
    assert job.done()
    return job


def test_a_plain_result_with_its_times_and_output() -> None:
    job = ended([PLAIN, [1, 2], 100.0, 0.5, [b"out\xff", 0, b"err", 7]])
    assert job.result(0) == [1, 2]
    assert (job.started, job.duration) == (100.0, 0.5)
    assert job.stdout == "out\ufffd" and job.stderr == "(7 bytes before this are left out)\nerr"


def test_the_seconds_are_returned() -> None:
    job = made()
    job.begin()
    assert settle(job, [PLAIN, None, 100.0, 0.25]) == 0.25


def test_a_pickled_result_needs_permission() -> None:
    data = pickle_value({1, 2})
    assert ended([PICKLED, data, 0.0, 0.0], allow_pickle=True).result(0) == {1, 2}
    with pytest.raises(ProtocolError):
        ended([PICKLED, data, 0.0, 0.0]).result(0)


@pytest.mark.parametrize(
    "error", [ValueError("bad"), ConfigurationError("bad"), SystemExit("bad"), KeyboardInterrupt("bad")]
)
def test_a_result_that_cannot_be_unpickled(error: BaseException) -> None:
    job = ended([PICKLED, pickle_value(Bomb(error)), 0.0, 0.0], allow_pickle=True)
    with pytest.raises(UnreadableValueError, match=f"{type(error).__name__}: bad"):
        job.result(0)


def test_a_failure_is_an_error_of_its_kind() -> None:
    error = ended([FAILED, dict(FAILURE), 0.0, 0.0]).exception(0)
    assert isinstance(error, RemoteError) and isinstance(error, KeyError)
    assert error.type_name == "Missing" and "node 1 (alpha)" in str(error)


def test_the_original_exception_needs_permission() -> None:
    failure = FAILURE | {"pickle": pickle_value(KeyError("a"))}
    error = ended([FAILED, dict(failure), 0.0, 0.0], allow_pickle=True).exception(0)
    assert type(error) is KeyError and isinstance(error.__cause__, RemoteError)
    assert isinstance(ended([FAILED, dict(failure), 0.0, 0.0]).exception(0), RemoteError)


@pytest.mark.parametrize("thing", [Bomb(ValueError("bad")), Bomb(SystemExit()), 5])
def test_an_exception_that_cannot_be_unpickled_is_described(thing: object) -> None:
    failure = FAILURE | {"pickle": pickle_value(thing)}
    error = ended([FAILED, failure, 0.0, 0.0], allow_pickle=True).exception(0)
    assert isinstance(error, RemoteError) and isinstance(error, KeyError)


def test_an_interrupt_at_the_time_limit_is_a_timeout() -> None:
    failure = {"type": "KeyboardInterrupt", "bases": [], "message": "", "traceback": "KeyboardInterrupt\n"}
    with pytest.raises(TimeoutError, match=r"the time limit of 0\.5 s passed"):
        ended([FAILED, dict(failure), 0.0, 0.6], time_limit=0.5).result(0)
    error = ended([FAILED, dict(failure), 0.0, 0.4], time_limit=0.5).exception(0)
    assert not isinstance(error, TimeoutError)


@pytest.mark.parametrize(
    "result", [[9, 1], [], 5, None, [FAILED, None], [PLAIN, 1, 2.0], [PLAIN, 1, 0.0, 0.0, [b""]]]
)
def test_a_malformed_result_is_reported(result: Any) -> None:
    with pytest.raises(ProtocolError):
        ended(result).result(0)


def test_the_message_for_a_dropped_job() -> None:
    assert is_dropped([DROPPED])
    assert not is_dropped([PLAIN, 1]) and not is_dropped(5) and not is_dropped([])


def test_any_output_becomes_text() -> None:
    assert shown_output(b"", 0) == ""
    assert shown_output("ä".encode()[1:], 1) == "(1 bytes before this are left out)\n\ufffd"
