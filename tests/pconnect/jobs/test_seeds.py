"""Seeds: each job has a stream of its own."""

import threading
from typing import Any

import numpy as np
import pytest

from pconnect.errors import ConfigurationError
from pconnect.jobs.seeds import Seeds


def test_each_job_has_the_next_stream() -> None:
    seeds = Seeds(42)
    assert [seeds.take(), seeds.take(3), seeds.take()] == [[42, 0], [42, 1], [42, 4]]


def test_a_branch_takes_the_place_of_one_stream() -> None:
    seeds = Seeds(42)
    branch = seeds.branch()
    assert [branch.take(2), branch.take(), seeds.take()] == [[42, 0, 0], [42, 0, 2], [42, 1]]


@pytest.mark.parametrize("seed", [np.uint32(7), 2**128 - 1, 0])
def test_a_seed_is_any_integer(seed: Any) -> None:
    taken = Seeds(seed).take()
    assert taken == [int(seed), 0] and type(taken[0]) is int


@pytest.mark.parametrize("seed", [-1, 1.5, "x", [1, 2]])
def test_an_invalid_seed_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigurationError, match="give an integer, 0 or greater"):
        Seeds(seed)


def test_threads_get_different_streams() -> None:
    seeds = Seeds(1)
    taken: list[int] = []
    threads = [
        threading.Thread(target=lambda: taken.extend(seeds.take()[1] for _ in range(1000))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(taken) == list(range(4000))
