from collections.abc import Iterator

import numpy as np
import pytest

from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.link.connection import Connection
from pconnect.loop.network import Network, removed_node
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
    [
        (4, "no node 4"),
        ([0, 9], "no node 9"),
        ([True, False], "a mask of length 2"),
        ([1, -3], "more than once"),
    ],
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


def test_a_whole_network_changes_and_its_parts_do_not(net: Network) -> None:
    part, members = net[1:], net.mesh.members
    net.mesh.change_members([Connection(4, "host4", None, awaited=True)], [2], "node 4 came, node 2 went")
    assert (net.is_whole, part.is_whole, net.nodes, part.nodes) == (True, False, [0, 1, 3, 4], [1, 2, 3])
    assert (len(net), net[3].node, net[4].host, net[-1].node, net[2:].nodes) == (4, 3, "host4", 4, [3, 4])
    assert [node.node for node in reversed(net)] == [4, 3, 1, 0]
    assert (net.index(net[3]), part.index(net[3]), net.mesh.members is members) == (3, 2, False)
    assert net[[True, False, True, False]].nodes == [0, 3]
    for broken in (lambda: net[2], lambda: part[1], lambda: net[[2, 3]]):
        with pytest.raises(IndexError, match=r"node 2 \(host2\) was removed from this network"):
            broken()
    with pytest.raises(IndexError, match="there is no node 5"):
        net[5]
    with pytest.raises(ConnectionLostError, match=r"node 2 \(host2\) was removed"):
        net.mesh.check_there(2)
    net.mesh.check_there(3)
    assert net.mesh.change == "node 4 came, node 2 went"
    assert net.mesh.suspects == {2}  # for calls in progress
    net.mesh.begin_epoch(3)
    assert not net.mesh.change
    assert net.mesh.suspects == set()


def test_what_stands_for_a_removed_node_is_lost() -> None:
    connection = removed_node(2, "host2")
    assert str(connection.loss()) == (
        "node 2 (host2) is lost: it was removed from this network; its number is not reused, choose other nodes"
    )
