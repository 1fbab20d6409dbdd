"""The streams of a program between its job and descriptors of ours: what somebody's shell has given to `prun`.

The thread of the jobs brings output, and writes it at once where that is possible. What is left, and all input, is
moved by the agent's own loop. A descriptor that another process has too is never made non-blocking, because it would be
so for that one; pipes and terminals are opened once more for that.
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

# So much a pipe takes, where the system allows it: each read and write moves more at once.
_PIPE_BYTES = 2**20
# So much a pipe that poll(2) calls ready takes without waiting: the smallest PIPE_BUF of POSIX.
_ALWAYS_ROOM = 512


def is_writable(number: int) -> bool:
    """Whether a descriptor is one for output.

    In the place of an output that was closed, an interpreter may have opened the script that calls us.
    """
    return fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _is_nameless(number: int) -> bool:
    """Whether a descriptor is a pipe without a name.

    One with a name, opened again after its writers have closed it, never tells that it is at its end.
    """
    return Path(f"/proc/self/fd/{number}").readlink().name.startswith("pipe:")


class _Descriptor:
    """One end that belongs to a client.

    `number`: a descriptor of our own for it; -1 when it is closed. `watched`: the one that tells when it is ready.
    """

    def __init__(self, number: int, flags: int) -> None:
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE not in {flags, os.O_RDWR}:
            # Opened again, even the wrong end of a pipe could be used, and would never come to an end.
            os.close(number)
            number = os.open(
                os.devnull, os.O_RDONLY | os.O_CLOEXEC
            )  # which has an end, and cannot be written
        self.number = self.watched = number
        self._may_block = False  # it could not be opened once more, because another account has made it
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
                # Else a pipe without the other end: the next use says so.
            else:
                if flags == os.O_WRONLY or _is_nameless(number):
                    os.close(number)
                    self.watched = self.number
            with contextlib.suppress(
                OSError
            ):  # a terminal, or the user's pipes have used up what they may take
                fcntl.fcntl(self.number, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self, count: int) -> bytes:
        if self._sock is not None:
            return self._sock.recv(count, socket.MSG_DONTWAIT)
        return os.read(self.number, count)

    def has_bytes(self) -> bool:
        """Whether a read would return something, and not only the end."""
        if os.fstat(self.number).st_rdev == Path(os.devnull).stat().st_rdev:
            return False
        count = bytearray(4)
        try:
            fcntl.ioctl(self.number, termios.FIONREAD, count)
        except OSError:  # of a kind that does not tell
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
    """What a program writes, on its way to a descriptor.

    `grant`: tells the program that it may write more; 0: that nobody reads. `on_end`: called once, in any thread, when
    all has been written that will be. `touch`: called before the first byte is.

    `problem`: why it could not be written, if that is not that nobody reads it. `written`: how many bytes were.
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
        """Take what has come; without bytes, the end."""
        with self._lock:
            if data:
                self._credit.arrive(len(data))
                self._pieces.append(memoryview(data))
            else:
                self._has_ended = True
        self._move()

    def fail(self, _error: BaseException | None) -> None:
        """Take that nothing more comes."""
        with self._lock:
            self._has_ended = True
        self._move()

    def begin_again(self) -> None:
        """Do nothing: such a job is never run again by itself, because what was written cannot be taken back."""

    @property
    def is_blocked(self) -> bool:
        """Whether something waits until whoever reads takes more."""
        return self._is_watched

    def abandon(self) -> None:
        """Write nothing more: the client is gone. The loop's thread calls this."""
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
        """Write what can be written now; return how much to grant, and whether it just broke."""
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
        except OSError as error:  # to the program all of these are a closed pipe
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
        except PermissionError:  # a file on a disk, which is always ready
            self._is_ready()

    def _is_ready(self) -> None:
        self._loop.remove_writer(self._end.number)
        with self._lock:
            self._is_watched = False
        self._move()


class DescriptorInput:
    """What a program reads, from a descriptor; all of it is called by the loop's thread, but `grant`.

    `send`: sends a piece; without bytes, the end. `touch`: called before the first byte is read.
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
        """Take that so many more bytes may be sent; 0: nobody reads any more."""
        self._loop.call_soon_threadsafe(self._take_grant, count)

    def begin_again(self) -> None:
        """Do nothing: such a job is never run again by itself, because what was read cannot be read again."""

    def close(self) -> None:
        """Read no more."""
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
            except PermissionError:  # a file on a disk, which is always ready
                self._read()

    def _read(self) -> None:
        """Send one piece; a file on a disk gives the others their turn in between."""
        if self._end.number < 0 or not self._credit:  # of a file, this may have been called for each grant
            return
        if self._touch is not None and self._end.has_bytes():
            self._touch()
            self._touch = None
        try:
            data = self._end.read(min(PIECE, self._credit))
        except BlockingIOError:
            return
        except OSError:  # a terminal that is gone, a folder
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
