import math
import threading

from pconnect.errors import ConnectionLostError
from pconnect.link.local_link import LocalAddress, link_token
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind
from pconnect.routes.location import Location
from pconnect.session.mesh_setup import MeshSetup, await_reasons, mesh_error
from pconnect.session.server import Server
from pconnect.values.encoder import pack
from srp_tools.steps import deadline_after
from tests.support.links import Client, client_of

INVITATION = MeshSetup(bytes(16), None, Limits(1, 2), 3.0, "/folder", version="1.2")


def test_the_set_up_names_all_nodes_and_where_they_are(client: Client) -> None:
    _, far_ends = client
    servers = [far.server for far in far_ends]
    for server in servers:
        server.location = Location("198.51.100.1", 2, 5, ["192.0.2.1", "198.51.100.1"])
    assert INVITATION.setup(servers, math.inf) == {
        "network": bytes(16),
        "nodes": pack(
            [[f"host{n}", [["198.51.100.1", 5], ["192.0.2.1", 5], ["198.51.100.1", 2]]] for n in (1, 2)]
        ),
        "directory": "/folder",
        "limits": [1, 2],
        "peer_timeout": 3.0,
        "timeout": 3600.0,
        "client_version": "1.2",
        "resumable": False,
    }


def test_engines_have_less_time_than_their_client() -> None:
    """Otherwise it would not learn which of them does not answer."""
    assert 8.0 < INVITATION.setup([], deadline_after(10.0))["timeout"] < 9.5


def test_why_an_engine_is_not_connected() -> None:
    with client_of(2, have_joined=False) as client:
        check_errors(client)


def check_errors(client: Client) -> None:
    net, (far, other) = client
    assert mesh_error(far.server) is None
    far.say(Kind.MESHED, {"errors": {"2": "node 1 could not connect to node 2: refused"}})
    other.say(Kind.DIED, {"how": "SIGSEGV", "last_output": ""})
    net.mesh.event_loop.run_until(
        lambda: bool(far.server.facts and other.server.failures.last_error), 1e12, "the reports"
    )
    assert str(mesh_error(far.server)) == "node 1 could not connect to node 2: refused"
    error = mesh_error(other.server)
    assert isinstance(error, ConnectionLostError)
    assert "SIGSEGV" in str(error)


def test_the_reason_of_a_server_may_come_after_its_engine_has_hung_up() -> None:
    with client_of(2, have_joined=False) as (net, (far, other)):
        for each in (far, other):
            each.event_loop.lose(each.data, ConnectionLostError("killed"))
        net.mesh.event_loop.run_until(lambda: far.server.state != "open", 1e12, "the end")
        threading.Timer(0.05, far.say, [Kind.DIED, {"how": "SIGSEGV", "last_output": ""}]).start()
        await_reasons([far.server], net.mesh.event_loop, math.inf)
        assert "SIGSEGV" in str(mesh_error(far.server))
        await_reasons([far.server, other.server], net.mesh.event_loop, math.inf)
        assert "closed the connection" in str(mesh_error(other.server))


def test_local_links_are_those_within_one_place() -> None:
    with client_of(4, have_joined=False) as (_, far_ends):
        check_local_links([far.server for far in far_ends])


def check_local_links(servers: list[Server]) -> None:
    places = ["here", "here", "there", None]
    for server, place in zip(servers, places, strict=True):
        local = place and LocalAddress(place, f"/{server.node}.socket")
        server.location = Location("127.0.0.1", 2, 5, local=local or None)
    setup = MeshSetup(bytes(16), None, Limits(1, 2), 3.0, "/folder", link_key=bytes(32))
    links = [setup.local_links(server, servers)["links"] for server in servers]
    token = link_token(bytes(32), 1, 2)
    assert links == [{2: ["/2.socket", token]}, {1: ["/1.socket", token]}, {}, {}]
    assert [INVITATION.local_links(server, servers) for server in servers] == [{"links": {}}] * 4
