"""TCP connections to several places of one server, some of which may not answer.

A firewall that drops packets sends no answer, so each place behind it costs seconds. Therefore the next place is tried
after a short head start, while the earlier attempts continue (RFC 8305, "Happy Eyeballs"). If a place refuses, the next
one starts immediately. The caller takes the successful connections in turn, because a place may lead to another machine
than intended. With a single place, this works like an ordinary connection.
"""

import contextlib
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from pconnect.link.host_names import resolve
from srp_tools.steps import Steps, Wait

Place = tuple[str, int]  #: a name or an address, and a port

#: Seconds for one place. A place that does not answer must not use up the time of the places after it.
PLACE_SECONDS = 5.0
_HEAD_START = 0.25  # RFC 8305, section 5
# Only the last of several attempts is waited for; the others are checked at this interval.
_LOOK_SECONDS = 0.05


class Runner(NamedTuple):
    """A connection attempt in progress."""

    place: Place
    sock: socket.socket
    until: float


class Race:
    """Connection attempts to some places, best first. `seconds`: time limit of each."""

    def __init__(self, places: Sequence[Place], seconds: float = PLACE_SECONDS) -> None:
        self._seconds = seconds
        self._places = deque(dict.fromkeys(places))
        self._found: deque[tuple[Place, int, tuple[Any, ...]]] = deque()  # places with socket addresses
        self._running: list[Runner] = []
        self._next_start = 0.0

    def close(self) -> None:
        """Give up the attempts in progress."""
        for runner in self._running:
            runner.sock.close()
        self._running.clear()

    def next_one(self) -> Steps[tuple[Place, socket.socket | OSError] | None]:
        """Return the next place that has answered, with its socket or its error; ``None`` after the last one."""
        while True:
            if (ended := self._ended()) is not None:
                self._next_start = 0.0
                return ended
            if self._found and time.monotonic() >= self._next_start:
                if (failed := self._start(*self._found.popleft())) is not None:
                    return failed
            elif not self._found and self._places and time.monotonic() >= self._next_start:
                place = self._places.popleft()
                try:
                    addresses = yield from resolve(*place, until=time.monotonic() + self._seconds)
                except OSError as error:
                    return place, error
                self._found.extend((place, *each) for each in addresses)
            elif not self._running:
                return None
            with contextlib.suppress(TimeoutError):
                if self._running:
                    yield Wait(self._running[-1].sock.fileno(), selectors.EVENT_WRITE, self._look_at())

    def _look_at(self) -> float:
        """Return the instant of the next action, unless the last attempt ends earlier."""
        instants = [min(runner.until for runner in self._running)]
        if self._found or self._places:
            instants.append(self._next_start)
        if len(self._running) > 1:
            instants.append(time.monotonic() + _LOOK_SECONDS)
        return min(instants)

    def _start(self, place: Place, family: int, address: tuple[Any, ...]) -> tuple[Place, OSError] | None:
        now = time.monotonic()
        sock = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
        except OSError as error:
            if sock is not None:
                sock.close()
            return place, error
        self._running.append(Runner(place, sock, now + self._seconds))
        self._next_start = now + _HEAD_START
        return None

    def _ended(self) -> tuple[Place, socket.socket | OSError] | None:
        now = time.monotonic()
        for runner in self._running:
            outcome = _outcome(runner.sock)
            if outcome is None and now >= runner.until:
                outcome = TimeoutError("no answer within the time limit")
            if outcome is None:
                continue
            self._running.remove(runner)
            if isinstance(outcome, OSError):
                runner.sock.close()
            return runner.place, outcome
        return None


def _outcome(sock: socket.socket) -> socket.socket | OSError | None:
    """Return the socket if it is connected, the error if it failed, or ``None`` if neither is certain yet."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        return OSError(number, os.strerror(number))
    try:
        sock.getpeername()
    except OSError:
        return None
    return sock
