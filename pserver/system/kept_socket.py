"""A Unix socket in the run-time folder that is restored when its path is removed.

A program that cleans up temporary files, or a person, may remove the path. A socket whose path is gone looks fine to
its owner, but clients cannot find it. The owner therefore checks the path from time to time.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from pconnect.errors import AuthenticationError
from pconnect.link.local_link import listen

log = logging.getLogger("pserver")


class KeptSocket:
    """A socket that listens on a path.

    `serve` is called with each new listening socket, `leave` with each one that is about to be closed. `loss`: the
    consequence of having no socket, for the log. Only the holder of the server's pid file may use a path with its name.
    """

    def __init__(
        self,
        path: Path,
        kind: socket.SocketKind,
        serve: Callable[[socket.socket], object],
        leave: Callable[[socket.socket], object],
        loss: str,
    ) -> None:
        self._path = path
        self._kind = kind
        self._serve = serve
        self._leave = leave
        self._loss = loss
        self._sock: socket.socket | None = None
        self._facts: os.stat_result | None = None  # of the path when it was created
        self._has_failed = False

    def keep(self) -> bool:
        """Listen on the path, with a new socket if the path is lost; return whether the socket is listening."""
        if self._is_there():
            return True
        self.close()
        try:
            sock = listen(self._path, self._kind)
        except (OSError, AuthenticationError) as error:
            if not self._has_failed:
                log.warning("%s: cannot listen on %s: %s", self._loss, self._path, error)
            self._has_failed = True
            return False
        sock.setblocking(False)
        self._has_failed = False
        self._sock = sock
        with contextlib.suppress(OSError):  # removed again; the next check will notice
            self._facts = self._path.lstat()
        self._serve(sock)
        return True

    def close(self) -> None:
        """Stop listening; remove the path if it belongs to this socket."""
        if self._sock is None:
            return
        with contextlib.suppress(OSError):
            if self._is_there():
                self._path.unlink()
        self._leave(self._sock)
        self._sock.close()
        self._sock = self._facts = None

    def _is_there(self) -> bool:
        if self._sock is None or self._facts is None:
            return False
        try:
            return os.path.samestat(self._path.lstat(), self._facts)
        except OSError:
            return False
