"""How many jobs are sent ahead, by what is known of how long they take."""

import functools
from collections.abc import Callable

import pytest

from pconnect.jobs.duration_estimate import Pace, Paces


def test_of_what_is_not_known_there_is_one_at_a_time() -> None:
    assert Pace().ahead == 1


@pytest.mark.parametrize(
    ("seconds", "ahead"), [(1.0, 1), (0.06, 1), (0.04, 2), (0.001, 5), (0.0001, 50), (0.0, 1000)]
)
def test_the_shorter_the_jobs_the_more_are_sent_ahead(seconds: float, ahead: int) -> None:
    pace = Pace()
    for _ in range(100):
        pace.learn(seconds)
    assert pace.ahead == pytest.approx(ahead, abs=1 if ahead > 2 else 0)


def test_the_mean_forgets_what_was_long_ago() -> None:
    pace = Pace()
    pace.learn(10.0)
    for _ in range(100):
        pace.learn(0.001)
    assert pace.ahead >= 4


def closure(k: int) -> Callable[[], int]:
    return lambda: k


def apply(function: Callable[..., object], *args: object) -> object:
    return function(*args)


def test_what_the_same_lines_make_has_the_same_pace() -> None:
    paces = Paces()
    assert paces.get(closure(1), b"1") is paces.get(closure(2), b"2")
    assert paces.get(closure, b"3") is not paces.get(apply, b"4")


def test_a_partial_function_goes_by_the_functions_in_it() -> None:
    paces = Paces()
    first = paces.get(functools.partial(apply, closure, 1), b"1")
    assert paces.get(functools.partial(apply, closure, 2), b"2") is first
    assert paces.get(functools.partial(apply, apply, 2), b"3") is not first
    assert paces.get(functools.partial(apply, len), b"4") is not paces.get(
        functools.partial(apply, abs), b"5"
    )


def test_what_has_no_lines_goes_by_what_it_is() -> None:
    paces = Paces()
    assert paces.get("lambda: 1", b"1") is paces.get("lambda: 1", b"1")
    assert paces.get("lambda: 1", b"1") is not paces.get("lambda: 2", b"2")
    assert paces.get(len, b"3") is not paces.get(abs, b"4")


def test_not_all_are_kept() -> None:
    paces = Paces()
    first = paces.get(len, b"first")
    for k in range(2000):
        paces.get(len, str(k).encode())
    assert paces.get(len, b"first") is not first
