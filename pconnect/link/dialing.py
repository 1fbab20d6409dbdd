"""Opening connections: TCP with the socket options of every link, and the data connection to a node."""

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
# Without a limit, the system lets the buffers grow to many MiB, which a slow terminal shows for minutes, even after
# Ctrl-C.
_COMMAND_CHANNEL_BYTES = 2**18
# A restarted daemon needs this long to know its sessions, which look for it twice a second. Counted from the last time
# when there was no daemon.
_RETURN_SECONDS = 2.0
_PAUSES = (0.05, 0.1, 0.2, 0.4)  # between attempts; the last one repeats


def bound_buffers(sock: socket.socket) -> None:
    """Limit the system's buffers of a command channel to some hundred kilobytes at each end."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _COMMAND_CHANNEL_BYTES)


def prepare(sock: socket.socket, peer_timeout: float) -> None:
    """Set the socket options of every link: send small messages immediately, and detect a machine that vanished.

    `peer_timeout`: seconds after which a silent machine counts as gone, for keep-alive and `pconnect.loop.liveness`.
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

    Raises the last `OSError` if none answers.
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


def dial(  # noqa: PLR0917 - everything that leads to a node
    places: Sequence[Place],
    preamble: Preamble,
    tls: TlsContexts | None,
    peer_timeout: float,
    local: tuple[str, bytes] | None = None,
    patience: float = 0.0,
    place_seconds: float = PLACE_SECONDS,
    note: Callable[[Place], object] = lambda _: None,
) -> Steps[Channel]:
    """Open the data connection to a node, or another connection that a preamble names, over the first place that works.

    `local` has the path and token of a local link, which is tried first; see `pconnect.link.local_link`.

    A place may lead to another machine (as ``127.0.0.1`` does on every machine but one). Its server does not know the
    network and closes the connection, or has no certificate of the node; then the next place is tried.

    `patience`: seconds in which a refused connection is tried again. This is for nodes that existed before, whose
    daemon may just be restarting. Otherwise nothing is tried twice, so that a wrong port fails immediately.
    `place_seconds`: maximum time for the answer of a place. `note`: called with the place that led to the node.

    Raises `ConnectionLostError` if no place leads to the node; the message has the reason for each.
    """
    places = [place for place in places if place[1]]  # a server without ports has a path and port 0
    if not places and local is None:
        raise ConnectionLostError(
            f"no connection to node {preamble.to_node}: its server listens on Unix sockets only (--no-tcp), "
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
    """One attempt at each place of a node, with the errors of those that failed."""

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
        """Return a connection to the node, or ``None`` if no place has led to it."""
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
    """Send the preamble on a connection, and wait until the other end confirms it.

    Closes the socket if it does not.
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
    """Return the reason why a node was not reached at a place.

    A server of another version answers the preamble with its own, which TLS has read and cannot interpret. So the
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
        except OSError:  # the server gives no further reason
            pass
    return getattr(error, "strerror", None) or error


def send_packed(channel: Channel, value: object) -> Steps[None]:
    """Send a value of some hundred bytes before there are messages, preceded by its length in two bytes."""
    data = encoder.pack(value)
    yield from channel.send_all(len(data).to_bytes(2, "big") + data)


def receive_packed(channel: Channel) -> Steps[bytes]:
    """Receive the bytes of a value from `send_packed`, for `pconnect.values.decoder.unpack`."""
    size = yield from channel.receive_exactly(2)
    return (yield from channel.receive_exactly(int.from_bytes(size, "big")))


def expect_hello(channel: Channel) -> Steps[None]:
    """Wait for the first message of the process that accepted a connection.

    Raises `ConnectionLostError` if it sends something else or closes the connection: it did not accept. Raises
    `ProtocolError` if it has another version. In both cases the channel is closed.
    """
    try:
        word = yield from channel.receive_exactly(len(HELLO))
        if word != HELLO:
            check_first_word(word, "the server")
            raise ConnectionLostError("the peer does not speak the pserver protocol")
    except BaseException:
        channel.close()
        raise
