"""When a server is open: its hours by the local wall clock, and which instants these are. No I/O, no clock of its own.

Three times of the day make a window: from *start* it is open, from *stop* it takes nothing new, at *end* what still
runs is ended. A window begins every day at *start*, and may run over midnight.

Wall clocks jump. What counts is the latest time that the clock has shown so far:

* When it is set back, as in autumn, it shows an hour twice. Each of the three comes the first time, and once: the
  second hour belongs to what was before it.
* When it is set forward, as in spring, it leaves an hour out. A time that it never shows comes at the jump.

So no instant has two meanings, and on each day start, stop and end come in their order. A window from 23:00 to 06:00 is
then six or eight hours long, as the night is.
"""

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

#: Returns what the wall clock shows at an instant, which is in seconds since 1970, as `time.time` has it.
WallClock = Callable[[float], datetime]

# No offset of a zone is larger, so one side of an instant is before it and the other after it, whatever the zone.
_MOST_OFFSET = timedelta(hours=26).total_seconds()
_DAYS = range(-2, 4)  # around now, whose windows may matter: one is up to a day long


class Phase(enum.Enum):
    """What a server does now."""

    OPEN = "takes sessions and begins jobs"
    LEAVING = "takes nothing new; what runs goes on until the end"
    CLOSED = "takes nothing new; what ran has been ended, if there is an end"


class ServiceHours(NamedTuple):
    """The times of the day at which a server changes its phase."""

    start: time
    stop: time
    end: time | None  #: None: what runs is not ended

    def __str__(self) -> str:
        return f"{self.start:%H:%M} to {self.stop:%H:%M}"


class State(NamedTuple):
    """What holds at an instant."""

    phase: Phase
    changes_at: float  #: the instant at which the phase changes
    ends_at: float | None  #: the instant at which what runs is ended, if it is
    opens_at: float  #: the instant at which the next window begins


class _Window(NamedTuple):
    start: float
    stop: float
    end: float


def state_at(hours: ServiceHours, now: float, clock: WallClock) -> State:
    """Return what holds at an instant."""
    today = clock(now).date()
    windows = [_window(hours, today + timedelta(days), clock) for days in _DAYS]
    # A jump of the clock may leave nothing of a window.
    opens_at = min(window.start for window in windows if window.start > now and window.stop > window.start)
    for window in windows:
        end = window.end if hours.end else None
        if window.start <= now < window.stop:
            return State(Phase.OPEN, window.stop, end, opens_at)
        if window.stop <= now < window.end:
            return State(Phase.LEAVING, window.end, end, opens_at)
    return State(Phase.CLOSED, opens_at, None, opens_at)


def _window(hours: ServiceHours, day: date, clock: WallClock) -> _Window:
    """Return the window that begins on a day."""

    def after_start(of: time) -> float:
        is_tomorrow = of <= hours.start
        return first_instant(datetime.combine(day + timedelta(is_tomorrow), of), clock)

    start, stop = first_instant(datetime.combine(day, hours.start), clock), after_start(hours.stop)
    return _Window(start, stop, stop if hours.end is None else after_start(hours.end))


def first_instant(shown: datetime, clock: WallClock) -> float:
    """Return the first instant at which the wall clock shows this time, or a later one.

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> berlin = lambda instant: datetime.fromtimestamp(instant, ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
    >>> def utc(instant): return f"{datetime.fromtimestamp(instant, UTC):%H:%M}"
    >>> utc(first_instant(datetime(2027, 3, 28, 2, 30), berlin))  # which is never shown: from 01:00 on, it is 03:00
    '01:00'
    >>> utc(first_instant(datetime(2027, 10, 31, 2, 30), berlin))  # which is shown twice, an hour apart
    '00:30'
    """
    as_utc = _seconds(shown)
    offsets = [_seconds(clock(near)) - near for near in (as_utc - _MOST_OFFSET, as_utc + _MOST_OFFSET)]
    low, high = sorted(as_utc - offset for offset in offsets)
    for instant in (low, high):
        if clock(instant) == shown:
            return instant
    while high - low > 1:  # the clock jumps over it, at a whole second
        middle = (low + high) // 2
        low, high = (low, middle) if clock(middle) >= shown else (middle, high)
    return high


def _seconds(shown: datetime) -> float:
    return shown.replace(tzinfo=UTC).timestamp()
