"""A few pages of memory that an engine shares with its supervisor, so that neither has to query the other.

The client sends commands to the engine, not to the supervisor. The page shows the supervisor which command is running,
and the engine which commands to stop. It also records which command printed which output. Each field has one writer::

    running     the running command; 0 between commands              engine
    begun       the last command that has begun                      engine
    limit_at    the instant when its time limit expires, or 0        engine
    up_to       commands up to this number are interrupted           supervisor
    one         this single command is interrupted as well           supervisor
    signals     number of signals sent                               supervisor
    cancels     number of CANCEL messages sent                       supervisor
    expired     the command stopped at its time limit                supervisor
    closing     no further command may begin                         supervisor
    taken       bytes read from the pipe of each stream              supervisor
    reads       number of times that a read has begun or ended       supervisor
    commands    number of commands that have begun                   engine
    received    number of bytes that the engine has received         engine
    sent        number of bytes that the engine has sent             engine
    marks       where a command's output begins or ends              engine

*Interrupts.* The supervisor writes the numbers of the commands to stop, increments ``signals``, and sends the signal.
The engine's handler checks those numbers: a signal for a command that has already ended does nothing. When a command
begins, it checks them too:

=========================================  =========================================================================
the supervisor writes ``up_to``            result
=========================================  =========================================================================
before the command begins                  the check stops the command before it begins; the signal does nothing
after the check, before the command ends   the signal arrives after both, and ends the command
after the command ends                     the signal does nothing; the next command has a higher number
=========================================  =========================================================================

*Cancelling one command.* A cancelled command may wait behind others, which must keep running. So the supervisor sends
CANCEL to the engine, increments ``cancels``, and then reads ``begun``. The engine writes ``begun``, and then reads
``cancels``. On both sides, system calls separate the two steps, so at least one side sees the other's write. If the
command has not begun, it never will. If it is running, the supervisor writes ``one`` and sends the signal.

*Output.* `given` is the number of bytes written to a stream so far: those that the supervisor has read, plus those in
the pipe. The supervisor increments ``reads`` before and after each read, so the engine sees when it has to count again;
both sides use the pipe, whose lock provides the ordering. The end of a command tells the client how many bytes each
stream had been given, and the client waits for them. The engine writes a mark before the first byte that it covers, so
a reader that has the byte also finds its mark. A command that prints nothing leaves no mark: its mark is overwritten.
"""

import fcntl
import mmap
import os
import struct
import termios
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

PAGE_BYTES = 2**15
_MARK = struct.Struct("=QQQ")
# The supervisor takes marks together with output. It leaves output unread for up to a second if the client reads none.
_FULL_SECONDS = 2.0
# Seconds that the supervisor may spend between reading and counting: on a busy machine it may be descheduled there.
_LONGEST_READ = 2.0

_NUMBER = struct.Struct("Q")  # native: each number is written by one store
_FIELDS = (
    "running begun limit_at up_to one signals cancels expired closing taken_1 taken_2 reads marked marks_read"
    " commands received sent"
)
_AT = {name: 8 * index for index, name in enumerate(_FIELDS.split())}
_MARKS_AT = 8 * len(_AT)
_MAX_MARKS = (PAGE_BYTES - _MARKS_AT) // _MARK.size


class Mark(NamedTuple):
    """From this point on, output belongs to a command; 0: to none."""

    command: int
    starts: tuple[int, ...]  # bytes given to each stream before this mark


class CommandPage:
    """The shared memory, on either side. `descriptor`: the memory's; the caller may close it afterwards."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, PAGE_BYTES)

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()

    # --- the engine ---

    def begin(self, number: int, limit: float | None = None) -> None:
        """Record that a command begins. `limit`: its time limit in seconds."""
        self._store("limit_at", 0 if limit is None else time.monotonic_ns() + round(limit * 1e9))
        self._store("begun", number)
        self._count("commands")
        self._store("running", number)

    def count_bytes(self, received: int, sent: int) -> None:
        """Record the total number of bytes received and sent on the engine's links."""
        self._store("received", received)
        self._store("sent", sent)

    def end(self) -> None:
        """Record that the command has ended."""
        self._store("running", 0)

    def stops(self, number: int) -> bool:
        """Whether a command that runs, or is about to, must be stopped."""
        return self._load("up_to") >= number or self._load("one") == number

    def has_expired(self, number: int) -> bool:
        """Whether a command was stopped because its time limit expired."""
        return self._load("expired") == number

    def mark(self, command: int, given: Sequence[int]) -> None:
        """Record that output belongs to a command from here on; 0: to none."""
        marked = self._load("marked")
        if marked and tuple(given) == _MARK.unpack_from(self._memory, _mark_at(marked - 1))[1:]:
            _NUMBER.pack_into(self._memory, _mark_at(marked - 1), command)
            return
        # One slot stays free because the supervisor reads the last mark again.
        deadline = time.monotonic() + _FULL_SECONDS
        while marked - self._load("marks_read") >= _MAX_MARKS - 1:
            if time.monotonic() > deadline:
                return  # then the output counts as the previous command's
            time.sleep(0.001)
        _MARK.pack_into(self._memory, _mark_at(marked), command, *given)
        self._store("marked", marked + 1)

    # --- the supervisor ---

    def interrupt(self, up_to: int) -> None:
        """Stop all commands up to a number; the caller then sends a signal."""
        self._store("up_to", max(up_to, self._load("up_to")))
        self._count("signals")

    def interrupt_one(self, number: int) -> None:
        """Stop the running command if it has this number; the caller then sends a signal."""
        self._store("one", number)
        self._count("signals")

    def expire(self, number: int) -> None:
        """Stop the command with this number, if it is running, at its time limit; the caller then sends a signal."""
        self._store("expired", number)
        self.interrupt_one(number)

    def count_cancel(self) -> None:
        """Record that a CANCEL message was sent."""
        self._count("cancels")

    def stop_all(self) -> None:
        """Let no further command begin."""
        self._store("closing", 1)

    def limit(self) -> tuple[int, float]:
        """Return the running command and the instant when its time limit expires; 0 if it has no limit."""
        running, at = self.running, self._load("limit_at")
        return (running, at / 1e9) if at and self.running == running else (0, 0.0)

    def begin_read(self) -> None:
        """Record that a read from a pipe is about to begin."""
        self._count("reads")

    def end_read(self, stream: int, count: int) -> None:
        """Record the number of bytes read from stream 1 or 2."""
        self._count(f"taken_{stream}", count)
        self._count("reads")

    def marks(self) -> Iterator[Mark]:
        """Return the new marks, preceded by the last known one, which may have changed."""
        marked = self._load("marked")
        for index in range(self._load("marks_read"), marked):
            yield self._mark(index)
        self._store("marks_read", max(0, marked - 1))

    # --- both ---

    @property
    def running(self) -> int:
        """The running command; 0 between commands."""
        return self._load("running")

    @property
    def begun(self) -> int:
        """The last command that has begun."""
        return self._load("begun")

    @property
    def commands(self) -> int:
        """The number of commands that have begun."""
        return self._load("commands")

    @property
    def traffic(self) -> tuple[int, int]:
        """The number of bytes that the engine has received and sent."""
        return self._load("received"), self._load("sent")

    @property
    def signals(self) -> int:
        """The number of signals that the supervisor has sent."""
        return self._load("signals")

    @property
    def cancels(self) -> int:
        """The number of CANCEL messages that the supervisor has sent."""
        return self._load("cancels")

    @property
    def is_closing(self) -> bool:
        """Whether no further command may begin."""
        return bool(self._load("closing"))

    @property
    def reads(self) -> int:
        """How many times the supervisor has begun or ended a read."""
        return self._load("reads")

    def taken(self) -> tuple[int, tuple[int, int]]:
        """Return the value of ``reads`` and the number of bytes read from each stream."""
        return self.reads, (self._load("taken_1"), self._load("taken_2"))

    def _mark(self, index: int) -> Mark:
        command, *starts = _MARK.unpack_from(self._memory, _mark_at(index))
        return Mark(command, tuple(starts))

    def _count(self, name: str, by: int = 1) -> None:
        self._store(name, self._load(name) + by)

    # --- the steps whose order matters between the two sides; a test replaces them ---

    def _load(self, name: str) -> int:
        value: int = _NUMBER.unpack_from(self._memory, _AT[name])[0]
        return value

    def _store(self, name: str, value: int) -> None:
        _NUMBER.pack_into(self._memory, _AT[name], value)


class GivenOutput:
    """Counts the bytes written to the two output streams of an engine; used in the engine.

    `page`: where the supervisor counts its reads. `pipes`: the engine's own ends, which nothing else uses: the user's
    code may replace descriptors 1 and 2.
    """

    def __init__(self, page: CommandPage, pipes: Sequence[int]) -> None:
        self._page = page
        self._pipes = tuple(pipes)

    def count(self) -> tuple[int, ...]:
        """Return the number of bytes written to each stream so far."""
        deadline = time.monotonic() + _LONGEST_READ
        while True:
            reads, taken = self._page.taken()
            given = tuple(
                [before + bytes_in_pipe(pipe) for before, pipe in zip(taken, self._pipes, strict=True)]
            )
            if not reads % 2 and self._page.reads == reads:
                return given
            if time.monotonic() > deadline:
                return given  # the supervisor is stuck in a read: better too low than too high
            os.sched_yield()


def bytes_in_pipe(descriptor: int) -> int:
    """Return the number of bytes in a pipe. `descriptor`: either end."""
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]
    return count


def make_memory() -> int:
    """Return a descriptor of new memory for a `CommandPage`."""
    descriptor = os.memfd_create("pserver commands", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, PAGE_BYTES)
    return descriptor


def _mark_at(index: int) -> int:
    return _MARKS_AT + index % _MAX_MARKS * _MARK.size
