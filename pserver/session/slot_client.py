"""A session's side of slots: what it asks the daemon for, and what it is told; see `pserver.daemon.slot_service`."""

import json
import math
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pserver.ctl.long_messages import receive_long
from pserver.session.way_back import WayBack
from pserver.system.descriptors import NoRoomError, Outbox


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

_MOST_QUESTIONS = 100
_DIAL_SECONDS = 0.5  # between two looks for another daemon; a new one gives them time for several
_RETRY_SECONDS = 0.05  # until what the system refuses to send is tried again
_PATIENCE = 3600.0  # seconds after which no other daemon is expected


class _Questions:
    """Who waits for statistics of the server, by number of the question."""

    def __init__(self) -> None:
        self._last = 0
        self._takes: dict[int, Callable[[Mapping[str, object]], object]] = {}

    def add(self, take: Callable[[Mapping[str, object]], object]) -> int:
        """Return the number of a question to whose answer `take` is given."""
        self._last += 1
        self._takes[self._last] = take
        if len(self._takes) > _MOST_QUESTIONS:  # a daemon that has ended answers none
            del self._takes[next(iter(self._takes))]
        return self._last

    def answer(self, number: int, told: Mapping[str, object]) -> None:
        """Pass an answer on; one that nobody waits for is nothing."""
        if number in self._takes:
            self._takes.pop(number)(told)


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
        self._outbox = Outbox()
        # One descriptor for both: that there is something to read, and that what is unsent can be sent.
        self._ready = select.epoll()
        self._ready.register(control.fileno(), select.EPOLLIN)
        self._asked: tuple[int, bool] | None = None
        self._is_detached = False
        self._orphaned_since: float | None = None
        self._usage: dict[str, object] = {}  # as told at last
        self._spawner_end = -1  # a copy of the end at which a spawner was asked for at last
        self._away_since = self._due = math.inf
        #: Returns each lease that this session has, with a descriptor of its process, -1 if there is none yet.
        self.leases: Callable[[], Iterable[tuple[int, int]]] = tuple
        #: Called with the reason if the daemon says that the session is to end.
        self.on_end: Callable[[str], object] = lambda _: None
        self._questions = _Questions()
        self.total: int | None = None
        control.setblocking(False)

    @property
    def is_gone(self) -> bool:
        """Whether there is no daemon, and none is to be expected: then no more slots are granted."""
        away = time.monotonic() - self._away_since
        return away >= (0 if self._way_back is None else _PATIENCE)

    @property
    def has_daemon(self) -> bool:
        """Whether there is a daemon, as far as that was seen."""
        return self._away_since == math.inf

    def fileno(self) -> int:
        """Return the descriptor that can be read from when `read` has something to tell."""
        return self._ready.fileno()

    def ask(self, wanted: int, *, exclusive: bool = False) -> None:
        """Say how many slots are wanted in all, if that has changed."""
        if self._asked != (wanted, exclusive):
            self._asked = wanted, exclusive
            # The last wish is the one that counts.
            self._send("slots", {"slots": wanted, "exclusive": exclusive})

    def bind(self, lease: int, pidfd: int) -> None:
        """Say which process has a lease, by a descriptor that stands for it and stays the caller's."""
        self._send("", {"bind": lease}, pidfd)

    def give_back(self, lease: int) -> None:
        """Give back a lease for which there is no process, or none any more."""
        self._send("", {"return": lease})

    def request_spawner(self, end: socket.socket) -> None:
        """Have another process become the spawner at this end of a socket, which stays the caller's."""
        self._forget_spawner()
        self._spawner_end = os.dup(end.fileno())
        self._send("spawner", {"spawner": 1}, self._spawner_end)

    def ask_members(self, end: socket.socket) -> None:
        """Have the daemon send the members of the server to this end of a socket, which stays the caller's."""
        self._send("", {"members": True}, end.fileno())

    def tell_detached(self) -> None:
        """Say that the session goes on without its client."""
        self._is_detached = True
        self._send("detached", {"detached": True})

    def tell_orphaned(self, since: float | None) -> None:
        """Say since when the session has been without its client; ``None``: it is there again."""
        self._orphaned_since = since
        self._send("orphaned", {"orphaned": since})

    def tell_work(self, words: Mapping[str, object]) -> bool:
        """Say what workers have done, if the daemon has taken all before; see `pserver.statistics.work_report`."""
        if not self.has_daemon or len(self._outbox):
            return False
        self._send("", words)
        return True

    def ask_statistics(
        self, wanted: Mapping[str, object], take: Callable[[Mapping[str, object]], object]
    ) -> None:
        """Ask the daemon for the statistics of the server; `take` is called with them, or with why there are none."""
        number = self._questions.add(take)
        if not self.tell_work({"statistics": wanted, "number": number}):
            self._questions.answer(number, {"error": "its server has ended, or is busy"})

    def tell_usage(self, counts: Sequence[int], how: str, *, running: int = 0, memory: int = 0) -> None:
        """Say what the node has used so far, see `pserver.session.usage`, and how it ends; empty while it goes on.

        `running`: how many commands and jobs run now. `memory`: bytes that engine and workers occupy.
        """
        self._usage = {"used": list(counts), "running": running, "memory": memory, "ended": how}
        self._send("used", self._usage)

    def _send(self, topic: str, message: Mapping[str, object], end: int = -1) -> None:
        """Send a message, in place of what is unsent on its topic."""
        if self._way_back is None or self.has_daemon:
            ends = [] if end < 0 else [end]
            self._after_sending(
                self._outbox.post(self._control, json.dumps(message).encode(), ends, topic=topic)
            )
        # Else the next daemon hears in `_return` all that still counts.

    def _after_sending(self, met: OSError | None) -> None:
        if isinstance(met, ConnectionError):  # the daemon is gone, which `read` tells
            self._outbox.clear()
        if self.has_daemon:
            is_full = isinstance(met, BlockingIOError)  # after another error, `tend` tries again
            self._ready.modify(self._control.fileno(), select.EPOLLIN | select.EPOLLOUT * is_full)

    def _forget_spawner(self) -> None:
        if self._spawner_end >= 0:
            os.close(self._spawner_end)
            self._spawner_end = -1

    def _has_spawner(self) -> bool:
        """Whether a process is at the end at which one was asked for: it has taken what the node has said there."""
        with socket.socket(fileno=os.dup(self._spawner_end)) as end:
            try:
                return not end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except OSError:
                return True

    def close(self) -> None:
        """Close the socket to the daemon."""
        self._outbox.clear()
        self._forget_spawner()
        self._ready.close()
        self._control.close()

    def read(self) -> list[Event]:
        """Return what the daemon has said."""
        events: list[Event] = []
        if not self.has_daemon:
            return events
        self._after_sending(self._outbox.send(self._control))
        while True:
            try:
                data = receive_long(self._control)
            except BlockingIOError:
                return events
            except NoRoomError:  # a long answer, for whose descriptor there is no room here: it is lost
                continue
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
                case words:
                    self._take(words)

    def _take(self, words: object) -> None:
        """Take what is not about slots."""
        match words:
            case {"end": str(reason)}:
                self.on_end(reason)
            case {"statistics": dict(document), "number": int(number)}:
                self._questions.answer(number, document)

    # --- another daemon ---

    def _leave(self) -> None:
        self._ready.unregister(self._control.fileno())
        self._away_since = time.monotonic()
        if self._way_back is not None:
            self._outbox.clear()
            self._control.close()
            self._due = self._away_since

    def tend(self) -> float:
        """Look for another daemon if there is none; return in how many seconds to call this again."""
        if self._spawner_end >= 0 and self._has_spawner():
            self._forget_spawner()
        if self.has_daemon and len(self._outbox):
            self._after_sending(self._outbox.send(self._control))
            return _RETRY_SECONDS
        if self._way_back is None or self.has_daemon:
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
            self._send("", {"hold": lease}, pidfd)
        if self._asked is not None:
            wanted, exclusive = self._asked
            self._send("slots", {"slots": wanted, "exclusive": exclusive})
        if self._orphaned_since is not None:
            self._send("orphaned", {"orphaned": self._orphaned_since})
        if self._usage:
            self._send("used", self._usage)
        if self._spawner_end >= 0:
            self._send("spawner", {"spawner": 1}, self._spawner_end)
