"""An engine's part in making the mesh: connections to the nodes after it, and from the nodes before it."""

import socket
import ssl
import sys
from dataclasses import dataclass
from typing import Any

from pconnect.connection import Connection
from pconnect.dial import dial, prepare
from pconnect.errors import ConnectionLostError, ParallelError
from pconnect.frames import HELLO, PREAMBLE_BYTES, Limits, Preamble, Purpose
from srp_tools.certificates import Identity
from srp_tools.channel import Channel, start_tls, tls_context
from srp_tools.waiting import Steps, Wait, deadline_after, run_all


@dataclass(frozen=True)
class Setup:
    """The network, as its client describes it to an engine; nodes are numbered from 1."""

    network: bytes
    nodes: list[dict[str, Any]]
    node: int
    identity: list[bytes] | None
    directory: str
    directory_is_clients: bool
    session_folder: str
    limits: list[int]
    peer_timeout: float
    timeout: float

    def contexts(self) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
        """Return the contexts for connections that are made and that are accepted; ``None`` without encryption."""
        if self.identity is None:
            return None, None
        key_pem, certificate, authority = self.identity
        identity = Identity(self.network, self.node, key_pem, certificate, authority)
        return tls_context(identity, server_side=False), tls_context(identity, server_side=True)


def connect_mesh(setup: Setup, handover: socket.socket) -> tuple[list[Connection], dict[int, str]]:
    """Make the data connections of one engine, all side by side.

    Parameters
    ----------
    setup
        The network.
    handover
        On which the daemon passes accepted connections; closed in the end.

    Returns
    -------
    connections
        One for each node by number, the own one without a link.
    errors
        For each node that could not be reached, why; then some connections are missing.
    """
    making, accepting = setup.contexts()
    handover.setblocking(False)
    expected = set(range(setup.node))
    # Each waiter has a descriptor of its own, because one descriptor can be registered with a selector only once.
    ends = [handover, *(handover.dup() for _ in range(setup.node - 1))]
    steps: dict[int, Steps[tuple[int, Channel]]] = {
        -1 - index: _accept(end, setup, accepting, expected) for index, end in enumerate(ends)
    }
    for node in range(setup.node + 1, len(setup.nodes) + 1):
        steps[node] = _dial(setup, node, making)
    outcomes = run_all(steps, deadline_after(setup.timeout))
    for end in ends:
        end.close()
    channels = dict(outcome for outcome in outcomes.values() if not isinstance(outcome, Exception))
    errors = {
        node: f"node {setup.node} could not connect to node {node}: {outcome}"
        for node, outcome in outcomes.items()
        if isinstance(outcome, Exception) and node > 0
    }
    errors |= {node: f"node {node} did not connect to node {setup.node}" for node in expected}
    hosts = ["client", *(entry["host"] for entry in setup.nodes)]
    connections = [
        Connection(node, host, channels.get(node), limits=Limits(*setup.limits))
        for node, host in enumerate(hosts)
    ]
    return connections, errors


def _dial(setup: Setup, node: int, context: ssl.SSLContext | None) -> Steps[tuple[int, Channel]]:
    addresses = [(name, port) for name, port in setup.nodes[node - 1]["addresses"]]
    preamble = Preamble(Purpose.DATA, setup.network, setup.node, node)
    channel = yield from dial(addresses, preamble, context, setup.peer_timeout)
    return node, channel


def _accept(
    handover: socket.socket, setup: Setup, context: ssl.SSLContext | None, expected: set[int]
) -> Steps[tuple[int, Channel]]:
    """Take one connection from the daemon and make sure who it is; whoever is not expected does not count."""
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(handover, PREAMBLE_BYTES, 1)
        except BlockingIOError:
            yield Wait(handover.fileno())
            continue
        if not descriptors:
            raise ConnectionLostError("the server's daemon is gone")
        sock = socket.socket(fileno=descriptors[0])
        prepare(sock, setup.peer_timeout)
        node = Preamble.unpack(data).from_node
        channel: Channel | None = None
        try:
            if context is None:
                channel = Channel(sock)
            else:
                channel = yield from start_tls(sock, context, setup.network, node, server_side=True)
            if node not in expected:
                raise ConnectionLostError("it is not expected, or here already")
            yield from channel.send_all(HELLO)
        except (ParallelError, OSError) as error:
            print(f"a data connection that says it is node {node} was refused: {error}", file=sys.stderr)  # noqa: T201
            (channel or sock).close()  # TLS took the descriptor away from `sock`
            continue
        expected.discard(node)
        return node, channel
