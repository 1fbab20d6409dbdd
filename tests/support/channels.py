"""Pairs of channels that are connected to each other, plain and encrypted."""

import secrets
import socket

from pconnect.link.local_channel import LocalChannel
from srp_tools.certificates import NetworkAuthority, NodeKey
from srp_tools.channel import Channel
from srp_tools.steps import Steps, Wait, deadline_after, run_all
from srp_tools.tls import start_tls, tls_context

Pair = tuple[Channel, Channel]
LIMIT = 20.0  # seconds; only a broken test takes this long
NETWORK_ID = bytes(range(16))
AUTHORITY = NetworkAuthority(NETWORK_ID)
BIG = secrets.token_bytes(3 * 2**20 + 1)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def handshake(
    sock: socket.socket,
    node: int,
    expected: int,
    *,
    server_side: bool,
    authority: NetworkAuthority = AUTHORITY,
) -> Steps[Channel]:
    key = NodeKey()
    certificate = authority.sign(key.public_bytes(), node)
    identity = key.identity(authority.network_id, node, certificate, authority.certificate)
    context = tls_context(identity, server_side=server_side)
    return start_tls(sock, context, NETWORK_ID, expected, server_side=server_side)


def tcp_pair() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    for sock in (left, right):
        sock.setblocking(False)
        # Otherwise the system may buffer all of `BIG`, however large that is.
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 2**17)
    return Channel(left), Channel(right)


def plain_pair() -> Pair:
    left, right = socket_pair()
    return Channel(left), Channel(right)


def local_pair() -> tuple[LocalChannel, LocalChannel]:
    left, right = socket_pair()
    return LocalChannel(left), LocalChannel(right)


def tls_pair() -> Pair:
    left, right = socket_pair()
    steps = {
        "left": handshake(left, 1, 2, server_side=False),
        "right": handshake(right, 2, 1, server_side=True),
    }
    ends = run_all(steps, deadline_after(LIMIT))
    assert isinstance(ends["left"], Channel) and isinstance(ends["right"], Channel), ends
    return ends["left"], ends["right"]


def receive_some(channel: Channel, buffer: memoryview) -> Steps[int]:
    while (count := channel.receive_into(buffer)) is None:
        yield Wait(channel.fileno())
    return count
