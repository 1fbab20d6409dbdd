"""Networks whose nodes all live in this process, joined by socket pairs."""

import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.network import Mesh, Network
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pconnect.routes.location import Location
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.node_state import NodeEvent
from pconnect.session.server import Server
from srp_tools.channel import Channel

LIMIT = 20.0  # seconds; no test takes this long


def channels() -> tuple[Channel, Channel]:
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
    return Channel(pair[0]), Channel(pair[1])


def connection_pair(**options: Any) -> tuple[Connection, Connection]:
    """Return the connections to node 1 and to node 0: the two ends of one link."""
    left, right = channels()
    return Connection(1, "hostB", left, **options), Connection(0, "hostA", right, **options)


@contextmanager
def networks(n: int, roles: Sequence[Role] = (), **options: Any) -> Iterator[list[Network]]:
    """Yield the views that `n` nodes have of their network; none is a client with servers.

    `roles`: the roles of the two ends of each link, if they are not two engines.
    """
    links: dict[tuple[int, int], Channel | None] = {(node, node): None for node in range(n)}
    for low in range(n):
        for high in range(low + 1, n):
            links[low, high], links[high, low] = channels()
    network_id = secrets.token_bytes(16)
    made = []
    for node in range(n):
        event_loop = EventLoop()
        role = roles[node] if roles else Role.NODE
        connections = [
            Connection(peer, f"host{peer}", links[node, peer], role=role, **options) for peer in range(n)
        ]
        for connection in connections:
            if not connection.is_own:
                event_loop.add(connection)
        made.append(Network(Mesh(network_id, node, connections, event_loop, **options)))
    try:
        yield made
    finally:
        for network in made:
            network.mesh.event_loop.close()


class FakeServer:
    """The server's ends of its command channel and of its data connection."""

    def __init__(self, node: int) -> None:
        near_command, far_command = channels()
        near_data, far_data = channels()
        self.event_loop = EventLoop()
        self.command = Connection(0, "client", far_command, role=Role.SUPERVISOR)
        self.data = Connection(0, "client", far_data, role=Role.ENGINE_DATA)
        self.heard: list[Message] = []
        self.command.on_message = self.data.on_message = self.heard.append
        self.event_loop.add(self.command)
        self.event_loop.add(self.data)
        self.server = Server(
            Connection(node, f"host{node}", near_command, role=Role.CLIENT), Location("127.0.0.1", 2, 1)
        )
        self.server.attach(Connection(node, f"host{node}", near_data, role=Role.CLIENT_DATA))

    def hear(self, kind: Kind) -> Message:
        """Return the next message of this kind; discard earlier ones, but answer queries."""
        while True:
            self.event_loop.run_until(lambda: bool(self.heard), 1e12, "the client")
            message = self.heard.pop(0)
            if message.kind is kind:
                return message
            if message.kind is Kind.QUERY:
                self.say(Kind.FACTS, {"daemon": True}, message.tag)

    def say(self, kind: Kind, value: object = None, tag: int = 0) -> None:
        self.command.post(kind, tag, value)
        self.event_loop.flush(self.command)

    def end(self, number: int, outcome: float | dict[str, Any] = 0.5, *shown: int) -> None:
        """Report the end of a command, once this many bytes of stdout and stderr and this many displays are shown."""
        self.data.post(Kind.DONE, number, [outcome, *(shown or (0, 0, 0))])
        self.event_loop.flush(self.data)

    def send(self, value: object, tag: int = 0) -> None:
        self.data.post(Kind.VALUE, tag, value)
        self.event_loop.flush(self.data)


@contextmanager
def client_of(n: int, *, have_joined: bool = True) -> Iterator[tuple[Network, list[FakeServer]]]:
    """Yield a client's network and the far ends of its `n` servers, which the test controls."""
    far_ends = [FakeServer(node) for node in range(1, n + 1)]
    event_loop = EventLoop()
    for far in far_ends:
        event_loop.add(far.server.command)
        event_loop.add(far.server.data)
        if have_joined:
            far.server.life.happen(NodeEvent.MESHED)
    mesh = ClientMesh(secrets.token_bytes(16), [far.server for far in far_ends], event_loop, DEFAULT_LIMITS)
    try:
        yield Network(mesh), far_ends
    finally:
        for loop in (event_loop, *(far.event_loop for far in far_ends)):
            loop.close()


Client = tuple[Network, list[FakeServer]]

FAILURE = {
    "type": "ZeroDivisionError",
    "bases": ["ZeroDivisionError"],
    "message": "division by zero",
    "traceback": "Traceback: 1 / 0",
    "values_sent": 0,
    "seconds": 0.5,
}


def interrupt_soon(delay: float = 0.1) -> None:
    threading.Timer(delay, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
