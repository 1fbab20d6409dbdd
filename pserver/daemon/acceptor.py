"""The reception: accepts on both ports and finds out what each connection is.

What arrives is looked at just far enough to know where it belongs:

* at the command port, the first byte of a TLS handshake, or the preamble of a client without encryption;
* at the data port, the preamble, which names the network and the node.

Until then a connection costs a socket and nothing else. Silence and garbage are closed, with one line in the log.
"""

import contextlib
import logging
import math
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pconnect.errors import AuthenticationError, ProtocolError
from pconnect.link.local_link import check_account, is_local, listen
from pconnect.protocol.frames import PREAMBLE_BYTES, PREAMBLE_MAGIC, Preamble, Purpose, check_first_word
from pserver.config import ServerConfig
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_TLS_HANDSHAKE = 0x16  # first byte of a TLS connection (RFC 5246, section 6.2.1)
_MAX_ARRIVALS = 1000  # beyond, the oldest silent connection makes room


@dataclass(eq=False)
class PendingConnection:
    """A connection, until it belongs to somebody."""

    #: Its socket and the address of the other end.
    sock: socket.socket
    peer: str
    is_data: bool  #: whether it came in at the data port
    deadline: float  #: instant until which it must have said enough
    #: What was read from it: its preamble, or nothing of a client with TLS.
    received: bytearray = field(default_factory=bytearray)
    #: Whether it has got an answer that says why it is not wanted, and is to close the connection.
    is_refused: bool = False


class Acceptor:
    """The two listening sockets, and the connections that have not yet said where they belong.

    `config`: ports, and how long silence is borne. `bind`: address to listen at; ``None`` for all. `selector`: the
    daemon's; each entry's data is a function to call. `on_client`, `on_data`: take over a connection to the command
    port and one to the data port. Raises `ConfigurationError` if a port cannot be had. Nothing is left open.
    """

    def __init__(
        self,
        config: ServerConfig,
        bind: str | None,
        selector: selectors.BaseSelector,
        on_client: Callable[[PendingConnection], None],
        on_data: Callable[[PendingConnection, Preamble], None],
    ) -> None:
        self._config = config
        self._bind = bind
        self._selector = selector
        self._on_client = on_client
        self._on_data = on_data
        self._arrivals: dict[PendingConnection, None] = {}  # in the order of arrival
        self._open = contextlib.ExitStack()
        with self._open:
            self.cmd_port = self._listen(config.cmd_port, "--cmd-port", is_data=False)
            self.data_port = self._listen(config.data_port, "--data-port", is_data=True)
            self._open = self._open.pop_all()

    def close(self) -> None:
        """Close everything that is still here."""
        for pending in self._arrivals:
            pending.sock.close()
        self._open.close()

    def _listen(self, port: int, option: str, *, is_data: bool) -> int:
        try:
            if self._bind is None and socket.has_dualstack_ipv6():
                listener = socket.create_server(
                    ("", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
                )
            else:
                family, _, _, _, address = socket.getaddrinfo(
                    self._bind or "0.0.0.0",  # noqa: S104 - all addresses is what the user asked for
                    port,
                    type=socket.SOCK_STREAM,
                )[0]
                listener = socket.create_server(address[:2], family=family, backlog=1024)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigurationError(
                f"cannot listen at {self._bind or 'all addresses'} port {port} ({option}): {reason}"
            ) from error
        self._serve(listener, is_data=is_data)
        return int(listener.getsockname()[1])

    def listen_locally(self, path: Path) -> bool:
        """Take data connections of this account at a Unix socket as well; return whether that can be done."""
        try:
            listener = listen(path)
        except (OSError, AuthenticationError) as error:
            log.warning("no local links, cannot listen at %s: %s", path, error)
            return False
        self._open.callback(path.unlink, missing_ok=True)
        self._serve(listener, is_data=True)
        return True

    def _serve(self, listener: socket.socket, *, is_data: bool) -> None:
        self._open.enter_context(listener)
        listener.setblocking(False)
        self._selector.register(
            listener, selectors.EVENT_READ, lambda: self._accept(listener, is_data=is_data)
        )

    def _accept(self, listener: socket.socket, *, is_data: bool) -> None:
        try:
            sock, address = listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionAbortedError):
                log.warning("cannot accept a connection: %s", error)
                self._drop_oldest()
            return
        peer = "this machine" if is_local(sock) else f"{address[0]} port {address[1]}"
        if is_local(sock):
            try:
                check_account(sock)
            except AuthenticationError as error:
                log.warning("local connection refused: %s", error)
                sock.close()
                return
        sock.setblocking(False)
        deadline = time.monotonic() + self._config.silence_timeout
        pending = PendingConnection(sock, peer, is_data, deadline)
        if len(self._arrivals) >= _MAX_ARRIVALS:
            self._drop_oldest()
        self._arrivals[pending] = None
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._look_at(pending))

    def _look_at(self, pending: PendingConnection) -> None:
        try:
            if pending.is_refused:
                if not pending.sock.recv(2**16):
                    self._drop(pending, "")
            elif pending.is_data or not self._config.use_tls:
                self._read_preamble(pending)
            else:
                self._peek(pending)
        except OSError as error:
            self._drop(pending, f"it broke: {error}")

    def _peek(self, pending: PendingConnection) -> None:
        first = pending.sock.recv(1, socket.MSG_PEEK)
        if first and first[0] == _TLS_HANDSHAKE:
            self._leave_selector(pending)
            self._on_client(pending)
        elif first == PREAMBLE_MAGIC[:1]:
            self._refuse(pending, Purpose.NEEDS_TLS, "a client without TLS")
        else:
            self._drop(pending, "not TLS" if first else "closed without a word")

    def _read_preamble(self, pending: PendingConnection) -> None:
        data = pending.sock.recv(PREAMBLE_BYTES - len(pending.received))
        pending.received += data
        try:
            check_first_word(pending.received, "the client")
        except ProtocolError as error:
            self._refuse(pending, Purpose.OTHER_VERSION, str(error))
            return
        if not PREAMBLE_MAGIC.startswith(pending.received[:4]) or not data:
            self._drop(pending, "not a pserver's client" if data else "closed too early")
        elif len(pending.received) == PREAMBLE_BYTES:
            try:
                preamble = Preamble.unpack(bytes(pending.received))
            except ProtocolError as error:
                self._drop(pending, str(error))
            else:
                self._place(pending, preamble)

    def _place(self, pending: PendingConnection, preamble: Preamble) -> None:
        if not pending.is_data and preamble.purpose is not Purpose.COMMAND:
            self._drop(pending, "no login")
            return
        self._leave_selector(pending)
        if pending.is_data:
            self._on_data(pending, preamble)
        else:
            self._on_client(pending)

    def _leave_selector(self, pending: PendingConnection) -> None:
        self._selector.unregister(pending.sock)
        del self._arrivals[pending]

    def _refuse(self, pending: PendingConnection, answer: Purpose, reason: str) -> None:
        """Answer, and leave it to the peer to close: if we did, what it has sent would reset the connection.

        Then the answer could be lost.
        """
        self._log_closed(pending, reason)
        pending.is_refused = True
        with contextlib.suppress(OSError):
            pending.sock.send(Preamble(answer).pack())
            pending.sock.shutdown(socket.SHUT_WR)

    def _drop(self, pending: PendingConnection, reason: str) -> None:
        if not pending.is_refused:
            self._log_closed(pending, reason)
        self._leave_selector(pending)
        pending.sock.close()

    def _log_closed(self, pending: PendingConnection, reason: str) -> None:
        port = "data" if pending.is_data else "command"
        log.info("connection from %s at the %s port closed: %s", pending.peer, port, reason)

    def _drop_oldest(self) -> None:
        for pending in list(self._arrivals)[:1]:
            self._drop(pending, "too many silent connections")

    def time_to_next_deadline(self) -> float | None:
        """Return the seconds until `expire` has something to do; ``None`` for never."""
        first = min((pending.deadline for pending in self._arrivals), default=math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())

    def expire(self) -> None:
        """Close the connections that have been silent for too long."""
        now = time.monotonic()
        for pending in [pending for pending in self._arrivals if pending.deadline <= now]:
            self._drop(pending, f"silent for {self._config.silence_timeout:g} s")
