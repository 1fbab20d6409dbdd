"""An engine's data connections: to all nodes at the start, and again to nodes that restart.

Of two engines that start together, the one with the lower number dials. An engine that replaces another dials the nodes
that were there before it. The client dials all engines. A dialled connection arrives from the daemon as a descriptor,
at the *handover*. This may happen at any time, because a node may restart at any time.

All steps run in the loop of the engine, along with everything else that it serves. While an engine computes, it handles
no connections. A node that dials it gets its answer when the engine next enters the library or is idle, and blocks
nothing in the meantime.

The engine accepts only nodes that it *expects*: those with lower numbers at the start, and later those that the
supervisor has announced as restarted. The supervisor announces them before they dial (see doc/protocol.md, "Restart"),
so the engine reads the supervisor's messages before it accepts anything from the handover. It refuses any other
connection, and the refusal changes nothing.
"""

import math
import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from pconnect.errors import ConnectionLostError, ProtocolError
from pconnect.link.connection import Connection
from pconnect.link.dialing import dial, prepare
from pconnect.link.peer import Peer
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import PREAMBLE_BYTES, Limits, Preamble, Purpose
from pconnect.protocol.kinds import Kind, Role
from pserver.engine.greeting import greet, has_hung_up, meet_at_relay, meet_called, not_expected
from pserver.orphans.client_link import ClientLink
from pserver.routes.setup import Setup
from pserver.routes.ways import Ways
from pserver.system.descriptors import receive_descriptors
from srp_tools.channel import Channel
from srp_tools.steps import Steps, Task, deadline_after, wait_for_deadline

# A handshake takes a few round trips; slower peers are dropped.
_HANDSHAKE_TIMEOUT = 20.0
# Further connections wait in the handover. When that is full, the daemon refuses them.
_MAX_HANDSHAKES = 32
# How long a node is redialled if nothing is listening there: in seconds, and as a fraction of the time for connections.
# The rest of the time remains for other ways, and for reporting the reason of a refused connection.
_PATIENCE, _PATIENCE_PART = 8.0, 0.3


class OtherNode(Peer):
    """A node as an engine sees it: the engine learns only that the connection is lost, the client learns why."""

    def __init__(self, node: int) -> None:
        self.node = node

    def remedy(self, connection: object) -> str:  # noqa: ARG002 - there is only one remedy
        """See `pconnect.link.peer.Peer.remedy`."""
        return f"; its engine or machine is gone: the client knows why, and net[{self.node}].restart() there may help"


class Links:
    """The data connections of one engine.

    `handover`: the socket on which the daemon passes accepted connections; watched from now on. `event_loop`: runs all
    steps. `listen`: receives pending messages from the supervisor; called before anything is accepted from the
    handover. `tell`: sends the supervisor REFUSED, for a connection that was refused, and UNREACHED, for a node.
    `kept_bytes`: how much to keep for a client that reconnects; 0: clients cannot reconnect.
    """

    def __init__(
        self,
        setup: Setup,
        handover: socket.socket,
        event_loop: EventLoop,
        listen: Callable[[], object],
        tell: Callable[[Kind, object, int], object],
        *,
        kept_bytes: int = 0,
    ) -> None:
        self._setup = setup
        self.ways = Ways(setup.nodes, setup.node, setup.timeout)  #: the ways to reach the other nodes
        hosts = self.ways.hosts
        limits = Limits(*setup.limits)
        #: The connection to the client. If clients can reconnect, it awaits a new link whenever it loses one.
        self.client = (
            ClientLink(limits, kept_bytes, self._client_vanished)
            if kept_bytes
            else Connection(0, "client", None, role=Role.ENGINE_DATA, limits=limits, awaited=True)
        )
        #: One for each node, by number; this node's has no link. A link that is still being made is awaited.
        self.connections: list[Connection] = [self.client]
        for node, host in enumerate(hosts[1:], 1):
            self._add(node, host, is_awaited=node != setup.node)
        #: Called whenever a client has connected, including the first time.
        self.on_client: Callable[[], object] = lambda: None
        self.errors: dict[int, str] = {}  #: by node, the reason why no connection could be made
        self._handover = handover
        self._event_loop = event_loop
        self._listen = listen
        self._tell = tell
        self.tls = setup.tls()  #: the TLS contexts of this node; ``None`` without encryption
        self._expected: dict[int, Task] = {}  # with the task that ends the grace period
        self._dialling: dict[int, Task] = {}
        self._handshakes = 0
        self._is_watching = False
        handover.setblocking(False)
        self._watch()
        deadline = deadline_after(setup.timeout)
        removed = self.removed
        together = range(1, len(hosts)) if setup.together is None else setup.together
        for node in range(len(hosts)):
            if node in setup.gone or node in removed:
                why = setup.gone.get(node, "it was removed from this network")
                self.connections[node].lose(ConnectionLostError(why))
            elif node == 0 or (node in together and node < setup.node):
                self._expect(node, deadline)
            elif node in setup.beyond:
                why = f"node {setup.node} could not connect to node {node} before"
                self._report_unreached(node, math.inf if node in setup.busy else deadline, 0, why)
            elif node != setup.node:
                self._dial(node, math.inf if node in setup.busy else deadline)

    def unfinished(self) -> list[int]:
        """Return the nodes whose connections are still being made, except busy ones."""
        return [node for node in (*self._expected, *self._dialling) if node not in self._setup.busy]

    def token(self, node: int) -> bytes | None:
        """Return the token for a node that dials over a local link; ``None`` if there is no local link."""
        link = self._setup.link(node)
        return link[1] if link else None

    def count_beside(self) -> int:
        """Return the number of engines of this network on this machine, including this one."""
        own = self.connections[self._setup.node].host
        nodes = range(1, len(self.connections))
        return sum(self.connections[node].host == own or self._setup.link(node) is not None for node in nodes)

    def renew(self, nodes: Collection[int], timeout: float) -> None:
        """Drop the links to nodes that restart, and expect these nodes to dial.

        `nodes`: their numbers; this node's is ignored. `timeout`: seconds after which a node that has not dialled is
        lost.
        """
        for node in nodes:
            if 0 < node < len(self.connections) and node != self._setup.node:
                self._cancel(node)
                connection = self.connections[node]
                self._event_loop.discard(connection)
                connection.reset()
                self._expect(node, deadline_after(timeout))

    def change(self, nodes: Mapping[int, Any], links: Mapping[int, Any], timeout: float) -> list[Connection]:
        """Expect new and restarted nodes to dial; return the connections of the new ones.

        `nodes`: host and addresses of each, by number. `links`: path and token of the local link to each. `timeout`:
        see `renew`. Raises `ProtocolError` if the numbers of new nodes are not consecutive.
        """
        if self._setup.identity is not None:
            self._setup.identity[3].update(links)
        before, removed = len(self.connections), self.removed
        for node, (host, addresses) in sorted(nodes.items()):
            if node == len(self.connections):
                self._add(node, host, is_awaited=True)
                self.ways.change(node, host, addresses)
                self._expect(node, deadline_after(timeout))
            elif 0 < node < before and addresses and node not in removed:
                self.ways.change(node, host, addresses)
                self.renew([node], timeout)
            else:
                raise ProtocolError(f"MEMBERS makes no sense: node {node} is not the next node")
        return self.connections[before:]

    def remove(self, nodes: Collection[int]) -> list[int]:
        """Stop expecting nodes that are removed; return those that were not removed before."""
        removed = [n for n in nodes if 0 < n < len(self.connections) and n != self._setup.node]
        before = self.removed
        removed = [node for node in removed if node not in before]
        for node in removed:
            self._cancel(node)
            self.ways.remove(node)
        return removed

    @property
    def removed(self) -> dict[int, str]:
        """The hosts of removed nodes, by number; these have no address."""
        return self.ways.removed

    def _add(self, node: int, host: str, *, is_awaited: bool) -> None:
        connection = Connection(
            node, host, None, role=Role.NODE, limits=Limits(*self._setup.limits), awaited=is_awaited
        )
        connection.peer = OtherNode(node)
        self.connections.append(connection)

    def _cancel(self, node: int) -> None:
        for tasks in (self._expected, self._dialling):
            if node in tasks:
                self._event_loop.background.cancel(tasks.pop(node))

    # --- a client that reconnects ---

    def _client_vanished(self) -> None:
        self._event_loop.remove(self.client)
        self._expect(0, math.inf)

    def expect_client(self, certificate: bytes, authority: bytes) -> None:
        """Await a client that reconnects with a new certificate authority for the network; drop the earlier client."""
        if self.tls is not None:
            self.tls.renew(certificate, authority)
        if isinstance(self.client, ClientLink):
            self.client.give_up()
        if 0 in self._expected:  # an earlier dialler does not know the new authority
            self._event_loop.background.cancel(self._expected.pop(0))
            self._expect(0, math.inf)

    # --- nodes that this engine dials ---

    def _dial(self, node: int, deadline: float, relay: int = 0) -> None:
        """Dial a node, directly or through the relay at another node."""
        setup, seconds = self._setup, self.ways.place_seconds
        patience = min(_PATIENCE, setup.timeout * _PATIENCE_PART)
        if relay:
            preamble = replace(setup.preamble(relay), purpose=Purpose.RELAY, endpoint=node)
            steps = meet_at_relay(self.ways.places(relay), preamble, self.tls, setup.peer_timeout, seconds)
        else:
            steps = dial(
                self.ways.places(node),
                setup.preamble(node),
                self.tls,
                setup.peer_timeout,
                setup.link(node),
                # In a restart, a daemon that is down may come back; in a new network, all daemons were up just now.
                0.0 if setup.together is None else patience,
                seconds,
                note=lambda place: self.ways.note(node, place),
            )

        def end(outcome: Channel | Exception) -> None:
            self._dialling.pop(node, None)
            if isinstance(outcome, Channel):
                self._open(node, outcome)
            else:
                self._report_unreached(
                    node, deadline, relay, f"node {setup.node} could not connect to node {node}: {outcome}"
                )

        # Steps that finish immediately do so before `start` returns; do not record them as dialling.
        task = self._event_loop.background.start(steps, deadline, end)
        if self.connections[node].is_awaited and node not in self._expected:
            self._dialling[node] = task

    def _report_unreached(self, node: int, deadline: float, relay: int, text: str) -> None:
        """Report to the client that a node cannot be reached: it may know another way. Expect to be dialled."""
        if time.monotonic() >= deadline:
            self._fail(node, text)
            return
        self._expect(node, deadline, text)
        self._tell(Kind.UNREACHED, [text, relay], node)

    def route(self, node: int, way: int | str | None) -> None:
        """Take another way to an expected node: dial it or a relay. If `way` is a text, it says why there is none."""
        if node not in self._expected:
            return
        task = self._expected.pop(node)
        self._event_loop.background.cancel(task)
        if isinstance(way, str):
            self._fail(node, way)
        else:
            self._dial(node, task.deadline, way or 0)

    def _open(self, node: int, channel: Channel) -> None:
        connection = self.connections[node]
        connection.open(channel)
        self._event_loop.add(connection)
        if node == 0:
            self.on_client()
        self._event_loop.flush(connection)

    def _fail(self, node: int, text: str) -> None:
        self.errors[node] = text
        self.connections[node].lose(ConnectionLostError(text))

    # --- nodes that dial this engine ---

    def _expect(self, node: int, deadline: float, text: str = "") -> None:
        def end(_: Exception) -> None:
            del self._expected[node]
            self._fail(node, text or f"node {node} did not connect to node {self._setup.node}")

        self._expected[node] = self._event_loop.background.start(wait_for_deadline(), deadline, end)

    def _watch(self) -> None:
        if not self._is_watching:
            self._event_loop.watch(self._handover.fileno(), self._take)
            self._is_watching = True

    def _unwatch(self) -> None:
        if self._is_watching:
            self._event_loop.unwatch(self._handover.fileno())
            self._is_watching = False

    def _take(self) -> None:
        """Accept one connection from the daemon, and start to identify the peer."""
        self._listen()
        try:
            data, descriptors = receive_descriptors(self._handover, PREAMBLE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError as error:  # no free descriptor; the peer sees that the connection is closed
            self._tell(Kind.REFUSED, error.strerror or str(error), 0)
            return
        if not descriptors:  # the server's daemon is gone: no further connection will arrive
            self._unwatch()
            for node in list(self._expected):
                self._event_loop.background.cancel(self._expected.pop(node))
                self._fail(
                    node, f"node {node} did not connect to node {self._setup.node}: its daemon is gone"
                )
            return
        sock = socket.socket(fileno=descriptors[0])
        prepare(sock, self._setup.peer_timeout)
        if has_hung_up(sock):  # the peer was killed while it waited for this engine
            sock.close()
            return
        self._identify(sock, Preamble.unpack(data))

    def _identify(self, sock: socket.socket, preamble: Preamble) -> None:
        node = preamble.from_node
        expected = self._expected.get(node)

        def is_expected() -> bool:
            # Compare identities: a connection that an engine dialled before it restarted is no longer expected.
            return expected is not None and self._expected.get(node) is expected

        def end(outcome: Channel | Exception) -> None:
            self._handshakes -= 1
            self._watch()
            if isinstance(outcome, Channel) and is_expected():
                self._event_loop.background.cancel(self._expected.pop(node))
                self._open(node, outcome)
                return
            if isinstance(outcome, Channel):  # another connection came first
                outcome.close()
                outcome = not_expected()
            self._tell(Kind.REFUSED, str(outcome), node)

        self._handshakes += 1
        if self._handshakes == _MAX_HANDSHAKES:
            self._unwatch()
        deadline = time.monotonic() + _HANDSHAKE_TIMEOUT
        self._event_loop.background.start(self._greet(sock, preamble, is_expected), deadline, end)

    def _greet(
        self, sock: socket.socket, preamble: Preamble, is_expected: Callable[[], bool]
    ) -> Steps[Channel]:
        """Check that a peer is the node that it claims to be, and confirm the connection."""

        def check() -> None:
            if not is_expected():
                raise not_expected()

        node, network = preamble.from_node, self._setup.network
        if preamble.purpose is Purpose.RELAYED and node:
            return meet_called(sock, self.tls, network, (self._setup.node, node), check=check)
        return greet(sock, self.tls, network, node, self.token(node), check=check)
