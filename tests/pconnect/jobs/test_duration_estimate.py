"""How many jobs are sent ahead, by the estimate of their duration."""

import functools
from collections.abc import Callable

import pytest

from pconnect.jobs.duration_estimate import DurationEstimate, DurationEstimates


def test_unknown_functions_are_sent_one_at_a_time() -> None:
    assert DurationEstimate().ahead == 1


@pytest.mark.parametrize(
    ("seconds", "ahead"), [(1.0, 1), (0.06, 1), (0.04, 2), (0.001, 5), (0.0001, 50), (0.0, 1000)]
)
def test_the_shorter_the_jobs_the_more_are_sent_ahead(seconds: float, ahead: int) -> None:
    estimate = DurationEstimate()
    for _ in range(100):
        estimate.learn(seconds)
    assert estimate.ahead == pytest.approx(ahead, abs=1 if ahead > 2 else 0)


def test_the_mean_forgets_old_durations() -> None:
    estimate = DurationEstimate()
    estimate.learn(10.0)
    for _ in range(100):
        estimate.learn(0.001)
    assert estimate.ahead >= 4


def closure(k: int) -> Callable[[], int]:
    return lambda: k


def apply(function: Callable[..., object], *args: object) -> object:
    return function(*args)


def test_functions_made_by_the_same_lines_share_an_estimate() -> None:
    estimates = DurationEstimates()
    assert estimates.get(closure(1), b"1") is estimates.get(closure(2), b"2")
    assert estimates.get(closure, b"3") is not estimates.get(apply, b"4")


def test_a_partial_function_is_identified_by_its_functions() -> None:
    estimates = DurationEstimates()
    first = estimates.get(functools.partial(apply, closure, 1), b"1")
    assert estimates.get(functools.partial(apply, closure, 2), b"2") is first
    assert estimates.get(functools.partial(apply, apply, 2), b"3") is not first
    assert estimates.get(functools.partial(apply, len), b"4") is not estimates.get(
        functools.partial(apply, abs), b"5"
    )


def test_a_function_without_source_lines_is_identified_by_its_digest() -> None:
    estimates = DurationEstimates()
    assert estimates.get("lambda: 1", b"1") is estimates.get("lambda: 1", b"1")
    assert estimates.get("lambda: 1", b"1") is not estimates.get("lambda: 2", b"2")
    assert estimates.get(len, b"3") is not estimates.get(abs, b"4")


def test_old_estimates_are_dropped() -> None:
    estimates = DurationEstimates()
    first = estimates.get(len, b"first")
    for k in range(2000):
        estimates.get(len, str(k).encode())
    assert estimates.get(len, b"first") is not first
