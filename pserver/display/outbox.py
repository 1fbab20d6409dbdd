"""What the user's code says besides bytes: displays, warnings and log records, on their way to the client as notes.

A note may be made anywhere: by any thread, by a finalizer in the middle of our own loop, by a process that the user's
code has forked. So making one only puts it into a queue. The main thread sends what is in there, at once if it made the
note itself and is not inside our loop, else when it comes by: at its next call of this package, or at the end of the
command. A forked process has the queue but not the right to use the connection, so its notes become text.

What is not taken fast enough fills the queue, and then notes are dropped, counted, and in their place stands a warning
with their number. Warnings and records never wait. A display, which is large and which somebody wants to see, waits a
little for room, unless something has just been dropped.
"""

import builtins
import contextlib
import linecache
import logging
import os
import sys
import threading
import warnings
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pserver.display.mime_bundle import Bundle, bundle_size, make_bundle
from srp_tools.steps import deadline_after

_MAX_WAITING_BYTES = 2**22  # beyond it notes are dropped, until half of it is free again
_MAX_DISPLAY_BYTES = 2**24
# So that a warning and a log record stay below 64 KiB: both have a long text, one has two.
_MAX_TEXT_BYTES = 24 * 2**10
_MAX_NAME_BYTES = 2**10
_PATIENCE = 5.0  # seconds that a display waits for room
_NOTE_BYTES = 2**9  # what a note takes in memory beside its long texts, about


class _Entry(NamedTuple):
    number: int
    what: str
    content: dict[str, Any]
    size: int


class Outbox:
    """The queue of notes of one engine.

    Attributes
    ----------
    number
        Of the command that runs; 0 between commands.
    """

    def __init__(
        self,
        supervisor: Connection,
        event_loop: EventLoop,
        max_waiting_bytes: int = _MAX_WAITING_BYTES,
        patience: float = _PATIENCE,
    ) -> None:
        self.number = 0
        self._supervisor = supervisor
        self._event_loop = event_loop
        self._max_waiting_bytes = max_waiting_bytes
        self._patience = patience
        self._process = os.getpid()
        # A finalizer may make a note while its own thread makes one.
        self._lock = threading.RLock()
        self._queue: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        event_loop.before_poll = self._send_left

    def put(self, what: str, content: dict[str, Any], size: int) -> bool:
        """Take a note; a display may wait for some seconds.

        Parameters
        ----------
        what
            ``"display"``, ``"warning"`` or ``"log"``.
        content
            Plain values, which are not changed afterwards.
        size
            Of its long texts and data, in bytes.

        Returns
        -------
        bool
            ``False`` in a process forked from the engine: then nothing was taken.
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
        """Send all there is before what is told next, so that a command's notes come before its end.

        What the supervisor does not take now goes out later. It is not more than one command's: the supervisor gives
        no further command before it has taken all this.
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
        content = _warning(
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
        self._supervisor.post(Kind.FRONT_END, note.number, [note.what, note.content])


class Hooks:
    """Where Python asks what to do with a display, a warning or a log record; the engine's answers.

    Parameters
    ----------
    notes
        Where they go.
    max_message_bytes
        The client takes no larger message.
    """

    def __init__(self, outbox: Outbox, max_message_bytes: int) -> None:
        self._outbox = outbox
        # Half of it: there is more in a message than the data, by little.
        self._max_display_bytes = min(_MAX_DISPLAY_BYTES, max_message_bytes // 2)
        self._show_in_child = warnings.showwarning

    def install(self, names: dict[str, Any]) -> None:
        """Put them into their places; `names` is the workspace."""
        names["display"] = vars(builtins)["display"] = self.display
        warnings.showwarning = self.show_warning
        # Not a handler of the root logger: with one, `logging.basicConfig` would do nothing. This one is asked if
        # nobody has configured anything, and, unlike Python's own, takes every level that the loggers let pass.
        logging.lastResort = LogForwarder(self._outbox)
        _choose_backend()

    def display(self, *objects: object) -> None:
        """Show objects at the client: in its notebook as pictures, tables and text, elsewhere as text.

        Parameters
        ----------
        *objects
            A matplotlib figure; an object with methods such as ``_repr_html_`` or ``_repr_png_``, as IPython uses
            them; of anything else its ``repr``. If such a method fails, its traceback is printed.
        """
        for shown in objects:
            bundle = self._limit(make_bundle(shown))
            content = {"data": bundle.data, "metadata": bundle.metadata}
            if not self._outbox.put("display", content, bundle_size(bundle)):
                sys.stdout.write(f"{bundle.data['text/plain']}\n")

    def _limit(self, bundle: Bundle) -> Bundle:
        size = bundle_size(bundle)
        if size <= self._max_display_bytes:
            return bundle
        kinds = ", ".join(bundle.data)[:_MAX_NAME_BYTES]
        text = f"<not shown: {size} bytes ({kinds}), the limit of a display is {self._max_display_bytes}>"
        return Bundle({"text/plain": text}, {})

    def show_warning(  # noqa: PLR0917 - as Python's has it
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Do what `warnings.showwarning` is for."""
        if file is None:
            content = _warning(message, category, filename, lineno, line)
            if self._outbox.put("warning", content, len(content["message"])):
                return
        self._show_in_child(message, category, filename, lineno, file, line)


class LogForwarder(logging.Handler):
    """Sends log records to the client."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; one whose text cannot be made is an error as everywhere in `logging`."""
        try:
            content = _log_record(record)
            size = len(content["message"]) + len(content["exc_text"] or "")
            if not self._outbox.put("log", content, size) and sys.stderr is not None:
                sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - the user's arguments are formatted here
            self.handleError(record)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> dict[str, Any]:
    """Return what is told of a warning."""
    if line is None:
        line = linecache.getline(filename, lineno)
    return {
        "category": category.__name__,
        "bases": [
            kind.__name__ for kind in category.__mro__ if getattr(builtins, kind.__name__, None) is kind
        ],
        "message": _cut(str(message)),
        "module": _module_of(filename)[:_MAX_NAME_BYTES],
        "filename": _cut(filename, _MAX_NAME_BYTES),
        "lineno": int(lineno),
        "line": _cut(line.strip(), _MAX_NAME_BYTES),
    }


def _module_of(filename: str) -> str:
    """Return the name of the module in a file, by which filters of warnings choose."""
    if filename.startswith("<command "):
        return "__main__"
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == filename:
            return name
    return Path(filename).stem


def _log_record(record: logging.LogRecord) -> dict[str, Any]:
    """Return what is told of a log record."""
    trace = record.exc_text
    if record.exc_info and not trace:
        trace = logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        trace = f"{trace}\n{record.stack_info}" if trace else record.stack_info
    return {
        "name": _cut(record.name, _MAX_NAME_BYTES),
        "levelno": int(record.levelno),
        "message": _cut(str(record.getMessage())),
        "created": float(record.created),
        "pathname": _cut(record.pathname, _MAX_NAME_BYTES),
        "lineno": int(record.lineno),
        "funcName": record.funcName and _cut(record.funcName, _MAX_NAME_BYTES),
        "process": record.process and int(record.process),
        "threadName": record.threadName and _cut(record.threadName, _MAX_NAME_BYTES),
        "exc_text": trace and _cut(trace),
    }


def _cut(text: str, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Return a text of at most so many bytes; one that is longer says that it was cut."""
    text = str.__str__(text)  # of a subclass, which could not be sent
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= max_bytes:
        return text
    mark = f" ... (cut: it has {len(data)} bytes)"
    return data[: max_bytes - len(mark)].decode("utf-8", "ignore") + mark


def _choose_backend() -> None:
    """Let matplotlib, if the user imports it, give its figures to us; unless he has chosen another backend.

    What a notebook sets for itself is no choice of the user: a server that was started from one inherits it.
    """
    if os.environ.get("MPLBACKEND", "").removeprefix("module://") in {
        "",
        "inline",
        "matplotlib_inline.backend_inline",
    }:
        os.environ["MPLBACKEND"] = "module://pserver.display.matplotlib_backend"
