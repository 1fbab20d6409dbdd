"""Logins for further nodes: where there is a session, none is needed."""

import time

import pytest

from pconnect.growth.logins import drop, log_in_nodes
from pconnect.link.host_names import parse_hosts
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import client_mesh
from pconnect.session.server import Server as NodeOnClient
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until


def log_in(
    mesh: ClientMesh, hosts: object, first: int, *, anew: bool = False
) -> dict[int, NodeOnClient | Exception]:
    setup = mesh.mesh_setup
    assert setup is not None and setup.terms is not None
    deadline = DEADLINE + time.monotonic()
    return log_in_nodes(mesh, dict(enumerate(parse_hosts(hosts), first)), setup.terms, deadline, anew=anew)


def sessions(server: Server, net: ClientNetwork) -> list[list[int]]:
    found = server.status_now()["sessions"]
    return sorted(one["nodes"] for one in found if one["network"] == net.network_id)


def test_a_session_that_is_there_gets_further_nodes(server: Server) -> None:
    with server.connect(2) as net:
        mesh = client_mesh(net.mesh)
        outcomes = log_in(mesh, [server.host] * 2, 3)
        wait_until(lambda: sessions(server, net) == [[1, 2, 3, 4]], "one session")
        again = log_in(mesh, [server.host] * 2, 5, anew=True)
        wait_until(lambda: sessions(server, net) == [[1, 2, 3, 4], [5, 6]], "another session")
        drop(mesh, outcomes | again)
        wait_until(lambda: sessions(server, net) == [[1, 2]], "their end")


def test_any_node_of_a_session_lets_further_ones_in(server: Server) -> None:
    with server.connect(2) as net:
        mesh = client_mesh(net.mesh)
        gone = mesh.servers.pop(1)  # so that the session is asked through the other one
        outcomes = log_in(mesh, server.host, 3)
        assert [type(outcome) for outcome in outcomes.values()] == [NodeOnClient]
        wait_until(lambda: sessions(server, net) == [[1, 2, 3]], "a further node")
        drop(mesh, outcomes)
        mesh.servers = {1: gone, **mesh.servers}


def test_each_failure_has_its_reason(server: Server) -> None:
    with server.connect(1) as net:
        mesh = client_mesh(net.mesh)
        outcomes = log_in(mesh, [("127.0.0.1", 1), ("127.0.0.1", 1), server.host], 2)
        assert "no server listens there" in str(outcomes[2])
        assert outcomes[3] is outcomes[2]
        assert isinstance(outcomes[4], NodeOnClient)
        drop(mesh, outcomes)
        with pytest.raises(IndexError):
            net[2]
