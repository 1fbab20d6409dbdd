"""The messages when nodes join, with scripted servers."""

import threading
import time
from typing import Any

from pconnect.errors import ConnectionLostError
from pconnect.growth.joining import Joining, tell_members
from pconnect.link.host_names import Host
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.mesh_setup import MeshSetup
from pconnect.values.decoder import unpack
from tests.support.links import LIMIT, FakeServer, client_of

HOSTS = {3: Host("host3", "host3", 12502)}
SETUP = MeshSetup(bytes(16), None, DEFAULT_LIMITS, 30.0, "/")


def test_the_others_hear_of_a_node_before_it_is_set_up() -> None:
    with client_of(2) as (net, fars):
        mesh = net.mesh
        assert isinstance(mesh, ClientMesh)
        mesh.mesh_setup = SETUP
        late = FakeServer(3)
        mesh.event_loop.add(late.server.command)
        mesh.event_loop.add(late.server.data)
        joining = Joining(mesh, SETUP, [late.server], time.monotonic() + LIMIT)
        thread = threading.Thread(target=lambda: list(map(answer, fars)))
        thread.start()
        joining.announce(
            "node 3 (host3) was added", lambda: mesh.add_servers([late.server], HOSTS, "it was added")
        )
        thread.join(LIMIT)
        assert net.nodes == [0, 1, 2, 3]
        mesh.event_loop.lose(mesh.servers[2].command, ConnectionLostError("gone"))
        late.say(Kind.MESHED, {"pid": 1})
        joining.connect()
        told = late.hear(Kind.SETUP).value
        nodes: Any = unpack(told["nodes"])
        assert [host for host, _ in nodes] == ["host1", "host2", "host3"]
        assert (told["together"], told["busy"]) == ([3], [])
        assert list(told["gone"]) == [2]
        joining.end()
        assert joining.failures == {}
        late.event_loop.close()


def answer(far: FakeServer) -> bool:
    message = far.hear(Kind.MEMBERS)
    assert [host for host, _ in message.value["nodes"].values()] == ["host3"]
    assert message.value["change"] == "node 3 (host3) was added"
    far.say(Kind.MEMBERS, None, message.tag)
    return True


def test_removed_nodes_are_announced_with_the_change() -> None:
    with client_of(2) as (net, fars):
        mesh = net.mesh
        assert isinstance(mesh, ClientMesh)
        mesh.mesh_setup = SETUP
        tell_members(mesh, [mesh.servers[1]], 9, [], [2], "node 2 was removed", time.monotonic() + LIMIT)
        message = fars[0].hear(Kind.MEMBERS)
        assert (message.tag, message.value["removed"], message.value["nodes"]) == (9, [2], {})
