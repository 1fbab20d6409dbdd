"""The streams of a program between its job and the descriptors that the user's shell gave to `prun`.

The thread of the jobs delivers output and writes it immediately where possible. The agent's loop writes the rest, and
reads all input. A descriptor shared with another process is never made non-blocking, because that would affect the
other process. Pipes and terminals are opened again for this purpose.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import socket
import stat
import termios
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pconnect.programs.streams import PIECE, Credit

# The size to request for pipes, so that each read and write moves more data.
_PIPE_BYTES = 2**20
# A pipe that poll(2) reports as writable takes at least this much without blocking: the smallest PIPE_BUF of POSIX.
_ALWAYS_ROOM = 512


def is_writable(number: int) -> bool:
    """Return whether a descriptor can be written.

    If the caller's output was closed, an interpreter may have opened its script under that number.
    """
    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _is_nameless(number: int) -> bool:
    """Return whether a descriptor is a pipe without a name.

    A named pipe that is opened again after all writers have closed it never reports its end.
    """
    return Path(f"/proc/self/fd/{number}").readlink().name.startswith("pipe:")


class _Descriptor:
    """A stream of a client.

    `number`: our descriptor for it, -1 when closed. `watched`: the descriptor to poll.
    """

    def __init__(self, number: int, flags: int) -> None:
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE not in {flags, os.O_RDWR}:
            # Opening the wrong end of a pipe again would succeed, but that stream would never end. The null device
            # ends immediately, and is opened read-only.
            os.close(number)
            number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.number = self.watched = number
        self._may_block = False  # it belongs to another account and could not be opened again
        mode = os.fstat(number).st_mode
        self._sock: socket.socket | None = None
        if stat.S_ISSOCK(mode):
            self._sock = socket.socket(fileno=number)
        elif stat.S_ISFIFO(mode) or os.isatty(number):
            try:
                self.number = os.open(
                    f"/proc/self/fd/{number}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                )
            except OSError as error:
                self._may_block = isinstance(error, PermissionError)
                # Otherwise it is a pipe whose other end is closed: the next use reports that.
            else:
                if flags == os.O_WRONLY or _is_nameless(number):
                    os.close(number)
                    self.watched = self.number
            # This fails for a terminal, or if the user's pipes have reached the system's limit.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.number, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self, count: int) -> bytes:
        if self._sock is not None:
            return self._sock.recv(count, socket.MSG_DONTWAIT)
        return os.read(self.number, count)

    def has_bytes(self) -> bool:
        """Return whether a read would return data rather than the end of the stream."""
        if os.fstat(self.number).st_rdev == Path(os.devnull).stat().st_rdev:
            return False
        count = bytearray(4)
        try:
            fcntl.ioctl(self.number, termios.FIONREAD, count)
        except OSError:  # this kind of file does not support it
            return True
        return any(count)

    def write(self, data: memoryview) -> int:
        if self._sock is not None:
            return self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._may_block:
            poll = select.poll()
            poll.register(self.number, select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError
            data = data[:_ALWAYS_ROOM]
        return os.write(self.number, data)

    def close(self) -> None:
        numbers, self.number, self.watched = {self.number, self.watched}, -1, -1
        if self._sock is not None:
            self._sock.close()
        else:
            for number in numbers - {-1}:
                os.close(number)


class DescriptorOutput:
    """Writes the output of a program to a descriptor.

    `grant`: allows the program to write that many more bytes; 0 means that the reader is gone. `on_end`: called once,
    in any thread, after the last write. `touch`: called before the first byte is written.

    `problem`: the error if writing failed, except for a closed pipe. `written`: the number of bytes written.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        grant: Callable[[int], None],
        on_end: Callable[[], object],
        touch: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._end = _Descriptor(number, os.O_WRONLY)
        self._grant = grant
        self._on_end = on_end
        self._touch: Callable[[], object] | None = touch
        self._lock = threading.Lock()
        self._pieces: deque[memoryview] = deque()
        self._has_ended = self._is_broken = self._is_watched = self._is_over = False
        self._credit = Credit()
        self.problem: OSError | None = None
        self.written = 0

    def take(self, data: bytes) -> None:
        """Accept data from the program. Empty data means the end of the stream."""
        with self._lock:
            if data:
                self._credit.arrive(len(data))
                self._pieces.append(memoryview(data))
            else:
                self._has_ended = True
        self._move()

    def fail(self, _error: BaseException | None) -> None:
        """End the stream because the program failed."""
        with self._lock:
            self._has_ended = True
        self._move()

    def begin_again(self) -> None:
        """Do nothing: written output cannot be taken back, so such a job is never repeated automatically."""

    @property
    def is_blocked(self) -> bool:
        """Whether output is waiting for a slow reader."""
        return self._is_watched

    def abandon(self) -> None:
        """Discard all further output, because the client is gone. Only the loop's thread may call this."""
        if self._end.number >= 0:
            self._loop.remove_writer(self._end.number)
        with self._lock:
            self._is_broken = self._has_ended = True
            self._is_watched = False
        self._grant(0)
        self._move()

    def _move(self) -> None:
        told, is_broken, must_watch, is_over = 0, False, False, False
        with self._lock:
            if self._is_watched or self._is_over:
                return
            told, is_broken = self._write()
            if self._pieces:
                self._is_watched = must_watch = True
            elif self._has_ended:
                self._is_over = is_over = True
                self._end.close()
        if is_broken:
            self._grant(0)
        elif told:
            self._grant(told)
        if must_watch:
            self._loop.call_soon_threadsafe(self._watch)
        if is_over:
            self._on_end()

    def _write(self) -> tuple[int, bool]:
        """Write as much as possible without blocking; return how much to grant, and whether writing just failed."""
        told = 0
        try:
            while self._pieces and not self._is_broken:
                if self._touch is not None:
                    self._touch()
                    self._touch = None
                piece = self._pieces[0]
                count = self._end.write(piece)
                self.written += count
                told += self._credit.take(count)
                if count == len(piece):
                    self._pieces.popleft()
                else:
                    self._pieces[0] = piece[count:]
        except BlockingIOError:
            return told, False
        except OSError as error:  # the program sees every error as a closed pipe
            self._is_broken = True
            if error.errno not in {errno.EPIPE, errno.ECONNRESET, errno.ENXIO}:
                self.problem = error
            self._pieces.clear()
            return told, True
        if self._is_broken:
            self._pieces.clear()
        return told, False

    def _watch(self) -> None:
        if self._end.number < 0:
            return
        try:
            self._loop.add_writer(self._end.number, self._is_ready)
        except PermissionError:  # epoll refuses regular files, which are always ready
            self._is_ready()

    def _is_ready(self) -> None:
        self._loop.remove_writer(self._end.number)
        with self._lock:
            self._is_watched = False
        self._move()


class DescriptorInput:
    """Reads the input of a program from a descriptor. Only the loop's thread may use it, except for `grant`.

    `send`: sends a piece; empty data means the end. `touch`: called before the first byte is read.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        send: Callable[[bytes], None],
        touch: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._end = _Descriptor(number, os.O_RDONLY)
        self._send = send
        self._touch: Callable[[], object] | None = touch
        self._credit = 0
        self._is_watched = False

    def grant(self, count: int) -> None:
        """Allow sending `count` more bytes; 0 means that the program no longer reads. Any thread may call this."""
        self._loop.call_soon_threadsafe(self._take_grant, count)

    def begin_again(self) -> None:
        """Do nothing: input cannot be read twice, so such a job is never repeated automatically."""

    def close(self) -> None:
        """Stop reading."""
        if self._end.number >= 0:
            if self._is_watched:
                self._loop.remove_reader(self._end.watched)
            self._end.close()

    def _take_grant(self, count: int) -> None:
        if not count:
            self.close()
            return
        self._credit += count
        if self._end.number >= 0 and not self._is_watched:
            try:
                self._loop.add_reader(self._end.watched, self._read)
                self._is_watched = True
            except PermissionError:  # epoll refuses regular files, which are always ready
                self._read()

    def _read(self) -> None:
        """Read and send one piece. Between the pieces of a regular file, other streams get their turn."""
        if (
            self._end.number < 0 or not self._credit
        ):  # for a regular file, each grant may have scheduled a call
            return
        if self._touch is not None and self._end.has_bytes():
            self._touch()
            self._touch = None
        try:
            data = self._end.read(min(PIECE, self._credit))
        except BlockingIOError:
            return
        except OSError:  # for instance, a closed terminal or a folder
            data = b""
        self._send(data)
        self._credit -= len(data)
        if not data:
            self.close()
        elif not self._credit and self._is_watched:
            self._loop.remove_reader(self._end.watched)
            self._is_watched = False
        elif self._credit and not self._is_watched:
            self._loop.call_soon(self._read)
