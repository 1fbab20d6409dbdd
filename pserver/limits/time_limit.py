"""The time limit of the command that runs: an interrupt when it passes, and the end of the engine if that is no help.

No input or output, and no clock: the supervisor passes the time in, and acts on what comes out.
"""

import enum
import math

LIMIT_GRACE = 5.0  # seconds for a command to end after the interrupt at its time limit


class Expiry(enum.Enum):
    """What to do to a command whose time has passed."""

    INTERRUPT = enum.auto()  #: its time limit has passed
    KILL = enum.auto()  #: it has not ended within `LIMIT_GRACE` after its interrupt


class TimeLimit:
    """What is done at which time."""

    def __init__(self) -> None:
        self._number = 0
        self._deadline = math.inf
        self._next = Expiry.INTERRUPT

    def look(self, number: int, deadline: float) -> None:
        """Take the command that runs and has a time limit, or 0, and when that passes."""
        if number != self._number:
            self._number, self._deadline = number, deadline if number else math.inf
            self._next = Expiry.INTERRUPT

    def time_left(self, now: float) -> float:
        """Return in how many seconds `expire` has something to report."""
        return max(0.0, self._deadline - now)

    @property
    def outcome(self) -> str:
        """Why the engine was killed, if it was."""
        return f"command {self._number} did not end within {LIMIT_GRACE:g} s of its time limit"

    def expire(self, now: float) -> Expiry | None:
        """Return what is to be done now; each of the two comes once for a command, the interrupt first."""
        if now < self._deadline:
            return None
        expiry = self._next
        self._deadline = now + LIMIT_GRACE if expiry is Expiry.INTERRUPT else math.inf
        self._next = Expiry.KILL
        return expiry
