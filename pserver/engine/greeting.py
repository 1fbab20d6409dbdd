"""How an engine, or a session, welcomes a peer that dials it: who it is, and the confirmation."""

import socket
import struct
from collections.abc import Callable

from pconnect.errors import ConnectionLostError, ParallelError
from pconnect.link import local_link
from pconnect.link.local_link import accept_local, is_local
from pconnect.protocol.frames import HELLO
from srp_tools.channel import Channel
from srp_tools.steps import Steps
from srp_tools.tls import TlsContexts, start_tls

# tcp(7): the first byte of TCP_INFO is the state; these say that the other end has hung up (tcp_states.h).
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
    """Make sure that the peer is a certain node of the network, and confirm the connection.

    Over a local link the token proves that, over TLS the certificate. `check` may raise to refuse the peer. The socket
    is closed if anything does.
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


def not_expected() -> ParallelError:
    """Return why a peer is turned away for which nothing waits."""
    return ConnectionLostError("it is not expected, or here already")


def has_hung_up(sock: socket.socket) -> bool:
    """Whether the other end of an accepted connection is closed already."""
    if is_local(sock):
        return local_link.has_hung_up(sock)
    state = struct.unpack("B", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1))[0]
    return state in _TCP_CLOSED_STATES
