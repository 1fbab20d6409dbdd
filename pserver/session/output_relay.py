"""What an engine prints, on its way from two pipes to the client.

Three things are wanted that contradict each other: nothing is lost, the engine is not held up, and memory is bounded.
So a client that takes what comes is waited for: when too much is on its way, the pipes are not read, they fill up, and
the engine waits in its print. But a client that takes nothing at all for a while is computing, or stopped in a
debugger, for who knows how long. Then the pipes are read again and what comes out is dropped, and counted, until the
client takes something; it is told how much is missing, and where.

.. code-block:: text

             too much is on its way           nothing taken for a second
    FLOWING ───────────────────────▶ WAITING ───────────────────────────▶ DROPPING
       ▲      half of it is taken    │    ▲        something taken           │
       └─────────────────────────────┘    └──────────────────────────────────┘

Which command has printed what, the engine writes into the page of `pserver.engine.command_page`.

The client says that it takes output (TAKEN), every few kilobytes: what the system accepts for it would tell only in
portions of hundreds of kilobytes, which a busy client may not take in a second. That counts, too.
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
_CHUNK_BYTES = 2**14  # taken as a whole by the client, and so by no means too much for a slow one in a second
_MAX_STALL = 1.0  # seconds in which the client takes nothing, before output is dropped
# Seconds between two looks at a slow client: the system reports room only when there is much of it.
_LOOK = 0.1
# While so much waits for the client, nothing more is taken from the engine. It is more than `OutputRelay` leaves there:
# a flood of output that the client does not take keeps no command from beginning and ending.
_MAX_UNSENT_BYTES = 2**21
_LAST_BYTES = 2**11  # kept for the account of a death


class Flow(enum.Enum):
    """What becomes of output now."""

    FLOWING = enum.auto()  #: it is passed on
    WAITING = enum.auto()  #: it stays in the pipes, until the client has taken enough
    DROPPING = enum.auto()  #: it is read and dropped, until the client takes something


@dataclass
class _Stream:
    number: int  # 1: stdout, 2: stderr
    reader: PipeEnd
    position: int = 0  # of the next byte that the client gets
    # Positions, each with the command that prints from there on.
    marks: deque[tuple[int, int]] = field(default_factory=lambda: deque([(0, 0)]))
    held: bytes = b""  # read, the beginning of a line whose rest was still in the pipe
    dropped: dict[int, int] = field(default_factory=dict)  # and not told the client, by command
    watched: bool = False
    ended: bool = False

    def mark(self, start: int, command: int) -> None:
        """Take a mark; it may be the last one again, with another command."""
        if self.marks[-1][0] == start:
            self.marks.pop()
        self.marks.append((start, command))

    def advance(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield what the client gets next, in parts that one command has printed, with that command."""
        end = self.position + len(data)
        while self.position < end:
            command, stop = self.owner(), end
            if len(self.marks) > 1:
                stop = min(end, self.marks[1][0])
            yield command, data[len(data) - end + self.position : len(data) - end + stop]
            self.position = stop

    def drop(self, data: bytes) -> None:
        """Count what the client does not get."""
        for command, part in self.advance(data):
            self.dropped[command] = self.dropped.get(command, 0) + len(part)

    def owner(self) -> int:
        """Return which command prints the next byte."""
        while len(self.marks) > 1 and self.marks[1][0] <= self.position:
            self.marks.popleft()
        return self.marks[0][1]

    def waiting_bytes(self) -> int:
        """Return how much is in the pipe."""
        return 0 if self.ended else bytes_in_pipe(self.reader.fileno())


class OutputRelay:
    """The standard output and standard error of one engine.

    `event_loop`: the loop that serves `client`. `readers`: the ends of the pipes, for standard output and for standard
    error. `page`: says which command has printed what; here is counted what is taken.
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
        self._taken = 0, 0  # what the client had taken and acknowledged, when one looked last
        self._taken_at = 0.0  # when that had become more
        for stream in self._streams:
            os.set_blocking(stream.reader.fileno(), False)
        self._watch()

    @property
    def last(self) -> str:
        """What was printed last, up to 2 KiB of both streams, in the order in which it came here."""
        text = self._last.decode("utf-8", "replace")
        # Where the beginning was cut off, it begins with a whole line if there is one.
        whole = len(self._last) < _LAST_BYTES or "\n" not in text[:-1]
        return text if whole else text.partition("\n")[2]

    @property
    def printed(self) -> int:
        """How many bytes of both streams have come here."""
        return sum(stream.position for stream in self._streams)

    def told(self) -> list[int]:
        """Return of each stream how much the client was told of, shown or dropped."""
        return [stream.position - sum(stream.dropped.values()) for stream in self._streams]

    def end(self) -> None:
        """Pass on all that there is, from an engine that has ended."""
        self._drain()
        self._release()

    def drain(self) -> None:
        """Pass on what is printed and not yet read, unless the client has to be waited for."""
        if self._flow is not Flow.WAITING:
            self._drain()

    def tend(self) -> float:
        """Begin or end to wait or to drop, as the client does; return in how many seconds to call this again."""
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
        """Record that the client says it takes output."""
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
        """Read what is in the pipes now: no more, because a child of the engine may go on printing for ever."""
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
            # It was us who cut the line, and the client would end it where another node prints.
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
        """Close a stream whose last writer is gone."""
        if stream.held:
            self._post(stream, stream.held)
            stream.held = b""
        self._event_loop.unwatch(stream.reader.fileno())
        stream.watched, stream.ended = False, True
        stream.reader.close()

    def _release(self) -> None:
        """Pass on what is held, and tell what was dropped: a stream has only one of them."""
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
    """Takes no more from an engine while its client takes nothing: its messages for the front end wait there.

    `client`: the command channel. `engine`: the pipe to the engine, which the loop serves.
    """

    def __init__(self, event_loop: EventLoop, client: Connection, engine: Connection) -> None:
        self._event_loop = event_loop
        self._client = client
        self._engine = engine
        self._is_paused = False

    def tend(self, *, has_process: bool) -> None:
        """Pause or go on; an engine without a process is read to the end."""
        unsent = self._client.unsent_bytes
        if not self._is_paused and unsent > _MAX_UNSENT_BYTES and has_process:
            self._event_loop.remove(self._engine)
            self._is_paused = True
        elif self._is_paused and unsent < _MAX_UNSENT_BYTES // 2:
            self._is_paused = False
            if self._engine.error is None:
                self._event_loop.add(self._engine)
