"""Relay the streams of a program between its pipes and the client, at the speed of the slower side.

Each side grants the other how many bytes it may send (CREDIT), so neither buffers more than `WINDOW` bytes of a stream.
An empty piece ends a stream.
"""

import contextlib
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pconnect.jobs.worker_api import job_folder
from pconnect.link.connection import Connection
from pconnect.programs.private_folder import PrivateFolder
from pconnect.programs.streams import PIECE, STDERR, STDIN, STDOUT, WINDOW, Credit, keep_freed_memory
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.programs.program import OUR_FAILURE, Program, StartError, start
from pserver.system.process_marks import kill_started_since, ticks_since_boot

# Seconds between SIGTERM, sent at a time limit or when the job is cancelled, and SIGKILL.
_GRACE = 5.0
# If more bytes than this wait to be sent to the client, nothing is read from the program.
_MAX_UNSENT_BYTES = 2 * PIECE
# The longest wait for poll(2), in seconds; a time limit may be longer.
_LONGEST = 3600.0
# Ctrl-D passes the line typed so far to the reader of a terminal. If the line is empty, it marks the end of input.
_END_KEY = b"\x04"
_NAMES = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr"}


class Sender(Protocol):
    """The part of the worker that a relay needs. `connection`: to the client."""

    connection: Connection

    def say(self, kind: Kind, number: int, value: object) -> None:
        """Queue a message to the client."""


def run_program(
    number: int,
    request: Mapping[str, Any],
    sender: Sender,
    end: int,
    listen: "Callable[[Relay | None], None]",
) -> dict[str, Any]:
    """Run a program for job `number`, and return how it ended.

    `sender`: sends messages to the client. `end`: a descriptor that hangs up when the worker must end. `listen`: called
    with the relay that handles the client's messages for this job, and with ``None`` afterwards. Files that the program
    leaves in a private folder become the outputs of the job.

    Returns ``status``, negative for a signal, and ``timed_out``. If the program could not be started, returns
    ``status`` as a shell would give it, ``why``, ``errno`` and ``filename``. Raises `KeyboardInterrupt` after an
    interrupt, when the program has ended.
    """
    if not request.get("folder"):
        return _run(number, request, sender, end, listen)
    path = job_folder() / "outputs"
    folder = PrivateFolder(path, request.get("outputs"))
    try:
        try:
            folder.fill(request.get("files", {}))
        except OSError as error:
            text = f"cannot fill the private folder, where the program was to run: {error.strerror}"
            return _not_started(StartError(OUR_FAILURE, error, os.fsencode(error.filename or path), text))
        return _run(number, {**request, "cwd": bytes(path)}, sender, end, listen)
    finally:
        folder.tidy()


def _not_started(error: StartError) -> dict[str, Any]:
    return {"status": error.status, "why": str(error), "errno": error.number, "filename": error.name}


def _run(
    number: int,
    request: Mapping[str, Any],
    sender: Sender,
    end: int,
    listen: "Callable[[Relay | None], None]",
) -> dict[str, Any]:
    keep_freed_memory()
    began = ticks_since_boot()
    try:
        program = start(request)
        relay = Relay(number, program, sender, end, request.get("seconds"))
        listen(relay)
    except StartError as error:
        return _not_started(error)
    except BaseException:  # an interrupt during the start: nothing else knows the started process
        kill_started_since(began)
        raise
    try:
        return relay.run()
    finally:
        listen(None)
        program.end()
        if relay.is_made_to_end:
            kill_started_since(began)


class _Ending:
    """Ends a program: SIGTERM first, then SIGKILL to its process group.

    Processes that have left the group are killed last, when the program has ended.

    `seconds`: its time limit. `has_begun`: whether the ending has begun. `timed_out`: whether the time limit has
    expired. `interrupted`: whether the job was. `gives_up`: nothing further can be done, even if a process still holds
    the program's streams.
    """

    def __init__(self, program: Program, seconds: float | None) -> None:
        self.has_begun = self.timed_out = self.interrupted = self.gives_up = False
        self._program = program
        self._limit = None if seconds is None else time.monotonic() + seconds
        self._kill_at: float | None = None

    def begin(self) -> None:
        """Ask the program to end."""
        if not self.has_begun:
            self.has_begun = True
            self._kill_at = time.monotonic() + _GRACE
            self._program.signal(signal.SIGTERM)
            self._program.signal(signal.SIGCONT)  # a stopped program would not receive SIGTERM

    def look(self) -> float | None:
        """Do what is due; return the seconds until the next call."""
        now = time.monotonic()
        if self._limit is not None and now >= self._limit:
            self._limit, self.timed_out = None, True
            self.begin()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at, self.gives_up = None, True
            self._program.signal(signal.SIGKILL)
        times = [at for at in (self._limit, self._kill_at) if at is not None]
        return min(_LONGEST, max(0.0, min(times) - now)) if times else None


class Input:
    """The input to be written to a program, in order. On a terminal, keys mark its end."""

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._pieces: deque[memoryview] = deque()
        self._has_ended = False  # no further input will arrive
        self._is_in_line = False
        self._credit = Credit()

    @property
    def has_work(self) -> bool:
        """Whether input, or its end, remains to be passed on."""
        return self._has_ended or bool(self._pieces)

    @property
    def is_done(self) -> bool:
        """Whether all input has been written, including the keys that mark its end on a terminal."""
        return self._has_ended and not self._pieces

    def add(self, data: bytes) -> None:
        """Add a piece; an empty one is the end. Raises `ProtocolError` if it exceeds the granted credit."""
        self._credit.arrive(len(data))
        if self._has_ended:
            return
        if data:
            self._pieces.append(memoryview(data))
            self._is_in_line = not data.endswith(b"\n")
        else:
            self._has_ended = True
            if self._is_terminal:
                self._pieces.append(memoryview(_END_KEY * 2 if self._is_in_line else _END_KEY))

    def write(self, descriptor: int) -> int:
        """Write as much as possible now; return the credit to grant to the client for it."""
        told = 0
        with contextlib.suppress(BlockingIOError):
            while self._pieces:
                data = self._pieces[0]
                count = os.write(descriptor, data)
                if not self._has_ended:  # after the end, the client needs no credit
                    told += self._credit.take(count)
                if count < len(data):
                    self._pieces[0] = data[count:]
                    break
                self._pieces.popleft()
        return told

    def drop(self) -> None:
        """Discard pending input; no further input is added."""
        self._pieces.clear()


class Relay:
    """The streams of one running program. `number`: of the job."""

    def __init__(
        self, number: int, program: Program, sender: Sender, end: int, seconds: float | None
    ) -> None:
        self.number = number
        self._program = program
        self._sender = sender
        self._end = end
        self._input = Input(is_terminal=program.is_terminal)
        self._credit = {STDOUT: WINDOW, STDERR: WINDOW}
        self._status: int | None = None
        self._ending = _Ending(program, seconds)
        self._is_drained = False
        self._poll = select.poll()
        self._watched: dict[int, int] = {}
        if program.stdin >= 0:
            self._say(Kind.CREDIT, [STDIN, WINDOW])

    @property
    def is_made_to_end(self) -> bool:
        """Whether a time limit, a cancellation, or a lost client ends the program and all that it has started."""
        return self._ending.has_begun

    # --- messages from the client ---

    def hear(self, message: Message) -> None:
        """Handle a message from the client for this job."""
        match message.kind:
            case Kind.STREAM:
                if self._program.stdin >= 0:  # otherwise it was in flight when the program closed its input
                    self._input.add(message.value[1])
            case Kind.CREDIT:
                stream, count = message.value
                self._grant(stream, count)
            case Kind.SIGNAL:
                self._pass_signal(*message.value)

    def _grant(self, stream: int, count: int) -> None:
        if count:
            self._credit[stream] += count
        elif self._program.is_terminal:
            self._program.hang_up()
        else:  # nobody reads it any longer
            self._program.close(_NAMES[stream])

    def _pass_signal(self, number: int, rows: int = 0, columns: int = 0) -> None:
        if number == signal.SIGWINCH and rows:
            self._program.resize(rows, columns)
        else:
            self._program.signal(number)

    def interrupt(self) -> None:
        """End the program because its job is cancelled; the signal handler calls this."""
        self._ending.interrupted = True
        self._ending.begin()

    # --- the loop ---

    def run(self) -> dict[str, Any]:
        """Relay everything until the program and its streams have ended; return how they ended.

        Raises `KeyboardInterrupt` if the job was interrupted.
        """
        while not self._is_over():
            self._step()
        if self._ending.interrupted:
            raise KeyboardInterrupt
        return {"status": self._status, "timed_out": self._ending.timed_out}

    def _is_over(self) -> bool:
        if self._status is None:
            return False
        if self._ending.gives_up or self._is_drained or self._sender.connection.error is not None:
            return True
        return self._program.stdout < 0 and self._program.stderr < 0

    def _step(self) -> None:
        program, connection = self._program, self._sender.connection
        self._watch()
        seconds = self._ending.look()
        if self._is_left_terminal():
            seconds = 0.0
        events = self._poll.poll(None if seconds is None else seconds * 1000 + 1)
        # Do not wait for processes that a program leaves behind on its terminal; the user's shell would not either.
        self._is_drained = not events and self._is_left_terminal()
        for descriptor, event in events:
            if descriptor == self._end:
                os._exit(0)  # the supervisor is gone; the spawner kills the rest of the group
            elif descriptor == program.pidfd:
                self._status = program.wait()
                self._drop_input()
            elif descriptor == connection.fileno():
                if event & select.POLLOUT:
                    connection.flush()
                if event & ~select.POLLOUT:
                    while connection.fill():
                        pass
            else:
                self._move(descriptor, event)
        if connection.error is not None and self._status is None:
            self._ending.begin()
        if connection.has_unsent:
            connection.flush()

    def _watch(self) -> None:
        """Register the descriptors and events to wait for now."""
        program, connection = self._program, self._sender.connection
        wanted: dict[int, int] = {self._end: 0}
        if self._status is None:
            wanted[program.pidfd] = select.POLLIN
        if connection.error is None:
            wanted[connection.fileno()] = select.POLLIN | (select.POLLOUT if connection.has_unsent else 0)
        if program.stdin >= 0 and self._status is None:
            # Without pending input, register it anyway: this shows if the program has closed its end.
            wanted[program.stdin] = select.POLLOUT if self._input.has_work else 0
        for stream in (STDOUT, STDERR):
            descriptor = getattr(program, _NAMES[stream])
            if descriptor >= 0 and self._has_room(stream):
                wanted[descriptor] = wanted.get(descriptor, 0) | select.POLLIN
        for descriptor in self._watched.keys() - wanted.keys():
            with contextlib.suppress(KeyError, OSError):
                self._poll.unregister(descriptor)
        for descriptor, events in wanted.items():
            if self._watched.get(descriptor) != events:
                self._poll.register(descriptor, events)
        self._watched = wanted

    def _has_room(self, stream: int) -> bool:
        return self._credit[stream] > 0 and self._sender.connection.unsent_bytes < _MAX_UNSENT_BYTES

    def _is_left_terminal(self) -> bool:
        """Whether the program has ended, and its remaining output on the terminal can be passed on."""
        return self._program.is_terminal and self._status is not None and self._has_room(STDOUT)

    # --- bytes ---

    def _move(self, descriptor: int, event: int) -> None:
        program = self._program
        if descriptor == program.stdin and event & (select.POLLOUT | select.POLLERR | select.POLLHUP):
            self._write_input(event)
        for stream in (STDOUT, STDERR):
            if descriptor == getattr(program, _NAMES[stream]) and event & (select.POLLIN | select.POLLHUP):
                self._read(stream, descriptor)

    def _write_input(self, event: int) -> None:
        program = self._program
        try:
            if event & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError
            if told := self._input.write(program.stdin):
                self._say(Kind.CREDIT, [STDIN, told])
        except OSError:
            self._drop_input()
            return
        if self._input.is_done:
            program.close("stdin")

    def _drop_input(self) -> None:
        """Accept no further input, and report to the client that nobody reads it."""
        self._input.drop()
        if self._program.stdin >= 0:
            self._program.close("stdin")
            self._say(Kind.CREDIT, [STDIN, 0])

    def _read(self, stream: int, descriptor: int) -> None:
        try:
            data = os.read(descriptor, min(PIECE, self._credit[stream]))
        except BlockingIOError:
            return
        except OSError:  # this is how the end of a terminal appears
            data = b""
        self._say(Kind.STREAM, [stream, data])
        self._credit[stream] -= len(data)
        if not data:
            self._program.close(_NAMES[stream])

    def _say(self, kind: Kind, value: object) -> None:
        self._sender.say(kind, self.number, value)
