"""The engine's and session's side of a connection: check the identity of the peer that dials, then confirm."""

import socket
import struct
from collections.abc import Callable, Sequence

from pconnect.errors import ConnectionLostError, ParallelError
from pconnect.link import local_link
from pconnect.link.dialing import dial, expect_hello
from pconnect.link.local_link import accept_local, is_local
from pconnect.link.race import Place
from pconnect.protocol.frames import HELLO, Preamble
from srp_tools.channel import Channel
from srp_tools.steps import Steps, send_all
from srp_tools.tls import TlsContexts, start_tls

# tcp(7): the first byte of TCP_INFO is the state; these mean that the peer has hung up (tcp_states.h).
_TCP_CLOSED_STATES = (7, 8)


def greet(
    sock: socket.socket,
    tls: TlsContexts | None,
    network_id: bytes,
    node: int,
    token: bytes | None,
    *,
    check: Callable[[], None] = lambda: None,
) -> Steps[Channel]:
    """Check that the peer is the given node of the network, and confirm the connection.

    The token proves that over a local link, the certificate over TLS. `check` may raise an exception to refuse the
    peer. On any error, the socket is closed.
    """
    channel: Channel | None = None
    try:
        if is_local(sock):
            channel = yield from accept_local(sock, token)
        elif tls is None:
            channel = Channel(sock)
        else:
            channel = yield from start_tls(sock, tls.server, network_id, node, server_side=True)
        check()
        yield from channel.send_all(HELLO)
    except BaseException:
        (channel or sock).close()  # TLS took the descriptor away from `sock`
        raise
    return channel


def meet(
    sock: socket.socket,
    tls: TlsContexts | None,
    network_id: bytes,
    nodes: tuple[int, int],
    *,
    check: Callable[[], None] = lambda: None,
) -> Steps[Channel]:
    """Open a connection through a relay, and check that the other end is the given node.

    `nodes`: this node and the other one. The node with the lower number is the TLS client, because both may have
    dialled the relay, or neither. If the other end is the wrong node, or `check` raises, the socket is closed.
    """
    own, other = nodes
    channel: Channel | None = None
    try:
        if tls is None:
            channel = Channel(sock)
        else:
            context = tls.client if own < other else tls.server
            channel = yield from start_tls(sock, context, network_id, other, server_side=own > other)
        if own < other:
            yield from expect_hello(channel)
            check()
        else:
            check()
            yield from channel.send_all(HELLO)
    except BaseException:
        (channel or sock).close()
        raise
    channel.is_relayed = True
    return channel


def meet_called(
    sock: socket.socket,
    tls: TlsContexts | None,
    network_id: bytes,
    nodes: tuple[int, int],
    *,
    check: Callable[[], None] = lambda: None,
) -> Steps[Channel]:
    """Do the same on a connection dialled by a relay: first confirm, in clear text, that the place is right."""
    try:
        check()
        yield from send_all(sock, HELLO)
    except BaseException:
        sock.close()
        raise
    return (yield from meet(sock, tls, network_id, nodes, check=check))


def meet_at_relay(
    places: Sequence[Place], preamble: Preamble, tls: TlsContexts | None, peer_timeout: float, seconds: float
) -> Steps[Channel]:
    """Do the same by dialling a relay. `preamble`: names it and both nodes. `seconds`: for each place, see `dial`."""
    plain = yield from dial(places, preamble, None, peer_timeout, place_seconds=seconds)
    nodes = preamble.from_node, preamble.endpoint
    return (yield from meet(plain.detach(), tls, preamble.network_id, nodes))


def not_expected() -> ParallelError:
    """Return the error for a peer that is not expected."""
    return ConnectionLostError("this node is not expected, or is connected already")


def has_hung_up(sock: socket.socket) -> bool:
    """Whether the peer of an accepted connection has already closed it."""
    if is_local(sock):
        return local_link.has_hung_up(sock)
    state = struct.unpack("B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0]
    return state in _TCP_CLOSED_STATES
