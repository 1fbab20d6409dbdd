"""The daemon's selector: calls what is registered for each descriptor that is ready.

A fault of ours in the service of one connection must cost that connection, and not the server with all its sessions. So
here, and nowhere else, any exception of such a function is caught and logged, and the connection is shut down. Whoever
looks after it then sees its end, as if the peer had closed it, and cleans up as ever.
"""

import contextlib
import logging
import selectors
import socket

log = logging.getLogger("pserver")


class CallbackSelector(selectors.EpollSelector):
    """A selector; each entry's data is a function to call when its descriptor can be read from."""

    def __init__(self) -> None:
        super().__init__()
        self._has_failed: set[selectors.SelectorKey] = set()

    def call_ready(self, timeout: float | None) -> None:
        """Wait until something happens, or some seconds have passed, and call what there is to call."""
        for key, _ in self.select(timeout):
            # The callback of another entry may have ended this watch.
            if self.get_map().get(key.fd) is key:
                self._call(key)

    def _call(self, key: selectors.SelectorKey) -> None:
        try:
            key.data()
        except Exception:
            log.exception("a fault in the server; if it concerns a connection, that is closed")
            if key in self._has_failed:  # its end could not be handled either: nothing else is left to try
                self._has_failed.discard(key)
                with contextlib.suppress(KeyError, ValueError):
                    self.unregister(key.fileobj)
            else:
                self._shut_down(key)

    def _shut_down(self, key: selectors.SelectorKey) -> None:
        sock = key.fileobj
        if isinstance(sock, socket.socket) and self.get_map().get(key.fd) is key:
            with contextlib.suppress(OSError):
                sock.getpeername()  # fails for a socket that listens: a server that stops listening is no remedy
                self._has_failed.add(key)
                sock.shutdown(socket.SHUT_RDWR)
