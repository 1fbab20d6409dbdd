"""A session's side of slots: its requests to the daemon, and the answers; see `pserver.daemon.slot_service`."""

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
    """The number of slots that the server has."""

    count: int


@dataclass(frozen=True)
class Granted:
    """The session has a new lease, which it must bind to a process or give back."""

    lease: int


@dataclass(frozen=True)
class Yield:
    """The process of a lease must end after its current job."""

    lease: int


Event = Total | Granted | Yield

_MOST_QUESTIONS = 100
_DIAL_SECONDS = (
    0.5  # between two attempts to reach a new daemon, which waits long enough for several attempts
)
_RETRY_SECONDS = 0.05  # until the next attempt to send messages that the system refused
_PATIENCE = 3600.0  # seconds after which the session expects no new daemon


class _Questions:
    """The open questions for statistics of the server, by number."""

    def __init__(self) -> None:
        self._last = 0
        self._takes: dict[int, Callable[[Mapping[str, object]], object]] = {}

    def add(self, take: Callable[[Mapping[str, object]], object]) -> int:
        """Return a number for a new question; `take`: called with the answer."""
        self._last += 1
        self._takes[self._last] = take
        if len(self._takes) > _MOST_QUESTIONS:  # a daemon that has ended leaves questions unanswered
            del self._takes[next(iter(self._takes))]
        return self._last

    def answer(self, number: int, told: Mapping[str, object]) -> None:
        """Pass an answer on; ignore it if the question is not open."""
        if number in self._takes:
            self._takes.pop(number)(told)


class SlotClient:
    """The leases of one session.

    No call waits for the daemon. If the socket is full, the client keeps messages, and `read` sends them once `fileno`
    is ready. When the daemon is gone, or has closed its sending side, `tend` looks for its successor and sends it the
    current state.

    `control`: the socket to the daemon; the client makes it non-blocking. `way_back`: how to find a successor, or
    ``None``. `total`: the number of slots of the server; ``None`` until the daemon has sent it.
    """

    def __init__(self, control: socket.socket, way_back: WayBack | None = None) -> None:
        self._control = control
        self._way_back = way_back
        self._outbox = Outbox()
        # One descriptor for both: there are messages to read, and unsent messages can be sent.
        self._ready = select.epoll()
        self._ready.register(control.fileno(), select.EPOLLIN)
        self._asked: tuple[int, bool] | None = None
        self._is_detached = False
        self._orphaned_since: float | None = None
        self._usage: dict[str, object] = {}  # as last reported
        self._spawner_end = -1  # a copy of the socket of the last request for a spawner
        self._away_since = self._due = math.inf
        #: Returns the leases of this session, each with a descriptor of its process, or -1 before there is a process.
        self.leases: Callable[[], Iterable[tuple[int, int]]] = tuple
        #: Called with the reason if the daemon asks the session to end.
        self.on_end: Callable[[str], object] = lambda _: None
        self._questions = _Questions()
        self.total: int | None = None
        control.setblocking(False)

    @property
    def is_gone(self) -> bool:
        """Whether there is no daemon and the session expects none, so there will be no more slots."""
        away = time.monotonic() - self._away_since
        return away >= (0 if self._way_back is None else _PATIENCE)

    @property
    def has_daemon(self) -> bool:
        """Whether there is a daemon, as far as the session has noticed."""
        return self._away_since == math.inf

    def fileno(self) -> int:
        """Return a descriptor that is readable when `read` has something to do."""
        return self._ready.fileno()

    def ask(self, wanted: int, *, exclusive: bool = False) -> None:
        """Request a total number of slots, if the number has changed."""
        if self._asked != (wanted, exclusive):
            self._asked = wanted, exclusive
            # Only the latest request counts.
            self._send("slots", {"slots": wanted, "exclusive": exclusive})

    def bind(self, lease: int, pidfd: int) -> None:
        """Tell the daemon which process has a lease, with its pidfd; the caller keeps the descriptor."""
        self._send("", {"bind": lease}, pidfd)

    def give_back(self, lease: int) -> None:
        """Give back a lease that has no process, or whose process has ended."""
        self._send("", {"return": lease})

    def request_spawner(self, end: socket.socket) -> None:
        """Request a new spawner process that uses this socket; the caller keeps its own copy."""
        self._forget_spawner()
        self._spawner_end = os.dup(end.fileno())
        self._send("spawner", {"spawner": 1}, self._spawner_end)

    def ask_members(self, end: socket.socket) -> None:
        """Have the daemon send the members of the pool to this socket; the caller keeps its own copy."""
        self._send("", {"members": True}, end.fileno())

    def tell_detached(self) -> None:
        """Report that the session continues without its client."""
        self._is_detached = True
        self._send("detached", {"detached": True})

    def tell_orphaned(self, since: float | None) -> None:
        """Report when the client vanished; ``None``: it has come back."""
        self._orphaned_since = since
        self._send("orphaned", {"orphaned": since})

    def tell_work(self, words: Mapping[str, object]) -> bool:
        """Report the workers' work, see `pserver.statistics.work_report`; false if the daemon does not keep up."""
        if not self.has_daemon or len(self._outbox):
            return False
        self._send("", words)
        return True

    def ask_statistics(
        self, wanted: Mapping[str, object], take: Callable[[Mapping[str, object]], object]
    ) -> None:
        """Ask the daemon for the statistics of the server; `take`: called with them, or with an error."""
        number = self._questions.add(take)
        if not self.tell_work({"statistics": wanted, "number": number}):
            self._questions.answer(number, {"error": "its server has ended, or is busy"})

    def tell_usage(self, counts: Sequence[int], how: str, *, running: int = 0, memory: int = 0) -> None:
        """Report the node's resource usage, see `pserver.session.usage`, and the reason of its end, if it ends.

        `running`: the number of running commands and jobs. `memory`: bytes used by the engine and the workers.
        """
        self._usage = {"used": list(counts), "running": running, "memory": memory, "ended": how}
        self._send("used", self._usage)

    def _send(self, topic: str, message: Mapping[str, object], end: int = -1) -> None:
        """Send a message; it replaces an unsent message of the same topic."""
        if self._way_back is None or self.has_daemon:
            ends = [] if end < 0 else [end]
            self._after_sending(
                self._outbox.post(self._control, json.dumps(message).encode(), ends, topic=topic)
            )
        # Otherwise, `_return` sends the current state to the next daemon.

    def _after_sending(self, met: OSError | None) -> None:
        if isinstance(met, ConnectionError):  # the daemon is gone, as `read` will notice
            self._outbox.clear()
        if self.has_daemon:
            is_full = isinstance(met, BlockingIOError)  # after another error, `tend` tries again
            self._ready.modify(self._control.fileno(), select.EPOLLIN | select.EPOLLOUT * is_full)

    def _forget_spawner(self) -> None:
        if self._spawner_end >= 0:
            os.close(self._spawner_end)
            self._spawner_end = -1

    def _has_spawner(self) -> bool:
        """Whether the requested spawner is running: it has read the node's message from the socket."""
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
        """Read the daemon's messages; return those about slots."""
        events: list[Event] = []
        if not self.has_daemon:
            return events
        self._after_sending(self._outbox.send(self._control))
        while True:
            try:
                data = receive_long(self._control)
            except BlockingIOError:
                return events
            except NoRoomError:  # no descriptor is free for a long answer: the answer is lost
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
        """Handle a message that is not about slots."""
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
        """Look for a new daemon if there is none; return the seconds until the next call."""
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
        """Send the current state to a new daemon."""
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
