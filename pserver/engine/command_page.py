"""A few pages of memory that an engine shares with its supervisor, so that neither has to ask the other.

The client sends commands to the engine, not to the supervisor. The page tells the supervisor which command runs, and
the engine which commands are to be stopped. It also says which command has printed what. Each field has one writer::

    running     the command that runs; 0 between commands            engine
    begun       the last command that has begun                      engine
    limit_at    the instant when its time limit passes, or 0         engine
    up_to       commands up to this number are interrupted           supervisor
    one         so is this one                                       supervisor
    signals     how many signals were sent                           supervisor
    cancels     how many CANCEL messages were sent                   supervisor
    expired     the command that was stopped at its time limit       supervisor
    closing     no command is to begin any more                      supervisor
    taken       how much of each stream was taken out of its pipe    supervisor
    reads       how often that has begun and ended                   supervisor
    commands    how many commands have begun                         engine
    received    how many bytes the engine has received               engine
    sent        how many bytes the engine has sent                   engine
    marks       where in the two streams a command begins or ends    engine

*Interrupts.* The supervisor writes which commands it means, counts the signal, and sends it. The engine's handler
compares: a signal for a command that has ended meanwhile does nothing. A command that begins looks whether it is meant:

=========================================  =========================================================================
the supervisor has written ``up_to``       what happens
=========================================  =========================================================================
before the command begins                  it looks, and does not begin; the signal does nothing
after that look, before its end            the signal comes after both, and ends the command
after its end                              the signal does nothing; the next command has a higher number
=========================================  =========================================================================

*One that is cancelled* may wait behind others, and those run on. So the supervisor sends CANCEL to the engine, counts
it in ``cancels``, and then looks at ``begun``. The engine writes ``begun``, and then looks at ``cancels``. System calls
lie between the two steps on either side, so that at least one side sees what the other wrote. If the command has not
begun, it never will. If it runs, the supervisor writes ``one``, and sends the signal.

*Output.* `given` is what a stream was given so far: what the supervisor took, and what lies in the pipe. The supervisor
counts ``reads`` up before and after it takes something, so the engine sees when it has to look again; both ends use
the pipe, whose lock orders this. The end of a command tells the client how much each stream had been given, and the
client waits for that much. A mark is written before the first byte that it is about, so whoever has read a byte finds
its mark. A command that prints nothing leaves none: its mark is overwritten, while nothing comes after it.
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
# The supervisor takes out marks when it takes output. It leaves that for a second to a client that takes nothing.
_FULL_SECONDS = 2.0
# Seconds that the supervisor may spend between taking something and counting it: a busy machine may let it wait there.
_LONGEST_READ = 2.0

_NUMBER = struct.Struct("Q")  # native, so that each number is written in one piece
_FIELDS = (
    "running begun limit_at up_to one signals cancels expired closing taken_1 taken_2 reads marked marks_read"
    " commands received sent"
)
_AT = {name: 8 * index for index, name in enumerate(_FIELDS.split())}
_MARKS_AT = 8 * len(_AT)
_MAX_MARKS = (PAGE_BYTES - _MARKS_AT) // _MARK.size


class Mark(NamedTuple):
    """From here on what is printed belongs to a command; 0: to none."""

    command: int
    starts: tuple[int, ...]  # by stream, how much it had been given


class CommandPage:
    """The memory, at either end. `descriptor`: of the memory. It may be closed afterwards."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, PAGE_BYTES)

    def close(self) -> None:
        """Let the memory go."""
        self._memory.close()

    # --- the engine ---

    def begin(self, number: int, limit: float | None = None) -> None:
        """Record that a command begins, which may take so many seconds."""
        self._store("limit_at", 0 if limit is None else time.monotonic_ns() + round(limit * 1e9))
        self._store("begun", number)
        self._count("commands")
        self._store("running", number)

    def count_bytes(self, received: int, sent: int) -> None:
        """Record how much has passed on the links of the engine so far."""
        self._store("received", received)
        self._store("sent", sent)

    def end(self) -> None:
        """Record that the command has ended."""
        self._store("running", 0)

    def stops(self, number: int) -> bool:
        """Whether a command is to be stopped that runs, or is about to."""
        return self._load("up_to") >= number or self._load("one") == number

    def has_expired(self, number: int) -> bool:
        """Whether a command was stopped because its time limit has passed."""
        return self._load("expired") == number

    def mark(self, command: int, given: Sequence[int]) -> None:
        """Record that what is printed from here on belongs to a command; 0: to none."""
        marked = self._load("marked")
        if marked and tuple(given) == _MARK.unpack_from(self._memory, _mark_at(marked - 1))[1:]:
            _NUMBER.pack_into(self._memory, _mark_at(marked - 1), command)
            return
        # One place stays free: the supervisor reads the last mark again.
        deadline = time.monotonic() + _FULL_SECONDS
        while marked - self._load("marks_read") >= _MAX_MARKS - 1:
            if time.monotonic() > deadline:
                return  # then the command before counts as the one that prints
            time.sleep(0.001)
        _MARK.pack_into(self._memory, _mark_at(marked), command, *given)
        self._store("marked", marked + 1)

    # --- the supervisor ---

    def interrupt(self, up_to: int) -> None:
        """Stop the commands up to a number; a signal follows."""
        self._store("up_to", max(up_to, self._load("up_to")))
        self._count("signals")

    def interrupt_one(self, number: int) -> None:
        """Stop the command that runs, if it has this number; a signal follows."""
        self._store("one", number)
        self._count("signals")

    def expire(self, number: int) -> None:
        """Stop the command that runs because its time limit has passed, if it has this number; a signal follows."""
        self._store("expired", number)
        self.interrupt_one(number)

    def count_cancel(self) -> None:
        """Record that a CANCEL message was sent."""
        self._count("cancels")

    def stop_all(self) -> None:
        """Let no command begin any more."""
        self._store("closing", 1)

    def limit(self) -> tuple[int, float]:
        """Return the command that runs and has a time limit, or 0; and the instant when that passes."""
        running, at = self.running, self._load("limit_at")
        return (running, at / 1e9) if at and self.running == running else (0, 0.0)

    def begin_read(self) -> None:
        """Record that something is about to be taken out of a pipe."""
        self._count("reads")

    def end_read(self, stream: int, count: int) -> None:
        """Record how much of stream 1 or 2 was taken."""
        self._count(f"taken_{stream}", count)
        self._count("reads")

    def marks(self) -> Iterator[Mark]:
        """Return the marks that are new, and before them the last one again, because that may have changed."""
        marked = self._load("marked")
        for index in range(self._load("marks_read"), marked):
            yield self._mark(index)
        self._store("marks_read", max(0, marked - 1))

    # --- both ---

    @property
    def running(self) -> int:
        """The command that runs; 0 between commands."""
        return self._load("running")

    @property
    def begun(self) -> int:
        """The last command that has begun."""
        return self._load("begun")

    @property
    def commands(self) -> int:
        """How many commands have begun."""
        return self._load("commands")

    @property
    def traffic(self) -> tuple[int, int]:
        """How many bytes the engine has received and sent."""
        return self._load("received"), self._load("sent")

    @property
    def signals(self) -> int:
        """How many signals the supervisor has sent."""
        return self._load("signals")

    @property
    def cancels(self) -> int:
        """How many CANCEL messages the supervisor has sent."""
        return self._load("cancels")

    @property
    def is_closing(self) -> bool:
        """Whether no command is to begin any more."""
        return bool(self._load("closing"))

    @property
    def reads(self) -> int:
        """How often the supervisor has begun and ended to take something."""
        return self._load("reads")

    def taken(self) -> tuple[int, tuple[int, int]]:
        """Return the number of ``reads``, and how much of each stream was taken."""
        return self.reads, (self._load("taken_1"), self._load("taken_2"))

    def _mark(self, index: int) -> Mark:
        command, *starts = _MARK.unpack_from(self._memory, _mark_at(index))
        return Mark(command, tuple(starts))

    def _count(self, name: str, by: int = 1) -> None:
        self._store(name, self._load(name) + by)

    # --- the steps that the order of the two ends is about; a test puts its own in their place ---

    def _load(self, name: str) -> int:
        value: int = _NUMBER.unpack_from(self._memory, _AT[name])[0]
        return value

    def _store(self, name: str, value: int) -> None:
        _NUMBER.pack_into(self._memory, _AT[name], value)


class GivenOutput:
    """How much the two output streams of an engine have been given; in the engine.

    `page`: where the supervisor counts what it takes. `pipes`: the engine's ends, which nothing else uses: the user's
    code may put others in the place of 1 and 2.
    """

    def __init__(self, page: CommandPage, pipes: Sequence[int]) -> None:
        self._page = page
        self._pipes = tuple(pipes)

    def count(self) -> tuple[int, ...]:
        """Return how much each stream was given so far, in bytes."""
        deadline = time.monotonic() + _LONGEST_READ
        while True:
            reads, taken = self._page.taken()
            given = tuple(
                [before + bytes_in_pipe(pipe) for before, pipe in zip(taken, self._pipes, strict=True)]
            )
            if not reads % 2 and self._page.reads == reads:
                return given
            if time.monotonic() > deadline:
                return given  # the supervisor is stopped in the middle: too little is better than too much
            os.sched_yield()


def bytes_in_pipe(descriptor: int) -> int:
    """Return how much lies in a pipe, of which this is either end."""
    count: int = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]
    return count


def make_memory() -> int:
    """Return a descriptor of new memory for a `CommandPage`."""
    descriptor = os.memfd_create("pserver commands", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, PAGE_BYTES)
    return descriptor


def _mark_at(index: int) -> int:
    return _MARKS_AT + index % _MAX_MARKS * _MARK.size
