"""What becomes of a command: its end, its value, its error. No I/O.

The end of a command and its value come on different connections, in any order. So a command may have *ended* and not be
*done* yet.
"""

from collections.abc import Callable
from typing import Any

from pconnect.errors import ParallelError


class Outcome:
    """What has become of one command so far.

    Attributes
    ----------
    error
        Why it failed, or why its value cannot come; ``None`` otherwise.
    finished
        When it ended, in seconds since 1970; ``None`` before.
    duration
        Seconds that it ran on the node; ``None`` if that is not known.
    read_value
        Makes the value from what arrives; ``None`` if no value is to come.
    callbacks
        What is to be called once it is done.
    """

    __slots__ = ("_arrived", "callbacks", "duration", "error", "finished", "read_value")

    def __init__(self) -> None:
        self.error: ParallelError | None = None
        self.finished: float | None = None
        self.duration: float | None = None
        self.read_value: Callable[[Any], Any] | None = None
        self.callbacks: list[Callable[[Any], object]] = []
        self._arrived: tuple[object, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to come."""
        return self.finished is not None and (
            self.error is not None or self.read_value is None or bool(self._arrived)
        )

    @property
    def value(self) -> Any:
        """The value of a command that is done and has not failed; ``None`` if it returns none.

        Raises
        ------
        UnreadableValueError, ProtocolError
            It cannot be made here, or is malformed.
        """
        return None if self.read_value is None else self.read_value(self._arrived[0])

    def end(self, error: ParallelError | None, duration: float | None, now: float) -> bool:
        """Record the end; return whether this is the first one. Others are ignored."""
        if self.finished is not None:
            return False
        self.error, self.duration, self.finished = error, duration, now
        return True

    def arrive(self, value: object) -> None:
        """Record what the value is made from."""
        self._arrived = (value,)

    def lose_value(self, error: ParallelError) -> bool:
        """Record that no value can come any more; return whether one was still missing."""
        if self.finished is None or self.is_done:
            return False
        self.error = error
        return True

    def take_callbacks(self) -> list[Callable[[Any], object]]:
        """Return what is to be called now. Each callback is returned once."""
        if not self.is_done or not self.callbacks:
            return []
        callbacks, self.callbacks = self.callbacks, []
        return callbacks
