"""Opening connections: TCP with the options of every link, and the data connection to a node."""

import errno
import itertools
import socket
import time
from collections.abc import Callable, Sequence

from pconnect.errors import AuthenticationError, ConnectionLostError, ProtocolError
from pconnect.link.local_link import dial_local, is_local
from pconnect.link.nonces import new_nonce
from pconnect.link.race import PLACE_SECONDS, Place, Race
from pconnect.protocol.frames import FIRST_WORD_BYTES, HELLO, Preamble, Purpose, check_first_word
from pconnect.values import encoder
from srp_tools.channel import Channel
from srp_tools.steps import Steps, connect, deadline_after, pause, receive_exactly, send_all
from srp_tools.tls import TlsContexts, start_tls

DEFAULT_PEER_TIMEOUT = 30.0
# The system would let them grow to many MiB, which a slow terminal needs minutes to show, also after Ctrl-C.
_COMMAND_CHANNEL_BYTES = 2**18
# Until a daemon that was started again knows its sessions: they look for it twice a second. It counts from when there
# was no daemon.
_RETURN_SECONDS = 2.0
_PAUSES = (0.05, 0.1, 0.2, 0.4)  # between two attempts; the last one counts from then on


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
            sock = yield from connect(family, target, deadline_after(PLACE_SECONDS))
        except OSError as met:
            error = met
        else:
            prepare(sock, peer_timeout)
            return sock
    raise error


def dial(  # noqa: PLR0917 - all that leads to a node
    places: Sequence[Place],
    preamble: Preamble,
    tls: TlsContexts | None,
    peer_timeout: float,
    local: tuple[str, bytes] | None = None,
    patience: float = 0.0,
    place_seconds: float = PLACE_SECONDS,
    note: Callable[[Place], object] = lambda _: None,
) -> Steps[Channel]:
    """Open the data connection to a node, or what else a preamble names, by whichever of its places leads there.

    `local` has path and token of a local link, which is tried first; see `pconnect.link.local_link`.

    A place may lead to another machine (``127.0.0.1`` does on every machine but one): its server does not know the
    network and closes the connection, or cannot show the node's certificate; then the next place is tried.

    `patience`: seconds in which a refused connection is tried again. That is for nodes that were there before, whose
    daemon may just be starting again; else nothing is tried twice, so that a wrong port is an error at once.
    `place_seconds`: how long a place may take to answer at all. `note`: called with the place that has led to the node.

    Raises `ConnectionLostError` if no place leads to the node; the text has the reason of each.
    """
    places = [place for place in places if place[1]]  # a server without ports has its path, and the port 0
    if not places and local is None:
        raise ConnectionLostError(
            f"no connection to node {preamble.to_node}: its server listens at Unix sockets only (--no-tcp), "
            "for processes of its account, machine and container, with local links"
        )
    began = dead_at = time.monotonic()
    for seconds in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
        attempts = _Attempts(places, preamble, tls, peer_timeout, place_seconds)
        if (channel := (yield from attempts.make(local, note))) is not None:
            return channel
        errors, reasons = attempts.errors, attempts.reasons
        now = time.monotonic()
        if any(isinstance(error, (ConnectionRefusedError, FileNotFoundError)) for error in errors):
            dead_at = now
        elif not any(isinstance(error, ConnectionError) for error in errors):
            break
        left = min(began + patience, dead_at + _RETURN_SECONDS) - now
        if left <= 0:
            break
        yield from pause(min(seconds, left))
    silent = any(
        isinstance(error, TimeoutError) or getattr(error, "errno", 0) == errno.EHOSTUNREACH
        for error in errors
    )
    hint = (
        ": a firewall must let its data port through, for the client and the other servers" if silent else ""
    )
    raise ConnectionLostError(f"no connection to node {preamble.to_node} ({'; '.join(reasons)}){hint}")


class _Attempts:
    """One attempt at each place of a node, and why those failed that did."""

    def __init__(
        self,
        places: Sequence[Place],
        preamble: Preamble,
        tls: TlsContexts | None,
        peer_timeout: float,
        place_seconds: float,
    ) -> None:
        self.errors: list[Exception] = []
        self.reasons: list[str] = []
        self._race = Race(places, place_seconds)
        self._preamble = preamble
        self._tls = tls
        self._peer_timeout = peer_timeout

    def make(self, local: tuple[str, bytes] | None, note: Callable[[Place], object]) -> Steps[Channel | None]:
        """Return a connection to the node, ``None`` if no place has led to it."""
        if local is not None:
            channel = yield from self._try(local[0], _introduce_locally(local, self._preamble))
            if channel is not None:
                return channel
        try:
            while (found := (yield from self._race.next_one())) is not None:
                place, outcome = found
                if isinstance(outcome, OSError):
                    yield from self._fail(place, outcome)
                    continue
                channel = yield from self._try(place, self._introduce(outcome))
                if channel is not None:
                    note(place)
                    return channel
        finally:
            self._race.close()
        return None

    def _introduce(self, sock: socket.socket) -> Steps[Channel]:
        prepare(sock, self._peer_timeout)
        return introduce(sock, self._preamble, self._tls)

    def _try(self, place: str | Place, attempt: Steps[Channel]) -> Steps[Channel | None]:
        try:
            return (yield from attempt)
        except (OSError, ConnectionLostError, AuthenticationError, ProtocolError) as error:
            yield from self._fail(place, error)
            return None

    def _fail(self, place: str | Place, error: Exception) -> Steps[None]:
        self.errors.append(error)
        reason = yield from _reason(error, place, self._preamble)
        self.reasons.append(f"{_shown(place)}: {reason}")


def _shown(place: str | tuple[str, int]) -> str:
    return place if isinstance(place, str) else f"{place[0]} port {place[1]}"


def _introduce_locally(local: tuple[str, bytes], preamble: Preamble) -> Steps[Channel]:
    channel = yield from dial_local(*local, preamble)
    yield from expect_hello(channel)
    return channel


def introduce(sock: socket.socket, preamble: Preamble, tls: TlsContexts | None) -> Steps[Channel]:
    """Say on a connection what it is for, and wait until the other end confirms it.

    The socket is closed if it does not.
    """
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


def _reason(error: Exception, place: str | tuple[str, int], preamble: Preamble) -> Steps[object]:
    """Return why a node was not reached at an address.

    A server of another version answers the preamble with its own, which TLS has read and does not understand. So the
    server is asked again, without TLS.
    """
    if not isinstance(place, str) and getattr(error.__cause__, "reason", "") == "WRONG_VERSION_NUMBER":
        try:
            sock = yield from connect_first([place], PLACE_SECONDS)
            with sock:
                yield from send_all(sock, preamble.pack(new_nonce()))
                check_first_word(
                    (yield from receive_exactly(sock, FIRST_WORD_BYTES, deadline_after(PLACE_SECONDS))),
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
