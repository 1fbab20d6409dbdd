"""`map`: a function called for each of many items."""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError, JobLostError, RemoteError
from pconnect.views.network_views import ClientNetwork
from tests.pconnect.loop.test_progress_bars import at_terminal
from tests.support.waiting import wait_until
from tests.support.workers import two_workers

LIMIT = 20.0
Sleep = Callable[[float], float]


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def sleep_and_return() -> Sleep:
    def sleep(seconds: float) -> float:  # a local function: the workers need not import this module
        time.sleep(seconds)
        return seconds

    return sleep


@pytest.mark.parametrize("chunksize", ["auto", 1, 3, 1000])
def test_results_equal_those_of_the_builtin_map(jobs_network: ClientNetwork, chunksize: Any) -> None:
    found = list(jobs_network.map(divmod, range(100, 150), range(1, 60), chunksize=chunksize))
    assert found == list(map(divmod, range(100, 150), range(1, 60)))


@pytest.mark.parametrize("chunksize", ["auto", 4])
def test_nothing_to_do(jobs_network: ClientNetwork, chunksize: Any) -> None:
    assert list(jobs_network.map(abs, [], chunksize=chunksize)) == []


def test_the_order_is_kept_although_the_first_take_longest(
    jobs_network: ClientNetwork, sleep_and_return: Callable[[float], float]
) -> None:
    seconds = [0.2, 0.0, 0.1, 0.0]
    assert list(jobs_network.map(sleep_and_return, seconds)) == seconds


def test_unordered_gives_first_what_is_there_first(
    jobs_network: ClientNetwork, sleep_and_return: Callable[[float], float]
) -> None:
    two_workers(jobs_network)
    found = list(jobs_network.map(sleep_and_return, [0.7, 0.0, 0.01], ordered=False))
    assert found[-1] == 0.7 and sorted(found) == [0.0, 0.01, 0.7]


def test_unordered_yields_each_result_once(jobs_network: ClientNetwork) -> None:
    found = jobs_network.map(abs, range(-500, 0), ordered=False, chunksize=7)
    assert sorted(found) == list(range(1, 501))


@pytest.mark.parametrize(("chunksize", "ahead"), [("auto", 64), (5, 5 * 64)])
def test_little_of_an_endless_generator_is_read_ahead(
    jobs_network: ClientNetwork, chunksize: Any, ahead: int
) -> None:
    taken = itertools.count()

    def sleep_and_count(n: int) -> int:
        time.sleep(0.005)
        return n

    results = jobs_network.map(sleep_and_count, taken, chunksize=chunksize)
    assert [next(results) for _ in range(20)] == list(range(20))
    results.close()  # type: ignore[attr-defined]
    assert next(taken) <= 20 + ahead


def test_closing_the_iterator_cancels_the_remaining_jobs(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    diary = tmp_path / "diary"

    def work(n: int) -> int:
        with open(diary, "a") as file:  # noqa: PTH123
            file.write(f"{n}\n")
        time.sleep(0.02)
        return n

    results = jobs_network.map(work, range(1000))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert jobs_network.submit(abs, -1).result(LIMIT) == 1
    assert len(lines(diary)) < 40


def test_an_iterable_that_raises_ends_the_map(jobs_network: ClientNetwork) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(jobs_network.map(abs, items()))
    assert jobs_network.submit(abs, -1).result(LIMIT) == 1


@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_error_ends_the_map(jobs_network: ClientNetwork, ordered: bool) -> None:
    with pytest.raises(ZeroDivisionError):
        list(jobs_network.map(divmod, [1] * 200, [*range(1, 100), 0, *range(1, 101)], ordered=ordered))


def test_errors_can_be_returned_as_results(jobs_network: ClientNetwork) -> None:
    found = list(jobs_network.map(divmod, [6, 6, 6], [2, 0, 3], on_error="return"))
    assert found[::2] == [(3, 0), (2, 0)]
    assert isinstance(found[1], RemoteError) and isinstance(found[1], ZeroDivisionError)


def test_the_error_of_a_chunk_stands_for_all_its_items(jobs_network: ClientNetwork) -> None:
    divisors = [1, 2, 0, 4, 5, 10]
    found = list(jobs_network.map(divmod, [20] * 6, divisors, chunksize=2, on_error="return"))
    assert [isinstance(item, ZeroDivisionError) for item in found] == [False, False, True, True, False, False]


def test_what_is_lost_is_run_again_if_that_is_wanted(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    def work(n: int) -> int:
        mark = tmp_path / str(n)
        if n % 5 == 0 and not mark.exists():
            mark.touch()
            os._exit(3)
        return n

    assert list(jobs_network.map(work, range(12), retries=1)) == list(range(12))
    for mark in tmp_path.iterdir():
        mark.unlink()
    found = list(jobs_network.map(work, range(12), on_error="return"))
    assert [n for n, item in enumerate(found) if isinstance(item, JobLostError)] == [0, 5, 10]


@pytest.mark.parametrize(
    "options", [{"on_error": "ignore"}, {"chunksize": 0}, {"chunksize": "big"}, {"on": 3}, {"on": []}]
)
def test_invalid_options_are_refused_immediately(
    jobs_network: ClientNetwork, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        jobs_network.map(abs, [1], **options)


def test_maps_in_several_threads(jobs_network: ClientNetwork) -> None:
    found: dict[int, list[int]] = {}

    def run(k: int) -> None:
        found[k] = list(jobs_network.map(pow, range(50), [k] * 50))

    threads = [threading.Thread(target=run, args=(k,)) for k in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(found) == 5, "all maps", LIMIT)
    assert found == {k: [n**k for n in range(50)] for k in range(5)}


@pytest.mark.parametrize("call", ["map", "map in chunks", "executor", "executor in chunks", "pmap", "pool"])
def test_a_function_is_pickled_once_for_all_items(jobs_network: ClientNetwork, call: str) -> None:
    pickles: list[int] = []

    class Model:
        def __init__(self) -> None:
            self.weights = np.ones(10**5)

        def __call__(self, k: int) -> float:
            return k + float(self.weights[-1])

        def __getstate__(self) -> dict[str, Any]:
            pickles.append(1)
            return {"weights": self.weights}

    items = range(12)
    with jobs_network.executor() as executor, jobs_network.pool() as pool:
        calls: dict[str, Callable[[], Any]] = {
            "map": lambda: list(jobs_network.map(Model(), items)),
            "map in chunks": lambda: list(jobs_network.map(Model(), items, chunksize=3)),
            "executor": lambda: list(executor.map(Model(), items)),
            "executor in chunks": lambda: list(executor.map(Model(), items, chunksize=3)),
            "pmap": lambda: list(jobs_network.pmap(Model(), items)),
            "pool": lambda: pool.map(Model(), items),
        }
        assert calls[call]() == [k + 1 for k in items]
    assert len(pickles) == 1


@pytest.mark.parametrize("chunksize", [1, 3])
def test_an_unpicklable_function_fails_for_each_item(jobs_network: ClientNetwork, chunksize: int) -> None:
    lock = threading.Lock()
    outcomes = list(jobs_network.map(lambda _: lock, range(4), chunksize=chunksize, on_error="return"))
    assert [type(outcome) for outcome in outcomes] == [ConfigurationError] * 4


def test_output_between_results_is_separate_from_the_progress_bar(jobs_network: ClientNetwork) -> None:
    with at_terminal() as terminal:
        for _ in jobs_network.map(time.sleep, [0.15] * 4):
            shown = terminal.getvalue()
            assert shown.rstrip("\r").rpartition("\r")[2].strip() == ""
        assert "/4" in terminal.getvalue()
