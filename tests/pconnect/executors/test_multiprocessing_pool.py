import functools
import itertools
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from pconnect.errors import ConfigurationError
from pconnect.executors.multiprocessing_pool import Pool
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import bytes_to_workers
from tests.support.waiting import DEADLINE


@pytest.fixture
def pool(network: ClientNetwork) -> Iterator[Pool]:
    with network.pool() as pool:
        yield pool


def square(x: int) -> int:
    return x * x


def fails_at_three(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x


@pytest.mark.parametrize("chunksize", [None, 1, 4, 1000])
def test_maps(pool: Pool, chunksize: int | None) -> None:
    assert pool.map(square, range(10), chunksize) == [k * k for k in range(10)]
    assert pool.starmap(divmod, [(7, 2), (9, 4)], chunksize) == [(3, 1), (2, 1)]
    assert pool.map(square, [], chunksize) == []


@pytest.mark.parametrize("chunksize", [1, 7])
def test_iterators(pool: Pool, chunksize: int) -> None:
    assert list(pool.imap(square, range(100), chunksize)) == [k * k for k in range(100)]
    assert sorted(pool.imap_unordered(square, range(100), chunksize)) == [k * k for k in range(100)]


def test_an_iterator_accepts_endless_input(pool: Pool) -> None:
    assert list(itertools.islice(pool.imap(square, itertools.count()), 5)) == [0, 1, 4, 9, 16]


def test_an_iterator_continues_after_an_error_and_a_timeout(pool: Pool) -> None:
    results = pool.imap(fails_at_three, range(5))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert list(results) == [4]
    for iterate in (pool.imap, pool.imap_unordered):
        slow = iterate(time.sleep, [0.5])
        with pytest.raises(TimeoutError, match=r"timed out after 0\.01 s waiting for the next result"):
            slow.next(0.01)
        assert slow.next(DEADLINE) is None
        with pytest.raises(StopIteration):
            slow.next(0.01)


def test_apply(pool: Pool) -> None:
    assert pool.apply(int, ("ff",), {"base": 16}) == 255
    result = pool.apply_async(time.sleep, (0.2,))
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(TimeoutError):
        result.get(0.01)
    result.wait(DEADLINE)
    assert result.ready()
    assert result.successful()


def test_callbacks(pool: Pool) -> None:
    told: list[object] = []
    good = pool.map_async(fails_at_three, range(3), callback=told.append, error_callback=told.append)
    assert good.get(DEADLINE) == [0, 1, 2]
    assert told == [[0, 1, 2]]
    bad = pool.starmap_async(
        fails_at_three, [(k,) for k in range(5)], callback=told.append, error_callback=told.append
    )
    bad.wait(DEADLINE)
    assert not bad.successful()
    with pytest.raises(ValueError, match="three") as caught:
        bad.get()
    assert told[1:] == [caught.value]


def test_a_function_that_cannot_be_sent_is_an_error(pool: Pool) -> None:
    with pytest.raises(ConfigurationError, match="cannot be sent"):
        pool.map(functools.partial(isinstance, threading.Lock()), [1])
    with pytest.raises(ConfigurationError, match="cannot be sent"):
        pool.map(square, [threading.Lock()])
    with pytest.raises(ValueError, match="Chunksize must be 1"):
        pool.map(square, [1], 0)


def test_a_closed_pool(network: ClientNetwork) -> None:
    pool = network.pool()
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    result = pool.map_async(square, range(10))
    pool.close()
    pool.join()
    assert result.get(0) == [k * k for k in range(10)]
    for call in (pool.map, pool.imap, pool.apply_async):
        with pytest.raises(ValueError, match="Pool not running"):
            call(square, [1])
    assert repr(pool).endswith("closed>")


def test_terminate_cancels(network: ClientNetwork) -> None:
    pool = network.pool(processes=1)
    results = [pool.apply_async(time.sleep, (60,)) for _ in range(3)]
    pool.terminate()
    pool.join()
    assert not any(result.successful() for result in results)


def test_processes_limit_how_many_work(network: ClientNetwork) -> None:
    with network.pool(1) as pool:
        assert pool.size == 1
        assert len(set(pool.map(lambda _: os.getpid(), range(8), 1))) == 1
    with pytest.raises(ConfigurationError, match="processes=0"):
        network.pool(0)


def test_a_function_with_data_is_sent_once(network: ClientNetwork) -> None:
    data = np.arange(250_000.0)  # 2 MB
    with network.pool(1) as pool:
        for _ in range(3):
            before = bytes_to_workers(network)
            assert pool.map(lambda k: float(data[k]), range(8), 1) == list(range(8))
    assert bytes_to_workers(network) - before < 100_000
