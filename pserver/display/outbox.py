"""Displays, warnings and log records of user code, queued as notes on their way to the client.

Any code may create a note: any thread, a finalizer in the middle of the engine's own loop, a process that user code has
forked. Creating a note therefore only puts it into a queue. The main thread sends the queue: immediately if it created
the note itself and is not inside the loop, otherwise at its next call of this package or at the end of the command. A
forked process has the queue, but must not use the connection, so its notes become text.

If the client does not keep up, the queue fills, and further notes are dropped and counted; a warning with their number
takes their place. Warnings and log records never wait. A display, which is large and usually wanted, waits briefly for
room, unless something has just been dropped.
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

_MAX_WAITING_BYTES = 2**22  # beyond this, notes are dropped until half of it is free again
_PATIENCE = 5.0  # seconds that a display waits for room
_NOTE_BYTES = 2**9  # approximate memory of a note without its long texts


class _Entry(NamedTuple):
    number: int
    what: str
    content: dict[str, Any]
    size: int


class Outbox:
    """The queue of notes of one engine.

    `number`: number of the running command; 0 between commands. `sent`: number of notes sent so far.
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
        # Reentrant: a finalizer may create a note while its own thread is creating one.
        self._lock = threading.RLock()
        self._queue: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        event_loop.before_poll = self._send_left

    def put(self, what: str, content: dict[str, Any], size: int) -> bool:
        """Queue a note; for a display, this may block for some seconds.

        `what`: ``"display"``, ``"warning"`` or ``"log"``. `content`: plain values, which must not change afterwards.
        `size`: total size of its long texts and data, in bytes. Returns ``False`` in a process forked from the engine;
        then nothing was queued.
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
        """Send as much as the supervisor accepts now; for the main thread only."""
        with self._event_loop.sigint_deferred:
            if self._supervisor.wants_to_write:
                self._event_loop.flush(self._supervisor)
            while self._queue and not self._supervisor.wants_to_write:
                self._post(self._take())
                self._event_loop.flush(self._supervisor)

    @property
    def has_left(self) -> bool:
        """Whether any notes are waiting."""
        return bool(self._queue)

    def _send_left(self) -> None:
        if self._queue:
            self.send()

    def release(self) -> None:
        """Send all notes before the next message, so that a command's notes arrive before its end.

        Notes that the supervisor does not accept now are sent later. The engine starts no further command while many
        are waiting.
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
            with contextlib.suppress(TimeoutError):  # in this case the display is dropped
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
            f"{self._dropped} notes (displays, warnings, log records) were dropped here: they arrived faster than the "
            "client could receive them",
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
