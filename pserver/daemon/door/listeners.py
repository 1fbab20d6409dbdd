"""The listening sockets, and the limit for open descriptors.

The system gives a new descriptor the lowest free number. So this number is a lower bound for the number of open
descriptors, whatever their purpose, and one comparison limits all of them. Connections of strangers leave a reserve
free: for starting sessions, for passing on data connections, for the status file and for the log.
"""

import contextlib
import logging
import os
import resource
import selectors
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from pconnect.errors import AuthenticationError
from pconnect.link.local_link import check_account, is_local
from pserver.daemon.callback_selector import Pauses
from pserver.daemon.door.arrivals import Source
from pserver.daemon.door.bound_sockets import listen_at
from pserver.system.kept_socket import KeptSocket

log = logging.getLogger("pserver")

_BATCH = 64  # connections to accept before the daemon does its other work
_RESERVE = 64  # descriptors; at most a quarter of the limit


class Listeners:
    """Sockets that accept connections.

    `selector`: the daemon's; each entry's data is a function to call. `addresses`: the addresses to listen on; empty:
    all of this machine. `on_connection`: takes over a socket, with its source, and whether it arrived on a data port.
    `make_room`: closes a connection that can be spared; returns whether there was one.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        addresses: Sequence[str],
        on_connection: Callable[[socket.socket, Source, bool], None],
        make_room: Callable[[], bool],
    ) -> None:
        self._selector = selector
        self._addresses = addresses
        self._on_connection = on_connection
        self._make_room = make_room
        self._open = contextlib.ExitStack()
        self._local: list[KeptSocket] = []
        self._pauses = Pauses(selector)
        #: As in `Pauses`.
        self.next_deadline, self.resume = self._pauses.next_deadline, self._pauses.resume
        total = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._reserve = min(_RESERVE, total // 4)
        self._room = total - self._reserve

    def close(self) -> None:
        """Close all sockets."""
        self._open.close()

    def listen(self, port: int, option: str, *, is_data: bool) -> int:
        """Listen on a TCP port of each address; return its number, which is the same for all.

        `option`: the option that set the port, for errors. Raises `ConfigurationError` if the port is not available.
        """
        listeners = listen_at(self._addresses, port, option)
        for listener in listeners:
            self._open.enter_context(listener)
            self._serve(listener, is_data=is_data)
        return int(listeners[0].getsockname()[1])

    def listen_locally(self, path: Path, *, is_data: bool) -> bool:
        """Also listen on a Unix socket for this account; return whether that works."""
        local = KeptSocket(
            path,
            socket.SOCK_STREAM,
            lambda listener: self._serve(listener, is_data=is_data),
            self._pauses.unregister,
            "no local links" if is_data else "no logins",
        )
        self._local.append(local)
        self._open.callback(local.close)
        return local.keep()

    def look_after_paths(self) -> None:
        """Create the Unix sockets again whose paths were removed."""
        for local in self._local:
            local.keep()

    def _serve(self, listener: socket.socket, *, is_data: bool) -> None:
        listener.setblocking(False)
        self._selector.register(
            listener, selectors.EVENT_READ, lambda: self._accept(listener, is_data=is_data)
        )

    def _accept(self, listener: socket.socket, *, is_data: bool) -> None:
        # Data connections are passed on immediately, or closed soon: they may use half of the reserve.
        room = self._room + self._reserve // 2 * is_data
        for _ in range(_BATCH):
            try:
                # Before accepting: then the connection gets the number that became free, or waits in the queue.
                if _lowest_free(listener) >= room and not self._make_room():
                    self._pause(listener, "sessions use all descriptors except the reserve")
                    return
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._make_room()
                self._pause(listener, error.strerror)
                return
            self._take(sock, address, is_data=is_data)

    def _take(self, sock: socket.socket, address: object, *, is_data: bool) -> None:
        try:
            if is_local(sock):
                check_account(sock)
        except AuthenticationError as error:
            log.warning("refused a local connection: %s", error)
            sock.close()
            return
        sock.setblocking(False)
        self._on_connection(sock, Source() if is_local(sock) else Source.of(address), is_data)

    def _pause(self, listener: socket.socket, reason: str | None) -> None:
        log.warning("connections must wait: %s", reason)
        self._pauses.look_away(listener)


def _lowest_free(sock: socket.socket) -> int:
    """Return the number of the next descriptor. Raises `OSError` if there are too many open files."""
    number = os.dup(sock.fileno())
    os.close(number)
    return number
