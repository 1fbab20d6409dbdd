"""Lazy maps: jobs submitted ahead of the results taken; without workers, the test ends the jobs."""

import itertools
import math
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.executors.lazy_map import LazyMap, Lookahead, error_of, wait_for
from pconnect.jobs.job import Job, JobOptions
from tests.support.workers import Owner

LIMIT = 20.0


class Source:
    """Submits jobs and records them."""

    def __init__(self, count: int) -> None:
        self.submitted: list[Job] = []
        self.jobs = self._make(count)

    def _make(self, count: int) -> Iterator[Job]:
        for number in range(count):
            job = Job(number, "f(...)", [], JobOptions(), Owner())
            job.begin()
            self.submitted.append(job)
            yield job

    def end(self, number: int, seconds: float | None = None) -> None:
        self.submitted[number].duration = seconds
        self.submitted[number].finish(number)


def test_in_order_each_job_waits_for_earlier_ones() -> None:
    source = Source(3)
    jobs = LazyMap(source.jobs, ordered=True)
    assert not jobs
    jobs.fill()
    source.end(1)
    for timeout in (0.0, 0.01):
        with pytest.raises(TimeoutError):
            jobs.take(timeout)
    threading.Timer(0.05, lambda: source.end(0)).start()
    assert [jobs.take(LIMIT).number for _ in range(2)] == [0, 1]
    assert jobs
    source.end(2)
    assert jobs.take(None).number == 2 and not jobs


def test_unordered_the_first_job_to_end_is_taken_first() -> None:
    source = Source(3)
    jobs = LazyMap(source.jobs, ordered=False)
    jobs.fill()
    with pytest.raises(TimeoutError):
        jobs.take(0.01)
    for number in (2, 0, 1):
        source.end(number)
    assert [jobs.take(LIMIT).number for _ in range(3)] == [2, 0, 1]
    assert not jobs


@pytest.mark.parametrize("ordered", [True, False])
def test_failed_and_cancelled_jobs_are_taken_like_others(ordered: bool) -> None:
    source = Source(2)
    jobs = LazyMap(source.jobs, ordered=ordered)
    jobs.fill()
    source.submitted[0].fail(TimeoutError("its own"))
    source.submitted[1].cancel()
    source.submitted[1].fail(KeyboardInterrupt())
    errors = [error_of(jobs.take(LIMIT)) for _ in range(2)]
    assert [type(error).__name__ for error in errors] == ["TimeoutError", "JobCancelledError"]


def test_an_interrupt_is_not_taken_for_the_outcome_of_a_job() -> None:
    """Ctrl-C may arrive in a wait for a job that has just ended."""

    class Interrupted(Job):
        def exception(self, *_: object) -> BaseException | None:
            raise KeyboardInterrupt

    job = Interrupted(0, "f(...)", [], JobOptions(), Owner())
    job.begin()
    job.finish(1)
    with pytest.raises(KeyboardInterrupt):
        wait_for(job, LIMIT)
    with pytest.raises(KeyboardInterrupt):
        error_of(job)


def test_what_was_not_taken_is_cancelled() -> None:
    source = Source(3)
    jobs = LazyMap(source.jobs, ordered=True)
    jobs.fill()
    source.end(0)
    jobs.take(LIMIT)
    jobs.cancel()
    assert [job.cancel_asked for job in source.submitted] == [False, True, True]


def test_short_jobs_raise_the_lookahead() -> None:
    source = Source(10**6)
    jobs = LazyMap(source.jobs, ordered=True)
    jobs.fill()
    assert len(source.submitted) == 32
    source.end(0, 0.0)
    jobs.take(LIMIT)
    jobs.fill()
    assert len(source.submitted) == 65
    assert len(list(itertools.islice(source.jobs, 3))) == 3


@given(st.lists(st.floats(0, 10), max_size=50), st.integers(0, 5000))
def test_the_lookahead_stays_within_its_limits_and_grows_slowly(durations: list[float], least: int) -> None:
    lookahead = Lookahead(least)
    assert lookahead.count == max(32, least)
    for seconds in durations:
        before = lookahead.count
        lookahead.learn(seconds)
        assert max(32, least) <= lookahead.count <= max(4096, least)
        assert lookahead.count <= 2 * before


def test_long_jobs_reduce_the_lookahead() -> None:
    lookahead = Lookahead()
    for _ in range(20):
        lookahead.learn(0.0)
    assert lookahead.count == 4096
    for _ in range(50):
        lookahead.learn(0.01)
    assert lookahead.count == 32


def test_two_jobs_for_each_slot_are_ahead_however_long_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pconnect.executors.lazy_map._SLOTS_SECONDS", 0.0)
    slots = 0
    source = Source(500)
    jobs = LazyMap(source.jobs, ordered=True, slots=lambda: slots)
    jobs.fill()
    assert len(source.submitted) == 32
    slots = 100
    jobs.fill()
    assert len(source.submitted) == 200
    slots = 3
    source.end(0, seconds=10.0)
    jobs.take(LIMIT)
    jobs.fill()
    assert len(source.submitted) == 200


def test_slots_are_not_counted_for_each_item() -> None:
    counted = itertools.count()
    source = Source(100)
    jobs = LazyMap(source.jobs, ordered=False, slots=lambda: next(counted))
    for number in range(50):
        jobs.fill()
        source.end(number)
        jobs.take(LIMIT)
    assert 1 <= next(counted) < 10


def test_a_map_can_read_all_of_its_inputs() -> None:
    source = Source(100)
    unread: set[weakref.ref[LazyMap]] = set()
    jobs = LazyMap(source.jobs, ordered=True, total=100, unread_maps=unread)
    assert not unread
    jobs.fill()
    assert ({reference() for reference in unread}, jobs.submitted, jobs.total) == ({jobs}, 32, 100)
    with pytest.raises(TimeoutError, match="timed out handing the jobs over"):
        jobs.read_all(time.monotonic())
    assert jobs.submitted == 33
    jobs.read_all(math.inf)
    assert (unread, len(source.submitted)) == (set(), 100)
    source.end(0)
    assert jobs.take(LIMIT).number == 0
    jobs.fill()
    assert len(source.submitted) == 100


@pytest.mark.parametrize("end", ["all read", "cancelled", "deleted"])
def test_a_map_that_ends_is_no_longer_unread(end: str) -> None:
    source, slots = Source(33), Slots()
    kept = weakref.ref(slots)
    unread: set[weakref.ref[LazyMap]] = set()
    jobs = LazyMap(source.jobs, ordered=True, slots=slots.count, unread_maps=unread)
    jobs.fill()
    assert len(unread) == 1
    match end:
        case "all read":
            for number in (0, 1):
                source.end(number)
                jobs.take(LIMIT)
                jobs.fill()
        case "cancelled":
            jobs.cancel()
            jobs.fill()
            assert len(source.submitted) == 32
        case "deleted":
            del jobs
    assert not unread
    del slots
    assert kept() is None


class Slots:
    """An object with a method, like an executor."""

    def count(self) -> int:
        return 1
