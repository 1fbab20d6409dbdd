"""Opening connections: TCP with the options of every link, and the data connection to a node."""

import socket
from collections.abc import Sequence

from pconnect.errors import AuthenticationError, ConnectionLostError, ProtocolError
from pconnect.link.local_link import dial_local, is_local
from pconnect.link.nonces import new_nonce
from pconnect.protocol.frames import FIRST_WORD_BYTES, HELLO, Preamble, Purpose, check_first_word
from pconnect.values import encoder
from srp_tools.channel import Channel
from srp_tools.steps import Steps, connect, deadline_after, receive_exactly, send_all
from srp_tools.tls import TlsContexts, start_tls

DEFAULT_PEER_TIMEOUT = 30.0
# An address that swallows packets must not use up the time of the ones after it.
_ADDRESS_TIMEOUT = 5.0
# The system would let them grow to many MiB, which a slow terminal needs minutes to show, also after Ctrl-C.
_COMMAND_CHANNEL_BYTES = 2**18


def bound_buffers(sock: socket.socket) -> None:
    """Have the system hold no more than some hundred kilobytes of a command channel at each end."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _COMMAND_CHANNEL_BYTES)


def prepare(sock: socket.socket, peer_timeout: float) -> None:
    """Set the options of every link: no delay of small messages, and notice of a machine that vanished.

    `peer_timeout`: seconds after which a silent machine counts as gone: for keep-alive, and for
    `pconnect.loop.liveness`.
    """
    sock.setblocking(False)
    if is_local(sock):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = 5
    interval = max(1, round(peer_timeout / (probes + 1)))
    for option, value in (
        ("TCP_KEEPIDLE", interval),
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", probes),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def connect_first(addresses: Sequence[tuple[str, int]], peer_timeout: float) -> Steps[socket.socket]:
    """Return a socket connected to the first of `addresses` (numeric, with ports) that answers.

    Raises `OSError` if none answers: the last error.
    """
    error: OSError = OSError("no address")
    for address, port in addresses:
        found = socket.getaddrinfo(address, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
        family, _, _, _, target = found[0]
        try:
            sock = yield from connect(family, target, deadline_after(_ADDRESS_TIMEOUT))
        except OSError as met:
            error = met
        else:
            prepare(sock, peer_timeout)
            return sock
    raise error


def dial(
    addresses: Sequence[tuple[str, int]],
    preamble: Preamble,
    tls: TlsContexts | None,
    peer_timeout: float,
    local: tuple[str, bytes] | None = None,
) -> Steps[Channel]:
    """Open the data connection to a node, or what else a preamble names, by whichever of its addresses leads there.

    `local` has path and token of a local link, which is tried first; see `pconnect.link.local_link`.

    An address may lead to another machine (``127.0.0.1`` does on every machine but one): its server does not know the
    network and closes the connection, or cannot show the node's certificate; then the next address is tried.

    Raises `ConnectionLostError` if no address leads to the node; the text has the reason of each.
    """
    reasons = []
    if local is not None:
        try:
            channel = yield from dial_local(*local, preamble)
            yield from expect_hello(channel)
        except (OSError, ConnectionLostError, AuthenticationError, ProtocolError) as error:
            reasons.append(f"{local[0]}: {getattr(error, 'strerror', None) or error}")
        else:
            return channel
    for address in addresses:
        try:
            sock = yield from connect_first([address], peer_timeout)
            return (yield from _introduce(sock, preamble, tls))
        except (OSError, ConnectionLostError, AuthenticationError, ProtocolError) as error:
            reason = yield from _reason(error, address, preamble)
            reasons.append(f"{address[0]} port {address[1]}: {reason}")
    raise ConnectionLostError(f"no connection to node {preamble.to_node} ({'; '.join(reasons)})")


def _introduce(sock: socket.socket, preamble: Preamble, tls: TlsContexts | None) -> Steps[Channel]:
    try:
        if preamble.purpose is Purpose.JOIN:
            bound_buffers(sock)
        yield from send_all(sock, preamble.pack(new_nonce()))
        if tls is None:
            channel = Channel(sock)
        else:
            channel = yield from start_tls(
                sock, tls.client, preamble.network_id, preamble.to_node, server_side=False
            )
        yield from expect_hello(channel)
    except BaseException:
        sock.close()
        raise
    return channel


def _reason(error: Exception, address: tuple[str, int], preamble: Preamble) -> Steps[object]:
    """Return why a node was not reached at an address.

    A server of another version answers the preamble with its own, which TLS has read and does not understand. So the
    server is asked again, without TLS.
    """
    if getattr(error.__cause__, "reason", "") == "WRONG_VERSION_NUMBER":
        try:
            sock = yield from connect_first([address], _ADDRESS_TIMEOUT)
            with sock:
                yield from send_all(sock, preamble.pack(new_nonce()))
                check_first_word(
                    (yield from receive_exactly(sock, FIRST_WORD_BYTES, deadline_after(_ADDRESS_TIMEOUT))),
                    "the server",
                )
        except ProtocolError as version:
            return version
        except OSError:  # it says nothing more
            pass
    return getattr(error, "strerror", None) or error


def send_packed(channel: Channel, value: object) -> Steps[None]:
    """Send a value of some hundred bytes before there are messages, behind its length in two bytes."""
    data = encoder.pack(value)
    yield from channel.send_all(len(data).to_bytes(2, "big") + data)


def receive_packed(channel: Channel) -> Steps[bytes]:
    """Receive what `send_packed` has sent, for `pconnect.values.decoder.unpack`."""
    size = yield from channel.receive_exactly(2)
    return (yield from channel.receive_exactly(int.from_bytes(size, "big")))


def expect_hello(channel: Channel) -> Steps[None]:
    """Wait for the first word of the process that accepted a connection.

    Raises `ConnectionLostError` if it says something else, or closes the connection: it did not accept. The channel is
    closed. Raises `ProtocolError` if it is of another version. The channel is closed.
    """
    try:
        word = yield from channel.receive_exactly(len(HELLO))
        if word != HELLO:
            check_first_word(word, "the server")
            raise ConnectionLostError("the peer does not speak the protocol of pserver")
    except BaseException:
        channel.close()
        raise
