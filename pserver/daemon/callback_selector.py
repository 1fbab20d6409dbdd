"""The daemon's selector: calls what is registered for each descriptor that is ready.

A fault of ours in the service of one connection must cost that connection, and not the server with all its sessions. So
here, and nowhere else, any exception of such a function is caught and logged, and the connection is shut down. Whoever
looks after it then sees its end, as if the peer had closed it, and cleans up as ever.

The same holds for what the loop does between two waits: a part that fails is left alone for a moment, and then goes on.
"""

import contextlib
import logging
import math
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

log = logging.getLogger("pserver")

_NO_ROOM_PAUSE = 0.5  # seconds for which nothing is taken from a socket after there was no room
_PAUSE = 1.0  # seconds for which a part that has failed is left alone: a fault that stays must not spin


class CallbackSelector(selectors.EpollSelector):
    """A selector; each entry's data is a function to call when its descriptor can be read from."""

    def __init__(self) -> None:
        super().__init__()
        self._has_failed: set[selectors.SelectorKey] = set()

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """End a watch."""
        key = super().unregister(fileobj)
        self._has_failed.discard(key)
        return key

    def call_ready(self, timeout: float | None) -> None:
        """Wait until something happens, or some seconds have passed, and call what there is to call."""
        try:
            ready = self.select(timeout)
        except Exception:
            log.exception("a fault in the server: it cannot wait for what happens")
            time.sleep(_PAUSE)
            return
        for key, _ in ready:
            # The callback of another entry may have ended this watch.
            if self.get_map().get(key.fd) is key:
                self._call(key)

    def _call(self, key: selectors.SelectorKey) -> None:
        try:
            key.data()
        except Exception:
            log.exception("a fault in the server; if it concerns a connection, that is closed")
            if key in self._has_failed:  # its end could not be handled either: nothing else is left to try
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


class Pauses:
    """Sockets that can be read from all the time, though there is no room to take anything: to look again is to spin.

    So the loop looks away from them for a moment. What comes waits in the system's queue.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._paused: dict[socket.socket, Callable[[], object]] = {}
        self._resume_at = math.inf

    def accept(self, listener: socket.socket, who: str) -> socket.socket | None:
        """Return a connection that has come; ``None`` if it has gone, or must wait. `who`: comes there, for the log."""
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError as error:
            log.warning("%s must wait: %s", who, error)
            self.look_away(listener)
            return None
        return sock

    def look_away(self, sock: socket.socket) -> None:
        """Look away from a socket that is watched."""
        self._paused[sock] = self._selector.unregister(sock).data
        self._resume_at = time.monotonic() + _NO_ROOM_PAUSE

    def unregister(self, sock: socket.socket) -> None:
        """End the watch of a socket, whether we look away from it or not."""
        if self._paused.pop(sock, None) is None:
            self._selector.unregister(sock)

    def next_deadline(self) -> float | None:
        """Return the instant at which `resume` has something to do; ``None`` for never."""
        return None if self._resume_at == math.inf else self._resume_at

    def resume(self, now: float) -> None:
        """Look again if a pause is over."""
        if self._resume_at <= now:
            self._resume_at = math.inf
            while self._paused:
                sock, callback = self._paused.popitem()
                self._selector.register(sock, selectors.EVENT_READ, callback)


class LoopPart:
    """A part of the daemon that its loop looks after.

    `step`: does what is due. `due`: returns in how many seconds there is something to do; ``None`` for not before
    something happens. Without it, `step` returns that. Whatever they raise is logged, and ends nothing. `name` is for
    the log.
    """

    def __init__(
        self, name: str, step: Callable[[], float | None], due: Callable[[], float | None] | None = None
    ) -> None:
        self._name = name
        self._step = step
        self._due = due or self._time_left
        self._due_at = 0.0  # as `step` has said
        self._resume_at = 0.0

    def _time_left(self) -> float:
        return max(0.0, self._due_at - time.monotonic())

    def step(self) -> None:
        """Do what is due."""
        if time.monotonic() >= self._resume_at:
            left = self._attempt(self._step)
            if left is not None:
                self._due_at = time.monotonic() + left

    def time_left(self) -> float | None:
        """Return in how many seconds to call `step`; ``None``: not before something happens."""
        pause = self._resume_at - time.monotonic()
        return pause if pause > 0 else self._attempt(self._due)

    def _attempt(self, function: Callable[[], _T]) -> _T | float:
        try:
            return function()
        except Exception:
            log.exception("a fault in the server (%s); it goes on", self._name)
            self._resume_at = time.monotonic() + _PAUSE
            return _PAUSE
