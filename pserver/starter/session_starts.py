"""Sessions that are being started: from a client's first byte until the session says that it is there.

Each start has a control socket, whose other end goes to the starter and on to the session. That the starter has died
says nothing about a start: the session may be there. But the end of the control socket says that nobody holds the other
end, so that no session will come of it, and the same client can be given to another starter without being given away
twice.
"""

import functools
import logging
import math
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pserver.config.session_settings import SessionSettings
from pserver.starter.starter import Starter
from pserver.system.descriptors import NoRoomError, json_object, receive_descriptors, stands_for

log = logging.getLogger("pserver")

_MESSAGE_BYTES = 4096
# For one session; a starter loads its modules first, from a network file system perhaps.
_START_SECONDS = 30.0
_MAX_DEATHS = 3  # of starters that were at work on one start, before its client is given up

ExitCode = Callable[[int | None], object]  # takes how a session ended; None: nobody knows


class Started(NamedTuple):
    """A session that is there."""

    pid: int
    pidfd: int  #: stands for the process; the receiver's to close
    control: socket.socket  #: its socket to us
    when_ended: Callable[[ExitCode], None]  #: has a function called with its exit code, once it has ended


@dataclass(eq=False)
class _Start:
    """A session that is wanted."""

    sock: socket.socket  # the client's connection
    settings: SessionSettings
    received: bytes
    on_started: Callable[[Started], object]
    on_failed: Callable[[str], object]
    deadline: float
    deaths: int = 0  # of starters that were at work on it
    control: socket.socket | None = None  # None: nobody holds its other end
    is_cut: bool = False  # whether a starter has died since it was asked for


class SessionStarts:
    """The sessions that are being started, and the starter that does it.

    `selector`: the daemon's; each entry's data is a function to call.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.starter = Starter(selector, self._answered, self._starter_gone)
        self._starts: dict[int, _Start] = {}
        self._last_number = 0
        self._children: set[int] = set()  # sessions whose ends the present starter will tell
        self._codes: dict[int, int] = {}  # of those that nobody has asked about
        self._asked: dict[int, ExitCode] = {}

    def __len__(self) -> int:
        return len(self._starts)

    def start(
        self,
        sock: socket.socket,
        settings: SessionSettings,
        received: bytes,
        on_started: Callable[[Started], object],
        on_failed: Callable[[str], object],
    ) -> None:
        """Have a session started for a client.

        `sock`: the client's connection, ours from now on. `received`: what was read from it. One of the two functions
        is called later, `on_failed` with a reason.

        Raises `OSError` if there is no room for more descriptors. The connection is the caller's.
        """
        deadline = time.monotonic() + _START_SECONDS
        self._request(_Start(sock, settings, received, on_started, on_failed, deadline))

    def _request(self, start: _Start) -> None:
        start.is_cut = False
        self._last_number += 1  # another one each time: what is said of an earlier try concerns nobody
        number = self._last_number
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        words = {"session": number, "settings": start.settings.as_json(), "received": start.received.hex()}
        try:
            with theirs:
                self.starter.request(words, [start.sock.fileno(), theirs.fileno()])
            self._selector.register(control, selectors.EVENT_READ, lambda: self._hear(number))
        except BaseException:
            control.close()
            raise
        start.control = control
        self._starts[number] = start

    # --- what comes of it ---

    def _hear(self, number: int) -> None:
        """Take the first word of a session, or the end of its control socket."""
        start = self._starts[number]
        if start.control is None:
            return
        try:
            data, ends = receive_descriptors(start.control, _MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except NoRoomError:
            self._fail(number, "this process has no room for more descriptors")
            return
        except OSError:
            data, ends = b"", []
        if not data:
            self._leave_control(start)
            if start.is_cut:
                self._try_again(number)
            return
        pid = json_object(data).get("here")
        if not isinstance(pid, int) or len(ends) != 1 or not stands_for(ends[0], pid):
            for end in ends:
                os.close(end)
            self._fail(number, "its process says what makes no sense")
            return
        del self._starts[number]
        self._selector.unregister(start.control)
        start.sock.close()
        self._children.add(number)
        when_ended = functools.partial(self._when_ended, number)
        start.on_started(Started(pid, ends[0], start.control, when_ended))

    def _leave_control(self, start: _Start) -> None:
        if start.control is not None:
            self._selector.unregister(start.control)
            start.control.close()
            start.control = None

    def _try_again(self, number: int) -> None:
        start = self._starts.pop(number)
        try:
            if start.deaths >= _MAX_DEATHS:
                raise OSError("each process that was to start it has died")
            self._request(start)
        except OSError as error:
            self._starts[number] = start
            self._fail(number, str(error))

    def _fail(self, number: int, why: str) -> None:
        start = self._starts.pop(number)
        self._leave_control(start)
        start.on_failed(why)
        start.sock.close()

    def _answered(self, words: Mapping[str, Any]) -> None:
        match words:
            case {"failed": int(number), "why": str(why)}:
                if number in self._starts:
                    self._fail(number, why)
            case {"ended": int(number), "code": int(code)}:
                if number in self._starts:
                    self._hear(number)  # its first word may be waiting
                if number in self._starts:
                    self._fail(number, f"it ended at once ({code})")
                elif number in self._asked:
                    self._children.discard(number)
                    self._asked.pop(number)(code)
                elif number in self._children:
                    self._children.discard(number)
                    self._codes[number] = code

    def _starter_gone(self) -> None:
        self._children.clear()
        for tell in [self._asked.pop(number) for number in list(self._asked)]:
            tell(None)
        starts = sorted(self._starts.items())
        if starts:  # it takes them in their order, so it may have been the first that it died of
            starts[0][1].deaths += 1
        for number, start in starts:
            start.is_cut = True
            if start.control is None:
                self._try_again(number)

    @property
    def awaits_ends(self) -> bool:
        """Whether somebody waits to hear how a session has ended, to log it."""
        return bool(self._asked)

    def _when_ended(self, number: int, tell: ExitCode) -> None:
        if number in self._children:
            self._asked[number] = tell
        else:
            tell(self._codes.pop(number, None))

    # --- time ---

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before something happens."""
        now = time.monotonic()
        first = min((start.deadline for start in self._starts.values()), default=math.inf)
        waits = [max(0.0, first - now)] if first < math.inf else []
        starters = self.starter.time_left()
        return min([*waits, *([] if starters is None else [starters])], default=None)

    def step(self) -> None:
        """Do what is due: give up starts of which nothing comes, and look after the starter."""
        now = time.monotonic()
        for number in [number for number, start in self._starts.items() if start.deadline <= now]:
            self._fail(number, f"it has not begun within {_START_SECONDS:g} s")
            self.starter.replace()
        self.starter.step()

    def close(self) -> None:
        """Give up what is being started, and end the starter."""
        for number in list(self._starts):
            self._fail(number, "the server stops")
        self.starter.close()
