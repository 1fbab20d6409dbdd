"""Passes the output of an engine from two pipes on to the client.

Three goals contradict each other: lose no output, never delay the engine, and use bounded memory. So the relay waits
for a client that reads: when the backlog is too large, it stops reading the pipes, they fill up, and the engine blocks
in its print. But a client that reads nothing for a while may be computing, or stopped in a debugger, for an unknown
time. Then the relay reads the pipes again, and drops and counts the output until the client reads something. It reports
to the client how much is missing, and where.

.. code-block:: text

              the backlog is too large        nothing taken for a second
    FLOWING ───────────────────────▶ WAITING ───────────────────────────▶ DROPPING
       ▲      half of it is taken    │    ▲        something taken           │
       └─────────────────────────────┘    └──────────────────────────────────┘

The engine records in the page of `pserver.engine.command_page` which command has printed which part.

The client confirms output (TAKEN) every few kilobytes. Without that, the relay would see progress only when the system
accepts more data, in portions of hundreds of kilobytes, and a busy client may need more than a second for one portion.
Data that the system accepts counts as progress, too.
"""

import enum
import functools
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as PipeEnd

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from pserver.engine.command_page import CommandPage, bytes_in_pipe

_MAX_BACKLOG_BYTES = 2**20  # of both streams together, printed and not yet taken by the client
# The client takes a chunk as a whole, so it must be small enough for a slow client in a second.
_CHUNK_BYTES = 2**14
_MAX_STALL = 1.0  # seconds without progress of the client before the relay drops output
# Seconds between two checks of a slow client: the system reports room in the buffer only when there is a lot.
_LOOK = 0.1
# With more bytes waiting for the client, the relay takes no more messages from the engine. The limit exceeds the
# backlog of `OutputRelay`, so a flood of output that the client does not read cannot block the commands' messages.
_MAX_UNSENT_BYTES = 2**21
_LAST_BYTES = 2**11  # of output, kept for the report of a death


class Flow(enum.Enum):
    """How the relay treats output."""

    FLOWING = enum.auto()  #: pass it on
    WAITING = enum.auto()  #: leave it in the pipes until the client has taken enough
    DROPPING = enum.auto()  #: read and drop it until the client takes something


@dataclass
class _Stream:
    number: int  # 1: stdout, 2: stderr
    reader: PipeEnd
    position: int = 0  # of the next byte that the client gets
    # Positions, each with the command that prints from that position on.
    marks: deque[tuple[int, int]] = field(default_factory=lambda: deque([(0, 0)]))
    held: bytes = b""  # the start of a line whose rest was still in the pipe
    dropped: dict[int, int] = field(default_factory=dict)  # bytes not yet reported to the client, by command
    watched: bool = False
    ended: bool = False

    def mark(self, start: int, command: int) -> None:
        """Add a mark; at the same position, it replaces the last mark."""
        if self.marks[-1][0] == start:
            self.marks.pop()
        self.marks.append((start, command))

    def advance(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Advance over output; yield it in parts, each with the command that printed it."""
        end = self.position + len(data)
        while self.position < end:
            command, stop = self.owner(), end
            if len(self.marks) > 1:
                stop = min(end, self.marks[1][0])
            yield command, data[len(data) - end + self.position : len(data) - end + stop]
            self.position = stop

    def drop(self, data: bytes) -> None:
        """Count output that the client does not get."""
        for command, part in self.advance(data):
            self.dropped[command] = self.dropped.get(command, 0) + len(part)

    def owner(self) -> int:
        """Return the command that prints the next byte."""
        while len(self.marks) > 1 and self.marks[1][0] <= self.position:
            self.marks.popleft()
        return self.marks[0][1]

    def waiting_bytes(self) -> int:
        """Return the number of bytes in the pipe."""
        return 0 if self.ended else bytes_in_pipe(self.reader.fileno())


class OutputRelay:
    """The standard output and standard error of one engine.

    `event_loop`: the loop that serves `client`. `readers`: the pipes of standard output and standard error. `page`:
    records which command has printed which part; the relay counts the bytes that it has read there.
    """

    def __init__(
        self, event_loop: EventLoop, client: Connection, readers: Sequence[PipeEnd], page: CommandPage
    ) -> None:
        self._event_loop = event_loop
        self._client = client
        self._streams = [_Stream(number, reader) for number, reader in enumerate(readers, 1)]
        self._page = page
        self._last = b""
        self._flow = Flow.FLOWING
        self._acknowledged = 0
        self._taken = 0, 0  # the client's progress at the last check: bytes sent, acknowledgements
        self._taken_at = 0.0  # the time of the last progress
        for stream in self._streams:
            os.set_blocking(stream.reader.fileno(), False)
        self._watch()

    @property
    def last(self) -> str:
        """The last output of both streams, up to 2 KiB, in the order of arrival."""
        text = self._last.decode("utf-8", "replace")
        # If the text was cut, start with a whole line if there is one.
        whole = len(self._last) < _LAST_BYTES or "\n" not in text[:-1]
        return text if whole else text.partition("\n")[2]

    @property
    def printed(self) -> int:
        """The number of bytes of both streams that the relay has read."""
        return sum(stream.position for stream in self._streams)

    def told(self) -> list[int]:
        """Return for each stream the number of bytes that the client knows of, shown or dropped."""
        return [stream.position - sum(stream.dropped.values()) for stream in self._streams]

    def end(self) -> None:
        """Pass on the remaining output of an engine that has ended."""
        self._drain()
        self._release()

    def drain(self) -> None:
        """Pass on the output in the pipes, unless the relay is waiting for the client."""
        if self._flow is not Flow.WAITING:
            self._drain()

    def tend(self) -> float:
        """Start or stop to wait or to drop, by the client's progress; return the seconds until the next call."""
        if self._flow is Flow.FLOWING:
            return math.inf
        self._event_loop.flush(self._client)
        now = time.monotonic()
        if self._taken_now() != self._taken:
            self._taken, self._taken_at = self._taken_now(), now
            if self._client.unsent_bytes < _MAX_BACKLOG_BYTES // 2:
                self._flow = Flow.FLOWING
                self._tell_dropped()
                self._watch()
                return math.inf
            self._flow = Flow.WAITING
            self._unwatch()
        elif self._flow is Flow.WAITING and now - self._taken_at >= _MAX_STALL:
            self._flow = Flow.DROPPING
            self._watch()
        return _LOOK

    def acknowledge(self) -> None:
        """Record that the client has confirmed output."""
        self._acknowledged += 1

    def _taken_now(self) -> tuple[int, int]:
        return self._client.sent_bytes, self._acknowledged

    def close(self) -> None:
        """Close the pipes; for an engine that has ended."""
        self._unwatch()
        self._flow = Flow.FLOWING
        for stream in self._streams:
            stream.ended = True
            stream.reader.close()

    def _has_backlog(self) -> bool:
        return self._flow is not Flow.DROPPING and self._client.unsent_bytes > _MAX_BACKLOG_BYTES

    def _wait(self) -> None:
        if self._flow is not Flow.WAITING:
            self._flow = Flow.WAITING
            self._taken, self._taken_at = self._taken_now(), time.monotonic()
            self._unwatch()

    def _watch(self) -> None:
        for stream in self._streams:
            if not stream.watched and not stream.ended:
                stream.watched = True
                self._event_loop.watch(stream.reader.fileno(), functools.partial(self._on_readable, stream))

    def _unwatch(self) -> None:
        for stream in self._streams:
            if stream.watched:
                stream.watched = False
                self._event_loop.unwatch(stream.reader.fileno())

    def _on_readable(self, stream: _Stream) -> None:
        if self._has_backlog():
            self._wait()
        else:
            self._read(stream, _CHUNK_BYTES)

    def _drain(self) -> None:
        """Read the bytes now in the pipes, and no more, because a child of the engine may print forever."""
        for stream in self._streams:
            left = stream.waiting_bytes()
            while left > 0 and (count := self._read(stream, min(left, _CHUNK_BYTES))):
                left -= count

    def _read(self, stream: _Stream, limit: int) -> int:
        data = self._take(stream, limit)
        if data is None:
            return 0
        if not data:
            self._end(stream)
            return 0
        self._last = (self._last + data)[-_LAST_BYTES:]
        for mark in self._page.marks():
            for other, start in zip(self._streams, mark.starts, strict=True):
                other.mark(start, mark.command)
        whole, stream.held = stream.held + data, b""
        if self._flow is Flow.DROPPING:
            stream.drop(whole)
            return len(data)
        if len(data) == limit and (after := whole.rfind(b"\n") + 1) and stream.waiting_bytes():
            # Our limit has cut a line. If we sent the part, the output of another node could follow on the same line.
            whole, stream.held = whole[:after], whole[after:]
        self._post(stream, whole)
        return len(data)

    def _take(self, stream: _Stream, limit: int) -> bytes | None:
        data = b""
        self._page.begin_read()
        try:
            data = os.read(stream.reader.fileno(), limit)
        except BlockingIOError:
            return None
        finally:
            self._page.end_read(stream.number, len(data))
        return data

    def _end(self, stream: _Stream) -> None:
        """Close a stream that has no writer left."""
        if stream.held:
            self._post(stream, stream.held)
            stream.held = b""
        self._event_loop.unwatch(stream.reader.fileno())
        stream.watched, stream.ended = False, True
        stream.reader.close()

    def _release(self) -> None:
        """Pass on held output, and report dropped output; a stream has only one of the two."""
        for stream in self._streams:
            if stream.held:
                self._post(stream, stream.held)
                stream.held = b""
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        for stream in self._streams:
            for command, count in stream.dropped.items():
                self._client.post(Kind.OUTPUT, stream.number, [command, b"", count])
            stream.dropped.clear()

    def _post(self, stream: _Stream, data: bytes) -> None:
        for command, part in stream.advance(data):
            self._client.post(Kind.OUTPUT, stream.number, [command, part, 0])
        self._event_loop.flush(self._client)


class Pace:
    """Stops reading from an engine while its client does not read; messages for the front end wait in the engine.

    `client`: the command channel. `engine`: the pipe to the engine, served by the loop.
    """

    def __init__(self, event_loop: EventLoop, client: Connection, engine: Connection) -> None:
        self._event_loop = event_loop
        self._client = client
        self._engine = engine
        self._is_paused = False

    def tend(self, *, has_process: bool) -> None:
        """Pause or resume; if the engine has no process, read its messages to the end."""
        unsent = self._client.unsent_bytes
        if not self._is_paused and unsent > _MAX_UNSENT_BYTES and has_process:
            self._event_loop.remove(self._engine)
            self._is_paused = True
        elif self._is_paused and unsent < _MAX_UNSENT_BYTES // 2:
            self._is_paused = False
            if self._engine.error is None:
                self._event_loop.add(self._engine)
