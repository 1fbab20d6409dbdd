"""Accepts connections, and classifies each of them.

The acceptor reads just enough of a connection to know where it belongs:

* on the command port, a whole ClientHello with the name of a user, or a preamble: of a client without encryption, or of
  a data connection if only this port is open;
* on the data port, a preamble, which names the network and the node.

A preamble begins with the letter P, and a ClientHello with the type of its TLS record, so the first byte tells them
apart.

Until then, a connection costs only one descriptor. All of these bytes must arrive within `silence_timeout` after the
connection, so sending them slowly gains nothing. The acceptor closes silent connections, and connections that send
anything else, with one line in the log.

It reads the bytes instead of peeking at them: while bytes stay in a socket, waiting for more bytes returns immediately.
It passes them to the session together with the connection, and never reads beyond the ClientHello.
"""

import contextlib
import logging
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path

from pconnect.errors import ProtocolError
from pconnect.protocol.frames import PREAMBLE_BYTES, PREAMBLE_MAGIC, Preamble, Purpose, check_first_word
from pserver.config.server_config import ServerConfig
from pserver.daemon.door.arrivals import Arrivals, PendingConnection, Source
from pserver.daemon.door.client_hello import TLS_HANDSHAKE, Alert
from pserver.daemon.door.listeners import Listeners
from pserver.system import audit
from pserver.system.runtime_dir import run_time_folder
from srp_tools.errors import ConfigurationError

log = logging.getLogger("pserver")

_PREAMBLE_BEGIN = PREAMBLE_MAGIC[:1]
_MAX_ARRIVALS = 1000  # beyond that, a silent connection must make room


class Acceptor:
    """The listening sockets, and the connections that have not yet identified themselves.

    `config`: has the ports and the time limit for silence. `selector`: the daemon's; each entry's data is a function to
    call. `on_client`, `on_data`: take over a login and a data connection. `make_room`: closes a connection elsewhere
    that can be spared, if there is none here; returns whether there was one. Raises `ConfigurationError` if a port is
    not available; all sockets are then closed.
    """

    def __init__(
        self,
        config: ServerConfig,
        selector: selectors.BaseSelector,
        on_client: Callable[[PendingConnection], None],
        on_data: Callable[[PendingConnection, Preamble], None],
        *,
        make_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._selector = selector
        self._on_client = on_client
        self._on_data = on_data
        self._make_room_elsewhere = make_room
        self._arrivals = Arrivals()
        self._networks = config.allowed_networks()
        self._listeners = Listeners(selector, config.addresses(), self._arrive, self._make_room)
        self.cmd_port = self.data_port = 0  #: 0 without TCP
        self.socket: Path | None = None  #: for logins without TCP
        try:
            self._listen()
        except BaseException:
            self._listeners.close()
            raise

    def _listen(self) -> None:
        config = self._config
        if config.use_tcp:
            self.cmd_port = self._listeners.listen(config.cmd_port, "--cmd-port", is_data=False)
            self.data_port = self.cmd_port
            if not config.one_port:
                self.data_port = self._listeners.listen(config.data_port, "--data-port", is_data=True)
            return
        if config.has_accounts:
            raise ConfigurationError(
                "--no-tcp works for one account only, but root started this server, so each user has an account; "
                "leave out --no-tcp"
            )
        self.socket = run_time_folder() / f"{config.name}.logins"
        if not self._listeners.listen_locally(self.socket, is_data=False):
            raise _no_socket(self.socket)

    @property
    def where(self) -> str:
        """The addresses and ports of the server, for people."""
        if self.socket is not None:
            return f"the socket {self.socket}"
        addresses = ", ".join(self._config.addresses()) or "all addresses"
        if self.cmd_port == self.data_port:
            return f"{addresses}, port {self.cmd_port} (commands and data)"
        return f"{addresses}, ports {self.cmd_port} (commands) and {self.data_port} (data)"

    def reconfigure(self, config: ServerConfig) -> None:
        """Apply new settings for allowed addresses and for silence; the ports stay the same."""
        self._config = config
        self._networks = config.allowed_networks()

    def close(self) -> None:
        """Close the listening sockets and the remaining connections."""
        for pending in self._arrivals:
            pending.sock.close()
        self._listeners.close()

    def listen_locally(self, path: Path) -> bool:
        """Also accept data connections of this account on a Unix socket; return whether that works.

        Raises `ConfigurationError` if it does not, and the server has no TCP ports.
        """
        can = self._listeners.listen_locally(path, is_data=True)
        if not can and not self._config.use_tcp:
            raise _no_socket(path)
        return can

    def look_after_path(self) -> None:
        """Create the Unix sockets again whose paths were removed."""
        self._listeners.look_after_paths()

    def _arrive(self, sock: socket.socket, source: Source, is_data: bool) -> None:
        if not self._is_allowed(source):
            audit.refused(str(source), None, "not among the addresses of --allow-from")
            sock.close()
            return
        pending = PendingConnection(sock, source, is_data, time.monotonic() + self._config.silence_timeout)
        if len(self._arrivals) >= _MAX_ARRIVALS:
            self._make_room()
        self._arrivals.add(pending)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._look_at(pending))

    def _is_allowed(self, source: Source) -> bool:
        if not self._networks or source.address is None:
            return True
        return any(source.address in network for network in self._networks)

    def _make_room(self) -> bool:
        pending = self._arrivals.least_entitled()
        if pending is None:
            return self._make_room_elsewhere()
        self._drop(pending, "too many silent connections")
        return True

    def _look_at(self, pending: PendingConnection) -> None:
        try:
            if pending.is_refused:
                if not pending.sock.recv(2**16):
                    self._drop(pending, "")
            elif pending.is_data or not self._config.use_tls or pending.received.startswith(_PREAMBLE_BEGIN):
                self._read_preamble(pending)
            else:
                self._read_hello(pending)
        except BlockingIOError:  # more bytes will come
            pass
        except OSError as error:
            self._drop(pending, f"connection lost: {error}")

    def _read_hello(self, pending: PendingConnection) -> None:
        while wanted := pending.hello.wants:
            data = pending.sock.recv(wanted)
            if not data:
                self._drop(
                    pending, "the peer closed it too early" if pending.received else "the peer sent nothing"
                )
                return
            pending.received += data
            if pending.received.startswith(_PREAMBLE_BEGIN):
                self._read_preamble(pending, data)
                return
            try:
                pending.hello.feed(data)
            except ProtocolError as error:
                if pending.received[0] == TLS_HANDSHAKE:
                    self._refuse(pending, Alert.DECODE_ERROR.record(), str(error))
                else:
                    self._drop(pending, str(error))
                return
        if pending.hello.user is None:
            # RFC 5054, section 2.5.1.2
            self._refuse(
                pending, Alert.UNKNOWN_PSK_IDENTITY.record(), "its ClientHello names no user for SRP"
            )
        else:
            self._leave_selector(pending)
            self._on_client(pending)

    def _read_preamble(self, pending: PendingConnection, data: bytes = b"") -> None:
        """Read the rest of a preamble; `data`: the bytes that were just read."""
        if not data:
            data = pending.sock.recv(PREAMBLE_BYTES - len(pending.received))
            pending.received += data
        try:
            check_first_word(pending.received, "the client")
        except ProtocolError as error:
            self._refuse(pending, Preamble(Purpose.OTHER_VERSION).pack(), str(error))
            return
        if not PREAMBLE_MAGIC.startswith(pending.received[:4]) or not data:
            self._drop(pending, "not a client of pserver" if data else "the peer closed it too early")
        elif len(pending.received) == PREAMBLE_BYTES:
            try:
                preamble = Preamble.unpack(bytes(pending.received))
            except ProtocolError as error:
                self._drop(pending, str(error))
            else:
                self._place(pending, preamble)

    def _place(self, pending: PendingConnection, preamble: Preamble) -> None:
        if preamble.purpose is not Purpose.COMMAND:
            self._leave_selector(pending)
            self._on_data(pending, preamble)
        elif pending.is_data:
            answer = Preamble(Purpose.WRONG_PORT, endpoint=self.cmd_port)
            self._refuse(pending, answer.pack(), "a client that wants the command port")
        elif self._config.use_tls:
            self._refuse(pending, Preamble(Purpose.NEEDS_TLS).pack(), "a client without TLS")
        else:
            self._leave_selector(pending)
            self._on_client(pending)

    def _leave_selector(self, pending: PendingConnection) -> None:
        self._selector.unregister(pending.sock)
        self._arrivals.remove(pending)

    def _refuse(self, pending: PendingConnection, answer: bytes, reason: str) -> None:
        """Send an answer, and let the peer close the connection.

        If we closed it, unread data from the peer would reset the connection, and the answer could be lost.
        """
        self._log_closed(pending, reason)
        pending.is_refused = True
        with contextlib.suppress(OSError):
            pending.sock.send(answer)
            pending.sock.shutdown(socket.SHUT_WR)

    def _drop(self, pending: PendingConnection, reason: str) -> None:
        if not pending.is_refused:
            self._log_closed(pending, reason)
        self._leave_selector(pending)
        pending.sock.close()

    def _log_closed(self, pending: PendingConnection, reason: str) -> None:
        port = "data" if pending.is_data else "command"
        log.info("connection from %s at the %s port closed: %s", pending.peer, port, reason)

    def time_to_next_deadline(self) -> float | None:
        """Return the seconds until `expire` has something to do; ``None`` for never."""
        deadlines = (self._arrivals.next_deadline(), self._listeners.next_deadline())
        first = min((instant for instant in deadlines if instant is not None), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def expire(self) -> None:
        """Close the connections that have been silent for too long."""
        now = time.monotonic()
        for pending in self._arrivals.expired(now):
            self._drop(pending, f"silent for {self._config.silence_timeout:g} s")
        self._listeners.resume(now)


def _no_socket(path: Path) -> ConfigurationError:
    return ConfigurationError(f"--no-tcp: cannot listen on the socket {path}; the log says why")
