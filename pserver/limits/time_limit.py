"""The time limit of the running command: an interrupt when it expires, then the end of the engine if that fails.

No input or output, and no clock: the supervisor passes in the time, and acts on the result.
"""

import enum
import math

LIMIT_GRACE = 5.0  # seconds for a command to end after the interrupt at its time limit


class Expiry(enum.Enum):
    """The action for a command whose time limit has expired."""

    INTERRUPT = enum.auto()  #: its time limit has expired
    KILL = enum.auto()  #: it has not ended within `LIMIT_GRACE` seconds of its interrupt


class TimeLimit:
    """The schedule of these actions."""

    def __init__(self) -> None:
        self._number = 0
        self._deadline = math.inf
        self._next = Expiry.INTERRUPT

    def look(self, number: int, deadline: float) -> None:
        """Set the running command that has a time limit, or 0, and when its limit expires."""
        if number != self._number:
            self._number, self._deadline = number, deadline if number else math.inf
            self._next = Expiry.INTERRUPT

    def time_left(self, now: float) -> float:
        """Return the seconds until `expire` has something to report."""
        return max(0.0, self._deadline - now)

    @property
    def outcome(self) -> str:
        """Why the engine was killed, if it was."""
        return f"command {self._number} did not end within {LIMIT_GRACE:g} s of its time limit"

    def expire(self, now: float) -> Expiry | None:
        """Return the action that is due now. Each of the two is due once per command, the interrupt first."""
        if now < self._deadline:
            return None
        expiry = self._next
        self._deadline = now + LIMIT_GRACE if expiry is Expiry.INTERRUPT else math.inf
        self._next = Expiry.KILL
        return expiry
