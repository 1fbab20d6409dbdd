"""A session's side of slots: what it asks the daemon for, and what it is told; see `pserver.daemon.slot_service`."""

import json
import os
import select
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


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


class _Unsent(NamedTuple):
    """A message for which the daemon's queue has no room, with a descriptor of our own."""

    message: Mapping[str, object]
    pidfd: int | None


class SlotClient:
    """The leases of one session.

    No call waits for the daemon. What it has no room for is kept and sent by `read`, for which `fileno` tells.

    `control`: the socket to the daemon; non-blocking from now on. `total`: how many slots the server has; ``None``
    until it has said so. `is_gone`: whether the daemon is gone, or says nothing more: then no more slots are granted.
    Workers that are there go on.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._unsent: deque[_Unsent] = deque()
        # One descriptor for both: that there is something to read, and that what is unsent can be sent.
        self._ready = select.epoll()
        self._ready.register(control.fileno(), select.EPOLLIN)
        self._asked: tuple[int, bool] | None = None
        self.total: int | None = None
        self.is_gone = False
        control.setblocking(False)

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
        self._send({"detached": True})

    def tell_usage(self, counts: Sequence[int], how: str) -> None:
        """Say what the node has used so far, see `pserver.session.usage`, and how it ends; empty while it goes on."""
        self._unsent = deque(unsent for unsent in self._unsent if "used" not in unsent.message)
        self._send({"used": list(counts), "ended": how})

    def _send(self, message: Mapping[str, object], pidfd: int | None = None) -> None:
        self._unsent.append(_Unsent(message, None if pidfd is None else os.dup(pidfd)))
        self._send_unsent()

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
        self._send_unsent()
        while True:
            try:
                data = self._control.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return events
            except OSError:
                data = b""
            if not data:
                self.is_gone = True
                return events
            match json.loads(data):
                case {"total": int(count)}:
                    self.total = count
                    events.append(Total(count))
                case {"grant": int(lease)}:
                    events.append(Granted(lease))
                case {"yield": int(lease)}:
                    events.append(Yield(lease))
