"""Results that have arrived and are decoded by the first call that needs them."""

import concurrent.futures
import itertools
import signal
import time
from typing import Any

import pytest

from pconnect import ProtocolError, RemoteError
from pconnect.jobs.job import FAILED, PLAIN, Job
from pconnect.jobs.outcome import settle
from pconnect.protocol.frames import NO_LIMIT
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Unfinished, decode_messages, encode_message
from tests.support.waiting import DEADLINE
from tests.support.workers import made

LARGE = [[number] for number in range(50_000)]


def arrived(kind: Kind, value: object) -> Any:
    """Return a value in the form it has in a message that has arrived."""
    [message] = decode_messages(Role.EMPLOYER, b"".join(encode_message(kind, 1, value, NO_LIMIT)))
    assert type(message.value) is Unfinished
    return message.value


def unmade() -> Job:
    job = made()
    job.begin()
    assert settle(job, arrived(Kind.RESULT, [PLAIN, LARGE, 100.0, 0.5, [b"out", 0, b"", 0]])) is None
    assert job.done() and job.is_unmade and job.state == "done"
    return job


def test_a_large_result_is_decoded_by_the_call_that_takes_it() -> None:
    job = unmade()
    assert job.result(0) == LARGE and not job.is_unmade
    assert job.result(0) is job.result(0) and job.exception(0) is None
    job = unmade()
    assert job.exception(0) is None and not job.is_unmade


@pytest.mark.parametrize(("name", "value"), [("started", 100.0), ("duration", 0.5), ("stdout", "out")])
def test_the_attributes_of_a_large_result_are_decoded_on_demand(name: str, value: object) -> None:
    assert getattr(unmade(), name) == value


def test_a_deadline_stops_decoding_and_a_later_call_completes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = unmade()
    clock = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: float(next(clock)))
        with pytest.raises(TimeoutError, match="decoding a large value that has arrived"):
            job.result(2.0)
    assert job.is_unmade
    assert job.result(DEADLINE) == LARGE


def test_ctrl_c_stops_decoding_and_a_later_call_completes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = unmade()
    looks = itertools.count()

    def look_at_the_clock() -> float:
        if next(looks) == 2:  # while it is being decoded
            signal.raise_signal(signal.SIGINT)
        return 0.0

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", look_at_the_clock)
        with pytest.raises(KeyboardInterrupt):
            job.result(DEADLINE)
    assert next(looks) == 3 and job.is_unmade
    assert job.result() == LARGE


def test_only_one_of_several_threads_decodes_a_large_result() -> None:
    job = unmade()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda _: job.result(), range(8)))
    assert all(value is values[0] for value in values)


@pytest.mark.parametrize("facts", [(), (1.0, "x", 5)])
def test_a_malformed_large_result(facts: tuple[object, ...]) -> None:
    job = made()
    job.begin()
    settle(job, arrived(Kind.RESULT, [PLAIN, LARGE, *facts]))
    if facts:
        assert isinstance(job.exception(0), ProtocolError)
        with pytest.raises(ProtocolError):
            job.result(0)
        assert job.state == "failed"
    else:
        assert job.result(0) == LARGE


def test_a_large_failure_account_is_decoded_immediately() -> None:
    job = made()
    job.place = 1, "alpha"
    job.begin()
    failure = {"type": "Missing", "bases": [], "message": "", "traceback": "x" * 100_000}
    assert settle(job, arrived(Kind.RESULT, [FAILED, failure, 100.0, 0.5])) == 0.5
    assert isinstance(job.exception(0), RemoteError)


def test_a_large_report_is_decoded_on_demand() -> None:
    job = made()
    job.report(arrived(Kind.REPORT, LARGE))
    assert job.progress == LARGE and job.progress is job.progress
