"""A session's side of slots: what it asks the daemon for, and what it is told; see `pserver.daemon.slot_service`."""

import json
import math
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pserver.session.way_back import WayBack


@dataclass(frozen=True)
class Total:
    """How many slots the server has."""

    count: int


@dataclass(frozen=True)
class Granted:
    """A slot is ours; a process is to be bound to the lease, or the lease to be given back."""

    lease: int


@dataclass(frozen=True)
class Yield:
    """The process of a lease is to end when its present job has ended."""

    lease: int


Event = Total | Granted | Yield

_MESSAGE_BYTES = 1000
_DIAL_SECONDS = 0.5  # between two looks for another daemon; a new one gives them time for several
_PATIENCE = 3600.0  # seconds after which no other daemon is expected


class _Unsent(NamedTuple):
    """A message for which the daemon's queue has no room, with a descriptor of our own."""

    message: Mapping[str, object]
    pidfd: int | None


class SlotClient:
    """The leases of one session.

    No call waits for the daemon. What it has no room for is kept and sent by `read`, for which `fileno` tells. When the
    daemon is gone, or says nothing more, `tend` looks for its successor, which then hears all that counts.

    `control`: the socket to the daemon; non-blocking from now on. `way_back`: how to find a successor, ``None`` if
    there will be none. `total`: how many slots the server has; ``None`` until it has said so.
    """

    def __init__(self, control: socket.socket, way_back: WayBack | None = None) -> None:
        self._control = control
        self._way_back = way_back
        self._unsent: deque[_Unsent] = deque()
        # One descriptor for both: that there is something to read, and that what is unsent can be sent.
        self._ready = select.epoll()
        self._ready.register(control.fileno(), select.EPOLLIN)
        self._asked: tuple[int, bool] | None = None
        self._is_detached = False
        self._away_since = self._due = math.inf
        #: Returns each lease that this session has, with a descriptor of its process, -1 if there is none yet.
        self.leases: Callable[[], Iterable[tuple[int, int]]] = tuple
        self.total: int | None = None
        control.setblocking(False)

    @property
    def is_gone(self) -> bool:
        """Whether there is no daemon, and none is to be expected: then no more slots are granted."""
        away = time.monotonic() - self._away_since
        return away >= (0 if self._way_back is None else _PATIENCE)

    def fileno(self) -> int:
        """Return the descriptor that can be read from when `read` has something to tell."""
        return self._ready.fileno()

    def ask(self, wanted: int, *, exclusive: bool = False) -> None:
        """Say how many slots are wanted in all, if that has changed."""
        if self._asked != (wanted, exclusive):
            self._asked = wanted, exclusive
            # The last wish is the one that counts.
            self._unsent = deque(unsent for unsent in self._unsent if "slots" not in unsent.message)
            self._send({"slots": wanted, "exclusive": exclusive})

    def bind(self, lease: int, pidfd: int) -> None:
        """Say which process has a lease, by a descriptor that stands for it and stays the caller's."""
        self._send({"bind": lease}, pidfd)

    def give_back(self, lease: int) -> None:
        """Give back a lease for which there is no process."""
        self._send({"return": lease})

    def request_spawner(self, end: socket.socket) -> None:
        """Have another process become the spawner at this end of a socket, which stays the caller's."""
        self._send({"spawner": 1}, end.fileno())

    def tell_detached(self) -> None:
        """Say that the session goes on without its client."""
        self._is_detached = True
        self._send({"detached": True})

    def tell_usage(self, counts: Sequence[int], how: str) -> None:
        """Say what the node has used so far, see `pserver.session.usage`, and how it ends; empty while it goes on."""
        self._unsent = deque(unsent for unsent in self._unsent if "used" not in unsent.message)
        self._send({"used": list(counts), "ended": how})

    def _send(self, message: Mapping[str, object], pidfd: int | None = None) -> None:
        if self._way_back is not None and self._is_away:
            return  # the next daemon hears it by `tend`
        self._unsent.append(_Unsent(message, None if pidfd is None else os.dup(pidfd)))
        self._send_unsent()

    @property
    def _is_away(self) -> bool:
        return self._away_since < math.inf

    def _send_unsent(self) -> None:
        events = select.EPOLLIN
        while self._unsent:
            message, pidfd = self._unsent[0]
            ends = [] if pidfd is None else [pidfd]
            try:
                socket.send_fds(self._control, [json.dumps(message).encode()], ends)
            except BlockingIOError:
                events |= select.EPOLLOUT
                break
            except ConnectionError:  # the daemon is gone, which `read` tells
                self._forget_unsent()
                break
            self._unsent.popleft()
            for end in ends:
                os.close(end)
        if not self._is_away:
            self._ready.modify(self._control.fileno(), events)

    def _forget_unsent(self) -> None:
        for unsent in self._unsent:
            if unsent.pidfd is not None:
                os.close(unsent.pidfd)
        self._unsent.clear()

    def close(self) -> None:
        """Close the socket to the daemon."""
        self._forget_unsent()
        self._ready.close()
        self._control.close()

    def read(self) -> list[Event]:
        """Return what the daemon has said."""
        events: list[Event] = []
        if self._is_away:
            return events
        self._send_unsent()
        while True:
            try:
                data = self._control.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return events
            except OSError:
                data = b""
            if not data:
                self._leave()
                return events
            match json.loads(data):
                case {"total": int(count)}:
                    self.total = count
                    events.append(Total(count))
                case {"grant": int(lease)}:
                    events.append(Granted(lease))
                case {"yield": int(lease)}:
                    events.append(Yield(lease))

    # --- another daemon ---

    def _leave(self) -> None:
        self._ready.unregister(self._control.fileno())
        self._away_since = time.monotonic()
        if self._way_back is not None:
            self._forget_unsent()
            self._control.close()
            self._due = self._away_since

    def tend(self) -> float:
        """Look for another daemon if there is none; return in how many seconds to call this again."""
        if self._way_back is None or not self._is_away:
            return math.inf
        now = time.monotonic()
        if now >= self._due:
            self._due = now + _DIAL_SECONDS
            control = self._way_back.dial(is_detached=self._is_detached)
            if control is not None:
                self._return(control)
                return math.inf
        return self._due - now

    def _return(self, control: socket.socket) -> None:
        """Say to a new daemon what the old one knew."""
        self._control, self._away_since = control, math.inf
        self._ready.register(control.fileno(), select.EPOLLIN)
        for lease, pidfd in list(self.leases()):
            self._send({"hold": lease}, None if pidfd < 0 else pidfd)
        if self._asked is not None:
            wanted, exclusive = self._asked
            self._send({"slots": wanted, "exclusive": exclusive})
