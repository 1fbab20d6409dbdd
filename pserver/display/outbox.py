"""What the user's code says besides bytes: displays, warnings and log records, on their way to the client as notes.

A note may be made anywhere: by any thread, by a finalizer in the middle of our own loop, by a process that the user's
code has forked. So making one only puts it into a queue. The main thread sends what is in there, at once if it made the
note itself and is not inside our loop, else when it comes by: at its next call of this package, or at the end of the
command. A forked process has the queue but not the right to use the connection, so its notes become text.

What is not taken fast enough fills the queue, and then notes are dropped, counted, and in their place stands a warning
with their number. Warnings and records never wait. A display, which is large and which somebody wants to see, waits a
little for room, unless something has just been dropped.
"""

import contextlib
import os
import threading
from collections import deque
from typing import Any, NamedTuple

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pserver.display.contents import warning_contents
from srp_tools.steps import deadline_after

_MAX_WAITING_BYTES = 2**22  # beyond it notes are dropped, until half of it is free again
_PATIENCE = 5.0  # seconds that a display waits for room
_NOTE_BYTES = 2**9  # what a note takes in memory beside its long texts, about


class _Entry(NamedTuple):
    number: int
    what: str
    content: dict[str, Any]
    size: int


class Outbox:
    """The queue of notes of one engine.

    `number`: of the command that runs; 0 between commands. `sent`: how many notes were sent so far.
    """

    def __init__(
        self,
        supervisor: Connection,
        event_loop: EventLoop,
        max_waiting_bytes: int = _MAX_WAITING_BYTES,
        grace: float = _PATIENCE,
    ) -> None:
        self.number = self.sent = 0
        self._supervisor = supervisor
        self._event_loop = event_loop
        self._max_waiting_bytes = max_waiting_bytes
        self._patience = grace
        self._process = os.getpid()
        # A finalizer may make a note while its own thread makes one.
        self._lock = threading.RLock()
        self._queue: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        event_loop.before_poll = self._send_left

    def put(self, what: str, content: dict[str, Any], size: int) -> bool:
        """Take a note; a display may wait for some seconds.

        `what`: ``"display"``, ``"warning"`` or ``"log"``. `content`: plain values, which are not changed afterwards.
        `size`: of its long texts and data, in bytes. Returns ``False`` in a process forked from the engine: then
        nothing was taken.
        """
        if os.getpid() != self._process:
            return False
        note = _Entry(self.number, what, content, size + _NOTE_BYTES)
        if threading.current_thread() is not threading.main_thread():
            self._append(note)
            return True
        within_our_loop = self._event_loop.sigint_deferred.active
        if what == "display" and not within_our_loop and not self._dropped:
            self._wait_for_room(note.size)
        with self._event_loop.sigint_deferred:
            self._append(note)
            if not within_our_loop:
                self.send()
        return True

    def send(self) -> None:
        """Send what the supervisor takes now; for the main thread."""
        with self._event_loop.sigint_deferred:
            if self._supervisor.wants_to_write:
                self._event_loop.flush(self._supervisor)
            while self._queue and not self._supervisor.wants_to_write:
                self._post(self._take())
                self._event_loop.flush(self._supervisor)

    @property
    def has_left(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._queue)

    def _send_left(self) -> None:
        if self._queue:
            self.send()

    def release(self) -> None:
        """Send all there is before the next message, so that a command's notes come before its end.

        What the supervisor does not take now goes out later. The engine begins no further command while that is much.
        """
        if not self._queue and not self._dropped:
            return
        self.send()
        with self._event_loop.sigint_deferred:
            with self._lock:
                self._tell_of_gap()
            while self._queue:
                self._post(self._take())

    def _wait_for_room(self, size: int) -> None:
        def has_room() -> bool:
            return not self._waiting_bytes or self._waiting_bytes + size <= self._max_waiting_bytes

        if not has_room():
            with contextlib.suppress(TimeoutError):  # then it is dropped
                self._event_loop.run_until(has_room, deadline_after(self._patience), "room for a display")

    def _append(self, note: _Entry) -> None:
        with self._lock:
            limit = self._max_waiting_bytes // 2 if self._dropped else self._max_waiting_bytes
            if self._waiting_bytes and self._waiting_bytes + note.size > limit:
                self._dropped += 1
                return
            self._tell_of_gap()
            self._queue.append(note)
            self._waiting_bytes += note.size

    def _tell_of_gap(self) -> None:
        if not self._dropped:
            return
        content = warning_contents(
            f"{self._dropped} notes (displays, warnings, log records) were dropped here: they came faster than the "
            "client took them",
            RuntimeWarning,
            "<pserver>",
            1,
        )
        self._dropped = 0
        self._queue.append(_Entry(self.number, "warning", content, _NOTE_BYTES))
        self._waiting_bytes += _NOTE_BYTES

    def _take(self) -> _Entry:
        with self._lock:
            note = self._queue.popleft()
            self._waiting_bytes -= note.size
            return note

    def _post(self, note: _Entry) -> None:
        self.sent += 1
        self._supervisor.post(Kind.FRONT_END, note.number, [note.what, note.content])
