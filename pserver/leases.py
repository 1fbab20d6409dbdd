"""A session's side of slots: what it asks the daemon for, and what it is told; see `pserver.slot_office`."""

import contextlib
import json
import socket
from dataclasses import dataclass


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


class Leases:
    """The leases of one session.

    Parameters
    ----------
    control
        The socket to the daemon; non-blocking from now on.

    Attributes
    ----------
    is_gone
        Whether the daemon is gone: then there is nobody who grants slots. What is there goes on.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._asked: tuple[int, bool] | None = None
        self.is_gone = False
        control.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that can be read from when `read` has something to tell."""
        return self._control.fileno()

    def ask(self, wanted: int, *, exclusive: bool = False) -> None:
        """Say how many slots are wanted in all, if that has changed."""
        if self._asked != (wanted, exclusive):
            self._asked = wanted, exclusive
            self._send({"slots": wanted, "exclusive": exclusive})

    def bind(self, lease: int, pidfd: int) -> None:
        """Say which process has a lease, by a descriptor that stands for it."""
        self._send({"bind": lease}, [pidfd])

    def give_back(self, lease: int) -> None:
        """Give back a lease for which there is no process."""
        self._send({"return": lease})

    def _send(self, message: dict[str, int | bool], ends: list[int] | None = None) -> None:
        with contextlib.suppress(OSError):  # the daemon is gone, which `read` tells
            socket.send_fds(self._control, [json.dumps(message).encode()], ends or [])

    def read(self) -> list[Event]:
        """Return what the daemon has said."""
        events: list[Event] = []
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
                    events.append(Total(count))
                case {"grant": int(lease)}:
                    events.append(Granted(lease))
                case {"yield": int(lease)}:
                    events.append(Yield(lease))
