"""The methods of a network in one process, compared with those of a network of servers."""

from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError, serial
from pconnect.views.network_views import ClientNetwork


def verbs(net: Any) -> list[Any]:
    net.push(a=2)
    net["b"] = [1, 2]
    net.scatter("x", np.arange(7))
    return [
        net[1:].eval("a + b[0]").result(),
        net.apply(pow, 2, 5).result(),
        net.call("divmod", (7, 2)).result(),
        net.gather("x").tolist(),
        list(net.map(pow, [2, 3], [5, 2])),
        list(net.map(abs, [-1, -2, -3], chunksize=2)),
        [type(error).__mro__[-4:] and str(error.args) for error in net.map(int, ["x"], on_error="return")],
        net.pmap(lambda x: x * 2.0, np.arange(4.0)).tolist(),
        list(net.map("lambda x: x + a", [1, 2, 3], chunksize=2)),
        net.pmap("lambda x: x + a", [1, 2, 3], chunksize=2).tolist(),
        net.pmap(np.square, np.arange(5), vectorized=True, chunksize=2, max_workers=1).tolist(),
        net.pmap(lambda x: [x], range(4), reduce=lambda a, b: a + b),
        sorted(net.pmap(lambda x: [x], range(4), reduce=lambda a, b: a + b, ordered=False)),
        [job.result() for job in [net.submit(abs, -k) for k in range(3)]],
        net.submit("lambda k: a + k", 3).result(),
    ]


def test_they_return_the_same(jobs_network: ClientNetwork) -> None:
    with serial(2) as net:
        assert verbs(net) == verbs(jobs_network)


def random_numbers(net: Any) -> list[Any]:
    with net.executor(seed=3) as executor:
        jobs = [
            executor.submit("lambda: (np.random.rand(), __import__('pconnect').rng().random())")
            for _ in range(3)
        ]
        found = [job.result() for job in jobs]
    found += net.map("lambda k: np.random.rand()", range(5), seed=7, chunksize=2)
    net.seed(42)
    found += net.eval("np.random.rand(), __import__('random').random()").result()
    found += net.eval("np.random.rand()").result()
    found += net.map("lambda k: __import__('random').random()", range(3))
    found.append(net.submit("np.random.rand").result())
    found.append(net.submit("np.random.rand", seed=9).result())
    with net.pool(seed=5) as pool:
        found += pool.map(np.random.standard_normal, [1, 1, 1])
    return [np.asarray(each).tolist() for each in found]


def test_seeded_random_numbers_equal_those_of_servers(jobs_network: ClientNetwork) -> None:
    with serial(2) as net:
        assert random_numbers(net) == random_numbers(jobs_network)


def test_random_numbers_of_this_program_are_not_affected() -> None:
    np.random.seed(1)
    expected = np.random.rand(2).tolist()
    np.random.seed(1)
    first = np.random.rand()
    with serial() as net:
        net.seed(42)
        net.eval("np.random.rand()").result()
        list(net.map("lambda k: np.random.rand()", range(3), seed=3))
    assert [first, np.random.rand()] == expected


def test_without_a_seed_all_jobs_draw_different_numbers() -> None:
    with serial() as net:
        drawn = list(net.map("lambda k: np.random.rand()", range(5)))
        drawn += list(net.map("lambda k: __import__('pconnect').rng().random()", range(5)))
    assert len(set(drawn)) == 10


def test_broadcast_values_are_themselves_in_jobs() -> None:
    table = [1, 2, 3]
    with serial() as net, net.broadcast(table) as shared:
        assert net.submit(lambda given: given is table, shared).result()
        assert net.submit(lambda *, inner: inner["a"][0] is table, inner={"a": [shared]}).result()


def test_wrong_options_are_refused_alike() -> None:
    with serial() as net:
        for wrong in (
            lambda: net.map(abs, [1], on_error="ignore"),
            lambda: net.map(abs, [1], chunksize=0),
            lambda: net.map(abs, [1], on=7),
            lambda: net.map(abs, [1], max_workers=0),
            lambda: net.pmap(abs, [1], max_workers=0),
            lambda: net.pmap(abs, [1], ordered=False),
            lambda: net.executor(max_workers=0),
            lambda: net.map(abs, [1], retries=-1),
            lambda: net[1:1].seed(1),
            lambda: net.seed(-1),
            lambda: net.push({"a b": 1}),
            lambda: net.eval(3),  # type: ignore[arg-type]
        ):
            with pytest.raises(ConfigurationError):
                wrong()
