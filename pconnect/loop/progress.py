"""The progress of a wait, and the estimated remaining time, in words."""

import time
from collections.abc import Callable
from typing import NamedTuple

# Amounts of bytes are shown in the largest of these units that the total reaches.
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class ProgressBar(NamedTuple):
    """The progress of a wait."""

    what: str  #: a short name of the wait
    total: int  #: the number, or the bytes, at the end
    unit: str  #: ``" nodes"``, or ``"B"`` for bytes
    done: Callable[[], int]  #: returns the number, or the bytes, so far


class Pace:
    """The speed of a wait. `waited`: seconds that have passed already. `clock`: returns the time in seconds.

    Examples
    --------
    >>> now = iter([0, 30])
    >>> pace = Pace(ProgressBar("jobs", 40, " jobs", lambda: 0), clock=lambda: next(now))
    >>> pace.describe(10)
    '10 of 40 jobs done, about 90 s left'
    """

    def __init__(
        self, progress: ProgressBar, waited: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress = progress
        self._waited = waited
        self._clock = clock
        self._begin = clock()
        self._done_before = progress.done()

    def describe(self, done: int) -> str:
        """Return the progress in words."""
        seconds = self._clock() - self._begin
        amount, total = self._amount(done), self._progress.total
        if self._progress.unit == " nodes":
            # Nodes work side by side: the end of one says nothing about the others.
            return f"{amount}, {duration(self._waited + seconds)} so far"
        if not self._done_before < done < total:
            return amount
        each = seconds / (done - self._done_before)
        return f"{amount}, about {duration(each * (total - done))} left"

    def _amount(self, done: int) -> str:
        what, total, unit, _ = self._progress
        if unit != "B":
            return f"{done} of {total}{unit} done"
        size, unit = next(((size, unit) for size, unit in _UNITS if total >= size), (1, "bytes"))
        digits = 0 if size == 1 or total >= 100 * size else 1
        return f"{what}: {done / size:.{digits}f} of {total / size:.{digits}f} {unit}"


def duration(seconds: float) -> str:
    """Return a duration in words, with sensible precision.

    Examples
    --------
    >>> [duration(seconds) for seconds in (0.3, 99.6, 130, 3600, 7170)]
    ['1 s', '100 s', '2 min', '60 min', '2 h']
    """
    if seconds <= 100:
        return f"{max(1, round(seconds))} s"
    if seconds <= 100 * 60:
        return f"{round(seconds / 60)} min"
    return f"{round(seconds / 3600)} h"
