"""`net.dask`: errors before anything is started, and its end with the network."""

import sys
from typing import Any

import pytest

from pconnect import ConfigurationError
from pconnect.session.remote_calls import client_mesh
from pconnect.views.dask_views import _places_of
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": "2"}, "workers='2'"),
        ({"threads": 0}, "threads=0"),
        ({"scheduler_node": 0}, r"scheduler_node=0: nodes with an engine are \[1, 2\]"),
        ({"scheduler_node": 3}, "scheduler_node=3"),
        ({"security": None}, "security= is not an option here"),
        ({"asynchronous": True}, "asynchronous= is not an option here"),
    ],
)
def test_options_that_cannot_be(network: ClientNetwork, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        network.dask(**options)


def test_an_option_that_dask_does_not_know(network: ClientNetwork) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid option of distributed.Client: .*n_workers"):
        network[[1]].dask(n_workers=3, timeout=DEADLINE)


def test_a_client_without_dask(network: ClientNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "pconnect.dask.client", raising=False)
    with pytest.raises(ConfigurationError, match=r"on the client .*: run pip install 'pserver\[dask\]'"):
        network.dask()


def test_workers_stay_in_a_part_of_the_network_though_it_has_all_nodes(server: Server) -> None:
    with server.connect(2) as net:
        part, whole = (_places_of(nodes, client_mesh(net.mesh)) for nodes in (net[1:3], net))
        net.add(server.host, timeout=DEADLINE)
        assert (part(), whole()) == ([1, 2], [1, 2, 3])
        net.remove(1)
        assert (part(), whole()) == ([2], [2, 3])
