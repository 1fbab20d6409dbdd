"""How far a wait is, and how much longer it takes, in words."""

import time
from collections.abc import Callable
from typing import NamedTuple

# Amounts of bytes are told in the largest of these units of which there is one.
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class ProgressBar(NamedTuple):
    """How far a wait is."""

    what: str  #: what is waited for, in a word or two
    total: int  #: how many, or how much, there will be
    unit: str  #: ``" nodes"``, or ``"B"`` for bytes
    done: Callable[[], int]  #: returns how many, or how much, there is already


class Pace:
    """How fast a wait goes on; `waited`: so many seconds have passed already. `clock`: gives the time in seconds.

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
        """Return how far it is."""
        seconds = self._clock() - self._begin
        amount, total = self._amount(done), self._progress.total
        if self._progress.unit == " nodes":
            # They work side by side: when one has ended says nothing of the others.
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
    """Return a time in words, as exact as it is of interest.

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
