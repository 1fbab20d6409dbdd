"""Logins for more nodes: none is needed where a session exists."""

import pytest

from pconnect.growth.logins import drop, log_in_nodes
from pconnect.link.host_names import parse_hosts
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import client_mesh
from pconnect.session.server import Server as NodeOnClient
from pconnect.views.network_views import ClientNetwork
from srp_tools.steps import deadline_after
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until


def log_in(
    mesh: ClientMesh, hosts: object, first: int, *, anew: bool = False
) -> tuple[dict[int, NodeOnClient], dict[int, Exception]]:
    return log_in_nodes(mesh, dict(enumerate(parse_hosts(hosts), first)), deadline_after(DEADLINE), anew=anew)


def sessions(server: Server, net: ClientNetwork) -> list[list[int]]:
    found = server.status_now()["sessions"]
    return sorted(one["nodes"] for one in found if one["network"] == net.network_id)


def test_a_session_that_is_there_gets_further_nodes(server: Server) -> None:
    with server.connect(2) as net:
        mesh = client_mesh(net.mesh)
        found, _ = log_in(mesh, [server.host] * 2, 3)
        wait_until(lambda: sessions(server, net) == [[1, 2, 3, 4]], "one session")
        again, _ = log_in(mesh, [server.host] * 2, 5, anew=True)
        wait_until(lambda: sessions(server, net) == [[1, 2, 3, 4], [5, 6]], "another session")
        drop(mesh, [*found.values(), *again.values()])
        wait_until(lambda: sessions(server, net) == [[1, 2]], "their end")


def test_any_node_of_a_session_lets_further_ones_in(server: Server) -> None:
    with server.connect(2) as net:
        mesh = client_mesh(net.mesh)
        gone = mesh.servers.pop(1)  # so the session is asked through the other node
        found, failures = log_in(mesh, server.host, 3)
        assert (list(found), failures) == ([3], {})
        wait_until(lambda: sessions(server, net) == [[1, 2, 3]], "a further node")
        drop(mesh, found.values())
        mesh.servers = {1: gone, **mesh.servers}


def test_each_failure_has_its_reason(server: Server) -> None:
    with server.connect(1) as net:
        mesh = client_mesh(net.mesh)
        found, failures = log_in(mesh, [("127.0.0.1", 1), ("127.0.0.1", 1), server.host], 2)
        assert "no server is listening there" in str(failures[2])
        assert failures[3] is failures[2]
        assert list(found) == [4]
        drop(mesh, found.values())
        with pytest.raises(IndexError):
            net[2]
