"""A Unix socket in the run-time folder, which stays there although something removes its path.

A path there is easily lost: to a program that cleans temporary files, or to somebody who tidies up. A socket that
listens at a path that is gone looks well and is never found. So whoever keeps one looks for its path now and then.
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
    """A socket that listens at a path.

    `serve` is called with each socket that listens there, `leave` with each that is about to be closed. `loss`: what it
    means if there is none, for the log. Only the holder of the server's pid file may have one at a path with its name.
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
        self._facts: os.stat_result | None = None  # of the path, as it was made
        self._has_failed = False

    def keep(self) -> bool:
        """Listen at the path, with another socket if that is not ours any more; return whether that can be done."""
        if self._is_there():
            return True
        self.close()
        try:
            sock = listen(self._path, self._kind)
        except (OSError, AuthenticationError) as error:
            if not self._has_failed:
                log.warning("%s: cannot listen at %s: %s", self._loss, self._path, error)
            self._has_failed = True
            return False
        sock.setblocking(False)
        self._has_failed = False
        self._sock = sock
        with contextlib.suppress(OSError):  # it is gone again, which the next look sees
            self._facts = self._path.lstat()
        self._serve(sock)
        return True

    def close(self) -> None:
        """Listen no more; remove the path, if it is ours."""
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
