"""The client's ends of a program's streams: files that wait where the program is slower.

Each end of a stream says how many bytes the other may send. So a program whose output nobody reads is slowed down as by
a pipe, and nothing is kept without bound.
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
#: So many bytes of a stream may be on their way.
WINDOW = 2**22
#: So many are sent in one message.
PIECE = 2**20


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep up to 32 MiB that it has freed, for the next pieces of a stream.

    Without it, the C library gives the memory of each piece back to the system, which has to clear it for the next one.
    It learns how much to keep from the largest block that was freed (M_MMAP_THRESHOLD in mallopt(3)). None of its
    pages are ever touched, so this costs some microseconds.
    """
    block = bytearray(2**24)
    del block


class Credit:
    """What the receiver of a stream has allowed the other end, and taken of what came."""

    def __init__(self) -> None:
        self._waiting = 0  # bytes that have come and were not taken
        self._untold = 0  # bytes that were taken, of which the other end has not heard

    def arrive(self, count: int) -> None:
        """Count bytes that have come; raise `ProtocolError` if they are more than was allowed."""
        self._waiting += count
        if self._waiting > WINDOW:
            raise ProtocolError("STREAM brings more than CREDIT has allowed")

    def take(self, count: int) -> int:
        """Count bytes that were taken; return how many more to allow the other end now, mostly 0."""
        self._waiting -= count
        self._untold += count
        if self._untold < WINDOW // 4:
            return 0
        told, self._untold = self._untold, 0
        return told


class ProgramOutput(io.RawIOBase):
    """What a program writes to one of its streams, to be read here.

    `grant`: called with a number of bytes, tells the other end that it may send more; with 0, that nobody reads.
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
        """Read some bytes into a buffer, waiting for the first; 0 is the end, if the buffer is not empty.

        Raises what ended the job, if that was before the program had closed its stream.
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
        """Read no more; the program finds its stream closed when it writes next."""
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
        """Take what has come; without bytes, the end."""
        with self._condition:
            if not data:
                self._has_ended = True
            elif not self.closed:
                self._credit.arrive(len(data))
                self._pieces.append(memoryview(data))
            self._condition.notify_all()

    def begin_again(self) -> None:
        """Do nothing: a program with files as streams runs once, so nothing has come yet."""

    def fail(self, error: BaseException | None) -> None:
        """Take that nothing more comes, and why if that is not the program's doing."""
        with self._condition:
            if error is not None and not self._has_ended:
                self._error = error
            else:
                self._has_ended = True
            self._condition.notify_all()


class ProgramInput(io.RawIOBase):
    """The standard input of a program, to be written here. `send`: called with a piece; without bytes, the end."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        super().__init__()
        self._send = send
        self._condition = threading.Condition()
        # Who has it sends; taken before that of the condition. A handler of signals may close the file during a write.
        self._sending = threading.RLock()
        self._credit = 0
        self._has_begun = self._is_broken = False

    def writable(self) -> bool:
        """Return ``True``."""
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        """Send all bytes, waiting where the program is slower; return how many they are.

        What two threads write is not mixed. Raises `BrokenPipeError` if the program has closed its input, or has ended,
        and `ValueError` if this file is closed meanwhile; what was sent before is sent.
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
        """Wait until something may be sent; return how many bytes may be now."""
        with self._condition:
            while not (self._credit or self._is_broken or self.closed):
                self._condition.wait()
            if self.closed:
                raise ValueError("write to closed file")
            if self._is_broken:
                raise BrokenPipeError("the program does not read its standard input any more")
            count = min(wanted, self._credit, PIECE)
            self._credit -= count
            return count

    def close(self) -> None:
        """Send the end of the stream, behind a piece that is just being sent; a write that waits fails."""
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
        """Do nothing: a program with files as streams runs once, so nothing was sent yet."""

    def grant(self, count: int) -> None:
        """Take that so many more bytes may be sent; 0: nobody reads any more."""
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
    """What a program writes to one of its streams, kept as a whole. `grant`: as of `ProgramOutput`."""

    def __init__(self, grant: Callable[[int], None], max_bytes: int) -> None:
        self._grant = grant
        self._max_bytes = max_bytes
        self.begin_again()

    def begin_again(self) -> None:
        """Forget what has come."""
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._credit = Credit()

    @property
    def is_too_much(self) -> bool:
        """Whether it was more than the limit; what came after it is missing."""
        return self._bytes > self._max_bytes

    def data(self) -> bytes:
        """Return all that has come."""
        return b"".join(self._pieces)

    def take(self, data: bytes) -> None:
        """Take what has come."""
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
        """Do nothing: whoever waits, waits for the job."""


class GivenInput:
    """The standard input of a program that is known as a whole. `send`: as of `ProgramInput`."""

    def __init__(self, send: Callable[[bytes], None], data: bytes) -> None:
        self._send = send
        self._data = data
        self.begin_again()

    def begin_again(self) -> None:
        """Be at the beginning."""
        self._rest = memoryview(self._data)
        self._has_ended = False

    def grant(self, count: int) -> None:
        """Send so many more bytes, and the end behind the last; 0: nobody reads any more."""
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
