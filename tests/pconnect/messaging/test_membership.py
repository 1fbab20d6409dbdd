"""Nodes that can make a collective call. test_collective_call.py tests how calls end."""

import pytest

from pconnect import CollectiveError, ConfigurationError
from pconnect.link.connection import Connection
from pconnect.messaging.membership import mesh_for, ranks_of
from tests.support.links import networks


def test_ranks_are_places_among_the_members() -> None:
    assert ranks_of((5, 0, 3)) == {5: 0, 0: 1, 3: 2}


def test_only_members_of_a_network_call() -> None:
    with networks(3) as (net, *_):
        assert mesh_for(net[:2], "bcast") is net.mesh
        with pytest.raises(ConfigurationError, match="this is node 0, which is not a member of bcast"):
            mesh_for(net[1:], "bcast")
        with pytest.raises(ConfigurationError, match="bcast needs a network"):
            mesh_for("net", "bcast")  # type: ignore[arg-type]


def test_after_a_change_all_nodes_wait_for_the_next_epoch_and_parts_do_not() -> None:
    with networks(3) as (net, *_):
        net.mesh.change_members([Connection(3, "late", None)], [1], "node 3 (late) was added")
        assert mesh_for(net[[0, 2]], "bcast") is net.mesh
        with pytest.raises(
            CollectiveError, match=r"bcast of all nodes cannot start: node 3 \(late\) was added"
        ):
            mesh_for(net, "bcast")
        net.mesh.begin_epoch(7)
        assert mesh_for(net, "bcast") is net.mesh
