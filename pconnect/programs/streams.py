"""The client's ends of a program's streams: file objects that block while the program is slower.

The receiver of a stream grants the sender a number of bytes. So, as with a pipe, a slow reader slows the program down,
and buffers stay bounded.
"""

import functools
import io
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from pconnect.errors import ProtocolError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

STDIN, STDOUT, STDERR = range(3)
#: The maximum number of bytes of a stream in transit.
WINDOW = 2**22
#: The maximum number of bytes in one message.
PIECE = 2**20


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep up to 32 MiB of freed memory for the next pieces of a stream.

    Without it, the C library returns the memory of each piece to the system, which has to clear it again for the next
    piece. The library derives the limit from the largest freed block (M_MMAP_THRESHOLD in mallopt(3)). The pages of
    this block are never touched, so the call takes only some microseconds.
    """
    block = bytearray(2**24)
    del block


class Credit:
    """The flow control of the receiver of a stream."""

    def __init__(self) -> None:
        self._waiting = 0  # bytes received but not yet consumed
        self._untold = 0  # bytes consumed but not yet granted again

    def arrive(self, count: int) -> None:
        """Count received bytes; raise `ProtocolError` if they exceed the granted number."""
        self._waiting += count
        if self._waiting > WINDOW:
            raise ProtocolError("STREAM contains more bytes than CREDIT has granted")

    def take(self, count: int) -> int:
        """Count consumed bytes; return the number of bytes to grant now, which is usually 0."""
        self._waiting -= count
        self._untold += count
        if self._untold < WINDOW // 4:
            return 0
        told, self._untold = self._untold, 0
        return told


class ProgramOutput(io.RawIOBase):
    """A readable file with the output of a program.

    `grant`: called with the number of further bytes that the program may write; 0 means that the reader is gone.
    """

    def __init__(self, grant: Callable[[int], None]) -> None:
        super().__init__()
        self._grant = grant
        self._condition = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._has_ended = False
        self._error: BaseException | None = None
        self._credit = Credit()

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read some bytes into a buffer. Blocks until at least one is available; returns 0 at the end of the stream.

        If the job failed before the program closed its stream, raises the error of the job.
        """
        target = memoryview(buffer).cast("B")
        with self._condition:
            while target and not (self._pieces or self._has_ended or self._error or self.closed):
                self._condition.wait()
            if self.closed:
                raise ValueError("read of closed file")
            if not target:
                return 0
            if not self._pieces:
                if self._error:
                    raise self._error
                return 0
            piece = self._pieces[0]
            count = min(len(piece), len(target))
            target[:count] = piece[:count]
            if count == len(piece):
                self._pieces.popleft()
            else:
                self._pieces[0] = piece[count:]
            told = self._credit.take(count)
        if told:
            self._grant(told)
        return count

    def close(self) -> None:
        """Stop reading. The program finds its stream closed at its next write."""
        if not self.closed:
            with self._condition:
                is_open = not (self._has_ended or self._error)
                self._pieces.clear()
                super().close()
                self._condition.notify_all()
            if is_open:
                self._grant(0)

    # --- for the job ---

    def take(self, data: bytes) -> None:
        """Add received data. Empty data means the end of the stream."""
        with self._condition:
            if not data:
                self._has_ended = True
            elif not self.closed:
                self._credit.arrive(len(data))
                self._pieces.append(memoryview(data))
            self._condition.notify_all()

    def begin_again(self) -> None:
        """Do nothing: a program with file objects as streams never runs twice, so no data has arrived yet."""

    def fail(self, error: BaseException | None) -> None:
        """End the stream. `error`: the error of the job; ``None`` if the program ended normally."""
        with self._condition:
            if error is not None and not self._has_ended:
                self._error = error
            else:
                self._has_ended = True
            self._condition.notify_all()


class ProgramInput(io.RawIOBase):
    """A writable file with the input of a program. `send`: called with each piece; empty data means the end."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._condition = threading.Condition()
        # Held while sending; acquired before the condition. It is reentrant because a signal handler may close the file
        # during a write.
        self._sending = threading.RLock()
        self._credit = 0
        self._has_begun = self._is_broken = False

    def writable(self) -> bool:
        """Return ``True``."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Send all bytes and return their number. Blocks while the program is slower.

        Concurrent writes of several threads are not mixed. Raises `BrokenPipeError` if the program has closed its input
        or ended, and `ValueError` if this file is closed meanwhile. Bytes sent before the error are not taken back.
        """
        view = memoryview(data)
        rest = view.cast("B") if view.nbytes else memoryview(b"")  # an array without elements cannot be cast
        with self._sending:
            if self.closed:
                raise ValueError("write to closed file")
            while rest:
                count = self._take_credit(len(rest))
                self._send(bytes(rest[:count]))
                rest = rest[count:]
        return view.nbytes

    def _take_credit(self, wanted: int) -> int:
        """Wait until bytes may be sent; return how many."""
        with self._condition:
            while not (self._credit or self._is_broken or self.closed):
                self._condition.wait()
            if self.closed:
                raise ValueError("write to closed file")
            if self._is_broken:
                raise BrokenPipeError("the program no longer reads its standard input")
            count = min(wanted, self._credit, PIECE)
            self._credit -= count
            return count

    def close(self) -> None:
        """Send the end of the stream, after a piece that is being sent. A waiting write in another thread fails."""
        if not self.closed:
            with self._condition:
                is_open = self._has_begun and not self._is_broken
                super().close()
                self._condition.notify_all()
            if is_open:
                with self._sending:
                    self._send(b"")

    # --- for the job ---

    def begin_again(self) -> None:
        """Do nothing: a program with file objects as streams never runs twice, so no data was sent yet."""

    def grant(self, count: int) -> None:
        """Allow sending `count` more bytes; 0 means that the program no longer reads."""
        with self._condition:
            is_ending = self.closed and not self._has_begun
            self._has_begun = True
            if count:
                self._credit += count
            else:
                self._is_broken = True
            self._condition.notify_all()
        if is_ending and count:
            self._send(b"")  # it was closed before the program began


class CapturedOutput:
    """The complete output of a program on one stream. `grant`: as for `ProgramOutput`."""

    def __init__(self, grant: Callable[[int], None], max_bytes: int) -> None:
        self._grant = grant
        self._max_bytes = max_bytes
        self.begin_again()

    def begin_again(self) -> None:
        """Discard all received data."""
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._credit = Credit()

    @property
    def is_too_much(self) -> bool:
        """Whether the output exceeded the limit. The rest of it is missing."""
        return self._bytes > self._max_bytes

    def data(self) -> bytes:
        """Return all received data."""
        return b"".join(self._pieces)

    def take(self, data: bytes) -> None:
        """Add received data."""
        if self.is_too_much:
            return
        self._bytes += len(data)
        if self.is_too_much:
            self._grant(0)
            return
        self._pieces.append(data)
        if told := self._credit.take(len(data)):
            self._grant(told)

    def fail(self, error: BaseException | None) -> None:
        """Do nothing: readers wait for the job instead."""


class GivenInput:
    """The input of a program, known in advance. `send`: as for `ProgramInput`."""

    def __init__(self, send: Callable[[bytes], None], data: bytes) -> None:
        self._send = send
        self._data = data
        self.begin_again()

    def begin_again(self) -> None:
        """Start again from the first byte."""
        self._rest = memoryview(self._data)
        self._has_ended = False

    def grant(self, count: int) -> None:
        """Send up to `count` more bytes, and the end after the last one; 0 means that the program no longer reads."""
        if not count:
            self._has_ended = True
        if self._has_ended:
            return
        while count and self._rest:
            piece = bytes(self._rest[: min(count, PIECE)])
            self._rest = self._rest[len(piece) :]
            count -= len(piece)
            self._send(piece)
        if not self._rest:
            self._has_ended = True
            self._send(b"")
