"""The daemon's selector: calls the function that is registered for each ready descriptor.

A bug in the handling of one connection must cost only that connection, not the server with all its sessions. So this
module, and no other, catches and logs every exception of a callback, and shuts down the connection. The owner of the
connection then sees its end, as if the peer had closed it, and cleans up as usual.

The same holds for the work that the loop does between two waits: a part that fails pauses for a moment, then resumes.
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

_NO_ROOM_PAUSE = 0.5  # seconds without reading from a socket after resources ran out
_PAUSE = 1.0  # seconds for which a failed part pauses: a permanent fault must not keep a processor busy


class CallbackSelector(selectors.EpollSelector):
    """A selector; each entry's data is a function to call when its descriptor is readable."""

    def __init__(self) -> None:
        super().__init__()
        self._has_failed: set[selectors.SelectorKey] = set()

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Stop watching a file object."""
        key = super().unregister(fileobj)
        self._has_failed.discard(key)
        return key

    def call_ready(self, timeout: float | None) -> None:
        """Wait for events, for at most `timeout` seconds, and call their callbacks."""
        try:
            ready = self.select(timeout)
        except Exception:
            log.exception("a fault in the server: it cannot wait for events")
            time.sleep(_PAUSE)
            return
        for key, _ in ready:
            # The callback of another entry may have unregistered this one.
            if self.get_map().get(key.fd) is key:
                self._call(key)

    def _call(self, key: selectors.SelectorKey) -> None:
        try:
            key.data()
        except Exception:
            log.exception("a fault in the server; it closes the connection concerned, if any")
            if key in self._has_failed:  # handling the end of the connection failed, too: give up
                with contextlib.suppress(KeyError, ValueError):
                    self.unregister(key.fileobj)
            else:
                self._shut_down(key)

    def _shut_down(self, key: selectors.SelectorKey) -> None:
        sock = key.fileobj
        if isinstance(sock, socket.socket) and self.get_map().get(key.fd) is key:
            with contextlib.suppress(OSError):
                sock.getpeername()  # fails for a listening socket: the server must keep listening
                self._has_failed.add(key)
                sock.shutdown(socket.SHUT_RDWR)


class Pauses:
    """Sockets that the loop does not watch for a moment, because resources ran out.

    Such a socket stays readable, so watching it would keep a processor busy. Arrivals wait in the system's queue.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._paused: dict[socket.socket, Callable[[], object]] = {}
        self._resume_at = math.inf

    def accept(self, listener: socket.socket, who: str) -> socket.socket | None:
        """Accept a connection; ``None`` if it has gone or must wait. `who`: names the clients in the log."""
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
        """Pause the watch of a socket."""
        self._paused[sock] = self._selector.unregister(sock).data
        self._resume_at = time.monotonic() + _NO_ROOM_PAUSE

    def unregister(self, sock: socket.socket) -> None:
        """Stop watching a socket, whether its watch is paused or not."""
        if self._paused.pop(sock, None) is None:
            self._selector.unregister(sock)

    def next_deadline(self) -> float | None:
        """Return the time at which `resume` has something to do; ``None`` for never."""
        return None if self._resume_at == math.inf else self._resume_at

    def resume(self, now: float) -> None:
        """Watch the sockets again if their pause is over."""
        if self._resume_at <= now:
            self._resume_at = math.inf
            while self._paused:
                sock, callback = self._paused.popitem()
                self._selector.register(sock, selectors.EVENT_READ, callback)


class LoopPart:
    """A part of the daemon that its loop runs.

    `step` does the work that is due. `due` returns the seconds until the next work, or ``None`` if only an event brings
    any; without `due`, `step` returns this. The loop logs their exceptions and continues. `name` is for the log.
    """

    def __init__(
        self, name: str, step: Callable[[], float | None], due: Callable[[], float | None] | None = None
    ) -> None:
        self._name = name
        self._step = step
        self._due = due or self._time_left
        self._due_at = 0.0  # from the last result of `step`
        self._resume_at = 0.0

    def _time_left(self) -> float:
        return max(0.0, self._due_at - time.monotonic())

    def step(self) -> None:
        """Do the work that is due."""
        if time.monotonic() >= self._resume_at:
            left = self._attempt(self._step)
            if left is not None:
                self._due_at = time.monotonic() + left

    def time_left(self) -> float | None:
        """Return the seconds until the next call of `step`; ``None``: not before an event."""
        pause = self._resume_at - time.monotonic()
        return pause if pause > 0 else self._attempt(self._due)

    def _attempt(self, function: Callable[[], _T]) -> _T | float:
        try:
            return function()
        except Exception:
            log.exception("a fault in the server (%s); the server continues", self._name)
            self._resume_at = time.monotonic() + _PAUSE
            return _PAUSE
