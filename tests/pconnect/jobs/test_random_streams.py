"""Random numbers of jobs: the same for a seed wherever they run, and different for all jobs without a seed."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import SeedSequence

import pconnect
from pconnect import ConfigurationError, local_network
from pconnect.jobs import random_streams
from pconnect.jobs.random_streams import begin, begin_item, rng
from pconnect.views.network_views import ClientNetwork
from tests.support.workers import two_workers

LIMIT = 20.0
ITEMS = 23


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(random_streams, "_here", random_streams._Stream())
    before = np.random.get_state(), random.getstate()
    yield
    np.random.set_state(before[0])
    random.setstate(before[1])


def draw(_: object = None) -> list[float]:
    """Return one number of each generator that a job may use."""
    return [pconnect.rng().random(), float(np.random.random_sample()), random.random()]


def own(_: object = None) -> float:
    return float(pconnect.rng().random())


def expected(seed: int, count: int) -> list[float]:
    return [float(np.random.default_rng(child).random()) for child in SeedSequence(seed).spawn(count)]


# --- in one process ---


@pytest.mark.usefixtures("_fresh")
def test_outside_of_jobs_one_generator_is_used() -> None:
    assert rng() is rng()
    begin_item(3)  # this has an effect only in a job
    assert rng() is rng()


@pytest.mark.usefixtures("_fresh")
def test_each_job_has_its_own_generator() -> None:
    begin(42, (5,), is_seeded=True)
    first = rng()
    assert first is rng()
    assert first.random() == expected(42, 6)[5]
    begin(42, (6,), is_seeded=True)
    assert rng() is not first


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("is_seeded", [True, False])
def test_items_of_a_chunk_draw_from_streams_of_their_own(is_seeded: bool) -> None:
    begin(42, (5,), is_seeded=is_seeded)
    drawn = []
    for position in range(4):
        begin_item(position)
        drawn.append(rng().random())
    assert len(set(drawn)) == 4
    assert (drawn == expected(42, 9)[5:]) == is_seeded


@pytest.mark.usefixtures("_fresh")
def test_only_a_seed_changes_the_global_generators() -> None:
    drawn = []
    for key in (1, 2, 1):
        begin(42, (key,), is_seeded=True)
        drawn.append(draw())
    assert drawn[0] == drawn[2] and not set(drawn[0]) & set(drawn[1])
    begin(42, (1,), is_seeded=True)
    begin(42, (1,), is_seeded=False)
    assert draw() == drawn[0]
    begin(42, (1,), is_seeded=False)
    assert draw()[1:] != drawn[0][1:]


# --- in workers ---


@pytest.mark.parametrize(("nodes", "slots"), [(1, 1), (2, 1), (1, 5)])
def test_numbers_do_not_depend_on_the_workers(nodes: int, slots: int) -> None:
    wanted = expected(42, ITEMS)
    with local_network(nodes, slots=slots) as net:
        assert list(net.map(own, range(ITEMS), seed=42)) == wanted
        assert list(net.map(own, range(ITEMS), seed=42, chunksize=4)) == wanted
        assert list(net.pmap(own, np.arange(ITEMS), seed=42)) == wanted
        with net.executor(seed=42) as executor:
            assert [job.result(LIMIT) for job in [executor.submit(own) for _ in range(ITEMS)]] == wanted
        with net.executor(seed=42) as executor:
            assert list(executor.map(own, range(ITEMS), timeout=LIMIT, chunksize=5)) == wanted
        with net.pool(seed=42) as pool:  # the chunks of a pool depend on the number of slots
            assert pool.map(own, range(ITEMS)) == wanted
            assert pool.apply(own) == expected(42, ITEMS + 1)[-1]


def test_all_generators_follow_a_seed(jobs_network: ClientNetwork) -> None:
    two_workers(jobs_network)
    once = list(jobs_network.map(draw, range(ITEMS), seed=1))
    assert list(jobs_network.map(draw, range(ITEMS), seed=1, chunksize=6)) == once
    assert len({number for numbers in once for number in numbers}) == 3 * ITEMS
    assert not {numbers[0] for numbers in once} & set(expected(2, ITEMS))


@pytest.mark.parametrize("chunksize", ["auto", 7])
def test_without_a_seed_all_jobs_differ(jobs_network: ClientNetwork, chunksize: Any) -> None:
    two_workers(jobs_network)
    drawn = [draw_ for _ in range(2) for draw_ in jobs_network.map(draw, range(100), chunksize=chunksize)]
    assert len({number for numbers in drawn for number in numbers}) == 3 * 200


def _all_draw(net: ClientNetwork) -> list[Any]:
    """Return the numbers that engines and jobs draw after the network has set a seed."""
    text = "float(np.random.random_sample()), __import__('random').random(), __import__('pconnect').rng().random()"
    with net.executor() as executor, net.pool() as pool:
        return [
            *(net.eval(text).result(LIMIT) or []),
            *net.map(draw, range(4)),
            *net.map(draw, range(4), chunksize=3),
            *[job.result(LIMIT) for job in [executor.submit(draw) for _ in range(4)]],
            *[net.submit(draw).result(LIMIT) for _ in range(2)],
            *pool.map(draw, range(4)),
        ]


def test_a_network_with_a_seed_draws_the_same_again() -> None:
    with local_network(2, slots=2) as net:
        runs = []
        for seed in (42, 42, 43):
            net.seed(seed)
            runs.append([list(numbers) for numbers in _all_draw(net)])
        again = _all_draw(net)
        assert runs[0] == runs[1]
        drawn = {number for run in [runs[0], runs[2], again] for numbers in run for number in numbers}
        assert len(drawn) == 3 * 3 * len(again)
        with pytest.raises(ConfigurationError, match="needs a whole network"):
            net[1].seed(42)
        with pytest.raises(ConfigurationError, match="0 or greater"):
            net.seed(-1)
        assert not set(_all_draw(net)[-1]) & drawn


@pytest.mark.parametrize("options", [{"seed": 42}, {}])
def test_a_job_that_runs_again_draws_the_same_numbers(
    jobs_network: ClientNetwork, tmp_path: Path, options: dict[str, Any]
) -> None:
    def die_once(path: str) -> list[float]:
        drawn = [float(pconnect.rng().random())]
        with Path(path).open("a", encoding="ascii") as file:
            print(repr(drawn[0]), file=file)
        if len(Path(path).read_text(encoding="ascii").split()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn

    path = tmp_path / "drawn"
    with jobs_network.executor(retries=1, **options) as executor:
        job = executor.submit(die_once, str(path))
        (last,) = job.result(LIMIT)
    assert job.losses == 1
    assert [float(text) for text in path.read_text(encoding="ascii").split()] == [last, last]


@pytest.mark.parametrize("draw_one", [own, lambda _: float(np.random.random_sample())])
def test_streams_are_uniform_and_distinct(
    jobs_network: ClientNetwork, draw_one: Callable[[object], float]
) -> None:
    two_workers(jobs_network)
    drawn = np.array(list(jobs_network.map(draw_one, range(4000), seed=7)))
    assert len(set(drawn)) == 4000
    counts = np.histogram(drawn, 20, (0, 1))[0]
    assert (
        (counts - 200) ** 2 / 200
    ).sum() < 43.8  # chi-square, 19 degrees of freedom: one seed in 1000 exceeds this
    follows = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
    assert abs(follows) < 3.3 / np.sqrt(4000)
