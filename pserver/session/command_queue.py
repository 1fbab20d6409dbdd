"""The commands of one engine: those that wait, the one that runs, and how long it may.

No input or output, and no clock: the supervisor passes the time in, and acts on what comes out.
"""

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from pconnect.commands.remote_errors import blame_limit
from pconnect.protocol.messages import Message

LIMIT_GRACE = 5.0  # seconds for a command to end after the interrupt at its time limit


class Expiry(enum.Enum):
    """What to do to a command whose time has passed."""

    INTERRUPT = enum.auto()  #: its time limit has passed
    KILL = enum.auto()  #: it has not ended within `LIMIT_GRACE` after its interrupt


class Stopped(NamedTuple):
    """What an interrupt or a cancellation meets."""

    not_begun: list[int]  # commands that were waiting, and do so no longer
    is_running: bool  # whether it also concerns the one that runs


@dataclass
class _Running:
    number: int
    seconds: float | None  # its time limit
    deadline: float  # when `next_expiry` is due
    next_expiry: Expiry = Expiry.INTERRUPT


class CommandQueue:
    """Commands and calls of services, which run one at a time in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[Message] = deque()
        self._running: _Running | None = None

    @property
    def running(self) -> int | None:
        """The number of the command that runs; ``None`` if there is none."""
        return None if self._running is None else self._running.number

    @property
    def can_begin(self) -> bool:
        """Whether a command waits, and none runs."""
        return bool(self._waiting) and self._running is None

    def add(self, command: Message) -> None:
        """Append a command; its value is the source, the epoch and the options."""
        self._waiting.append(command)

    def begin(self, now: float) -> Message:
        """Take the next command out; it runs from now on. Its time limit is the option ``seconds``."""
        command = self._waiting.popleft()
        seconds = command.value[2].get("seconds")
        self._running = _Running(command.tag, seconds, math.inf if seconds is None else now + seconds)
        return command

    def end(self, number: int, outcome: float | dict[str, Any]) -> None:
        """Record that the command that runs has ended; if its time limit ended it, `outcome` says so then.

        The end of any other command is ignored: a child that the user's code has forked may report one twice.
        """
        ended = self._running
        if ended is None or ended.number != number:
            return
        self._running = None
        if ended.seconds is None or ended.next_expiry is Expiry.INTERRUPT:
            return
        if isinstance(outcome, dict) and outcome["type"] == "KeyboardInterrupt":
            blame_limit(outcome, ended.seconds)

    def interrupt(self, number: int) -> Stopped:
        """Drop the waiting commands up to this number, and tell whether the running one is among them."""
        not_begun = []
        while self._waiting and self._waiting[0].tag <= number:
            not_begun.append(self._waiting.popleft().tag)
        return Stopped(not_begun, self._running is not None and self._running.number <= number)

    def cancel(self, number: int) -> Stopped:
        """Drop this command if it waits, and tell whether it runs."""
        dropped = [command for command in self._waiting if command.tag == number]
        for command in dropped:
            self._waiting.remove(command)
        return Stopped([command.tag for command in dropped], self.running == number)

    def drop_waiting(self) -> None:
        """Forget the commands that wait; the one that runs is not touched."""
        self._waiting.clear()

    def clear(self) -> None:
        """Forget all commands, for an engine that is replaced."""
        self._waiting.clear()
        self._running = None

    def time_left(self, now: float) -> float:
        """Return in how many seconds `expire` has something to report."""
        return math.inf if self._running is None else max(0.0, self._running.deadline - now)

    def expire(self, now: float) -> Expiry | None:
        """Return what is to be done now to the command that runs; each of the two comes once, the interrupt first."""
        command = self._running
        if command is None or now < command.deadline:
            return None
        expiry = command.next_expiry
        command.deadline = command.deadline + LIMIT_GRACE if expiry is Expiry.INTERRUPT else math.inf
        command.next_expiry = Expiry.KILL
        return expiry


def not_begun() -> dict[str, Any]:
    """Return the outcome of a command that was interrupted or cancelled while it waited."""
    kind, message = "KeyboardInterrupt", "it was interrupted before it began"
    failure: dict[str, Any] = {"type": kind, "bases": [kind], "message": message}
    return failure | {"traceback": f"{kind}: {message}", "values_sent": 0, "seconds": 0.0}
