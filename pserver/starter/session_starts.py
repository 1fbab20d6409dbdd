"""Sessions that are being started, from a client's first byte until the session reports that it exists.

Each start has a control socket, whose other end goes to the starter and on to the session. The death of the starter
says nothing about a start: the session may exist. But if the control socket is closed, no process holds its other end,
and this attempt cannot become a session. The client can then be handed to another starter without being served twice.
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
# For one session. A starter loads its modules first, perhaps from a network file system.
_START_SECONDS = 30.0
_MAX_DEATHS = 3  # of starters during one start, before its client is rejected

ExitCode = Callable[[int | None], object]  # receives the exit code of a session; None if unknown


class Started(NamedTuple):
    """A session that exists."""

    pid: int
    pidfd: int  #: descriptor of the process; the receiver closes it
    control: socket.socket  #: its socket to the daemon
    when_ended: Callable[[ExitCode], None]  #: registers a function to call with its exit code when it ends


@dataclass(eq=False)
class _Start:
    """A session that has been requested."""

    sock: socket.socket  # the client's connection
    settings: SessionSettings
    received: bytes
    on_started: Callable[[Started], object]
    on_failed: Callable[[str], object]
    deadline: float
    deaths: int = 0  # of starters during this start
    control: socket.socket | None = None  # None: no process holds its other end
    is_cut: bool = False  # whether a starter has died since the request


class SessionStarts:
    """The sessions that are being started, and the starter that forks them.

    `selector`: the daemon's; the data of each entry is the function to call.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.starter = Starter(selector, self._on_answer, self._starter_gone)
        self._starts: dict[int, _Start] = {}
        self._last_number = 0
        self._children: set[int] = set()  # sessions whose end the current starter will report
        self._codes: dict[int, int] = {}  # exit codes that nobody has asked for yet
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

        `sock`: the client's connection; this object owns it from now on. `received`: the bytes already read from it.
        Later, one of the two functions is called: `on_started`, or `on_failed` with the reason.

        Raises `OSError` if no descriptors are free. The connection then stays the caller's.
        """
        deadline = time.monotonic() + _START_SECONDS
        self._request(_Start(sock, settings, received, on_started, on_failed, deadline))

    def _request(self, start: _Start) -> None:
        start.is_cut = False
        self._last_number += 1  # a new one each time, so that reports about an earlier attempt are ignored
        number = self._last_number
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        words = {"session": number, "settings": start.settings.as_json(), "received": start.received.hex()}
        try:
            with theirs:
                self.starter.request(words, [start.sock.fileno(), theirs.fileno()])
            self._selector.register(control, selectors.EVENT_READ, lambda: self._on_control(number))
        except BaseException:
            control.close()
            raise
        start.control = control
        self._starts[number] = start

    # --- the outcome ---

    def _on_control(self, number: int) -> None:
        """Handle the first message of a session, or the end of its control socket."""
        start = self._starts[number]
        if start.control is None:
            return
        try:
            data, ends = receive_descriptors(start.control, _MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except NoRoomError:
            self._fail(number, "the daemon has no free descriptors")
            return
        except OSError:
            data, ends = b"", []
        if not data:
            self._close_control(start)
            if start.is_cut:
                self._try_again(number)
            return
        pid = json_object(data).get("here")
        if not isinstance(pid, int) or len(ends) != 1 or not stands_for(ends[0], pid):
            for end in ends:
                os.close(end)
            self._fail(number, "the message of its process makes no sense")
            return
        del self._starts[number]
        self._selector.unregister(start.control)
        start.sock.close()
        self._children.add(number)
        when_ended = functools.partial(self._when_ended, number)
        start.on_started(Started(pid, ends[0], start.control, when_ended))

    def _close_control(self, start: _Start) -> None:
        if start.control is not None:
            self._selector.unregister(start.control)
            start.control.close()
            start.control = None

    def _try_again(self, number: int) -> None:
        start = self._starts.pop(number)
        try:
            if start.deaths >= _MAX_DEATHS:
                raise OSError("every process that was to start it has died")
            self._request(start)
        except OSError as error:
            self._starts[number] = start
            self._fail(number, str(error))

    def _fail(self, number: int, why: str) -> None:
        start = self._starts.pop(number)
        self._close_control(start)
        start.on_failed(why)
        start.sock.close()

    def _on_answer(self, words: Mapping[str, Any]) -> None:
        match words:
            case {"failed": int(number), "why": str(why)}:
                if number in self._starts:
                    self._fail(number, why)
            case {"ended": int(number), "code": int(code)}:
                if number in self._starts:
                    self._on_control(number)  # its first message may be waiting
                if number in self._starts:
                    self._fail(number, f"it ended immediately ({code})")
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
        if starts:  # it handles them in order, so the first of them may have killed it
            starts[0][1].deaths += 1
        for number, start in starts:
            start.is_cut = True
            if start.control is None:
                self._try_again(number)

    @property
    def awaits_ends(self) -> bool:
        """Whether any session's exit code is awaited, to log it."""
        return bool(self._asked)

    def _when_ended(self, number: int, tell: ExitCode) -> None:
        if number in self._children:
            self._asked[number] = tell
        else:
            tell(self._codes.pop(number, None))

    # --- time ---

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not until an event occurs."""
        now = time.monotonic()
        first = min((start.deadline for start in self._starts.values()), default=math.inf)
        waits = [max(0.0, first - now)] if first < math.inf else []
        starters = self.starter.time_left()
        return min([*waits, *([] if starters is None else [starters])], default=None)

    def step(self) -> None:
        """Do what is due: fail starts that have timed out, and run the periodic tasks of the starter."""
        now = time.monotonic()
        for number in [number for number, start in self._starts.items() if start.deadline <= now]:
            self._fail(number, f"timed out after {_START_SECONDS:g} s waiting for it to begin")
            self.starter.replace()
        self.starter.step()

    def close(self) -> None:
        """Fail all pending starts, and end the starter."""
        for number in list(self._starts):
            self._fail(number, "the server is stopping")
        self.starter.close()
