"""When a server is open: its hours by the local wall clock, and the instants that they mean. No I/O, no clock here.

Three times of day define a window: it opens at *start*, accepts no new sessions from *stop* on, and ends running
sessions at *end*. A window begins every day at *start*, and may extend past midnight.

Wall clocks jump. The latest time that the clock has shown so far is the one that counts:

* When the clock is set back, as in autumn, it shows an hour twice. Each of the three times takes effect once, the first
  time it is shown. The second hour continues the state that was there before it.
* When the clock is set forward, as in spring, it skips an hour. A time that it never shows takes effect at the jump.

So no instant is ambiguous, and on each day start, stop and end take effect in order. A window from 23:00 to 06:00 then
lasts six or eight hours, like the night itself.
"""

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

#: Returns the time that the wall clock shows at an instant, given in seconds since 1970, like `time.time`.
WallClock = Callable[[float], datetime]

# No zone has a larger offset, so one side of an instant is before it and the other after it in every zone.
_MOST_OFFSET = timedelta(hours=26).total_seconds()
_DAYS = range(-2, 4)  # days around today whose windows may matter: a window is up to a day long


class Phase(enum.Enum):
    """What a server currently does."""

    OPEN = "accepts sessions and begins jobs"
    LEAVING = "accepts no new sessions; running ones continue until the end"
    CLOSED = "accepts no new sessions; running ones have been ended, if there is an end"


class ServiceHours(NamedTuple):
    """The times of day at which a server changes its phase."""

    start: time
    stop: time
    end: time | None  #: None: running sessions are not ended

    def __str__(self) -> str:
        return f"{self.start:%H:%M} to {self.stop:%H:%M}"


class State(NamedTuple):
    """The state at an instant."""

    phase: Phase
    changes_at: float  #: the instant when the phase changes
    ends_at: float | None  #: the instant when running sessions are ended, if they are
    opens_at: float  #: the instant when the next window begins


class _Window(NamedTuple):
    start: float
    stop: float
    end: float


def state_at(hours: ServiceHours, now: float, clock: WallClock) -> State:
    """Return the state at an instant."""
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
    """Return the first instant when the wall clock shows the given time or a later one.

    Examples
    --------
    >>> from zoneinfo import ZoneInfo
    >>> berlin = lambda instant: datetime.fromtimestamp(instant, ZoneInfo("Europe/Berlin")).replace(tzinfo=None)
    >>> def utc(instant): return f"{datetime.fromtimestamp(instant, UTC):%H:%M}"
    >>> utc(first_instant(datetime(2027, 3, 28, 2, 30), berlin))  # never shown: at 01:00 UTC it is 03:00
    '01:00'
    >>> utc(first_instant(datetime(2027, 10, 31, 2, 30), berlin))  # shown twice, an hour apart
    '00:30'
    """
    as_utc = _seconds(shown)
    offsets = [_seconds(clock(near)) - near for near in (as_utc - _MOST_OFFSET, as_utc + _MOST_OFFSET)]
    low, high = sorted(as_utc - offset for offset in offsets)
    for instant in (low, high):
        if clock(instant) == shown:
            return instant
    while high - low > 1:  # the clock jumps over the time, at a whole second
        middle = (low + high) // 2
        low, high = (low, middle) if clock(middle) >= shown else (middle, high)
    return high


def _seconds(shown: datetime) -> float:
    return shown.replace(tzinfo=UTC).timestamp()
