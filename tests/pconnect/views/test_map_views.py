"""The methods `map` and `pmap` of networks and nodes."""

import pytest

from pconnect import ConfigurationError
from pconnect.views.network_views import ClientNetwork

NODE = "lambda *_: sockets.node"  # a name of the engine's workspace


@pytest.mark.parametrize("on", [1, [2]])
def test_a_map_only_there(jobs_network: ClientNetwork, on: object) -> None:
    wanted = {on} if isinstance(on, int) else set(on)  # type: ignore[call-overload]
    assert set(jobs_network.map(NODE, range(20), on=on)) == wanted  # type: ignore[arg-type]


def test_a_node_that_is_not_in_the_view_is_refused(jobs_network: ClientNetwork) -> None:
    with pytest.raises(ConfigurationError, match=r"on=1 is not possible: the nodes here are \[2\]"):
        jobs_network[2].map(NODE, [0], on=1)
    with pytest.raises(ConfigurationError, match=r"on=1.5 is not possible: the nodes here are \[1, 2\]"):
        jobs_network.map(NODE, [0], on=1.5)  # type: ignore[arg-type]


def test_maps_with_a_limit_have_all_results(jobs_network: ClientNetwork) -> None:
    for options in ({}, {"chunksize": 3}, {"ordered": False}):
        found = jobs_network.map(abs, range(-20, 0), max_workers=1, **options)
        assert sorted(found) == list(range(1, 21))
    assert jobs_network.pmap(abs, [-1, -2, 3], max_workers=2).tolist() == [1, 2, 3]
    with pytest.raises(ConfigurationError, match="max_workers=0 is not allowed"):
        jobs_network.map(abs, [1], max_workers=0)


def test_a_map_that_is_left_early_starts_none_of_the_held_back_jobs(jobs_network: ClientNetwork) -> None:
    results = jobs_network.map("lambda k: k", range(1000), max_workers=1)
    assert next(results) == 0
    del results
    assert list(jobs_network.map(abs, [-5], max_workers=1)) == [5]
