from collections.abc import Iterator

import numpy as np
import pytest

from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.loop.network import Network
from tests.support.links import networks


@pytest.fixture
def net() -> Iterator[Network]:
    with networks(4) as made:
        yield made[1]


def test_a_network_counts_every_node(net: Network) -> None:
    assert len(net) == 4
    assert net.node == 1
    assert [connection.node for connection in net] == [0, 1, 2, 3]
    assert [connection.is_own for connection in net] == [False, True, False, False]
    assert len(net.network_id) == 32


@pytest.mark.parametrize(
    ("index", "nodes"),
    [
        (slice(1, None), [1, 2, 3]),
        (slice(None, None, -1), [3, 2, 1, 0]),
        ([2, 0], [2, 0]),
        ((True, False, False, True), [0, 3]),
        (np.array([False, True, True, False]), [1, 2]),
        (np.array([3, -2]), [3, 2]),
        ([], []),
    ],
)
def test_parts(net: Network, index: object, nodes: list[int]) -> None:
    part = net[index]  # type: ignore[call-overload]
    assert part.nodes == nodes
    assert part.mesh is net.mesh


def test_a_part_of_a_part_counts_from_its_beginning(net: Network) -> None:
    part = net[2:]
    assert part[0] is net[2]
    assert part[[1]].nodes == [3]
    assert part[np.int64(-1)] is net[3]
    assert part.node == 1


@pytest.mark.parametrize(
    ("index", "text"),
    [(4, "no node 4"), ([0, 9], "no node 9"), ([True, False], "a mask of 2"), ([1, -3], "more than once")],
)
def test_what_is_not_there(net: Network, index: object, text: str) -> None:
    with pytest.raises(IndexError, match=text):
        net[index]  # type: ignore[call-overload]


def test_only_a_client_closes(net: Network) -> None:
    with pytest.raises(ConfigurationError, match="only the client"):
        net.close()


def test_a_closed_network_stays_closed(net: Network) -> None:
    net.mesh.closed = True
    assert net.closed
    with net:
        pass
    with pytest.raises(ConnectionLostError, match="the network is closed"):
        net.mesh.check_open()
    assert "closed, 4 nodes" in repr(net)


def test_its_text_names_nodes_and_losses(net: Network) -> None:
    net.mesh.event_loop.discard(net[3])
    lines = repr(net).splitlines()
    assert lines[0].startswith("<network ") and "open, 4 nodes" in lines[0]
    assert lines[1:] == [
        "  0  host0",
        "  1  host1  (this node)",
        "  2  host2",
        "  3  host3  lost: it was closed here",
    ]
