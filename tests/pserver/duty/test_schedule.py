"""The hours of a server at instants around midnight and around changes of the clock, and their general properties."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pserver.duty.schedule import Phase, ServiceHours, WallClock, first_instant, state_at

OPEN, LEAVING, CLOSED = Phase.OPEN, Phase.LEAVING, Phase.CLOSED


def clock_of(zone: str) -> WallClock:
    place = ZoneInfo(zone)
    return lambda instant: datetime.fromtimestamp(instant, place).replace(tzinfo=None)


def hours(text: str) -> ServiceHours:
    """Return the hours for a text like ``17:00/06:00/08:00``; a dash in place of the end means that there is none."""
    start, stop, end = ("" if part == "-" else part for part in text.split("/"))
    return ServiceHours(
        time.fromisoformat(start), time.fromisoformat(stop), time.fromisoformat(end) if end else None
    )


def instant_of(text: str, zone: str) -> float:
    """Return the instant of a local time; the suffix "again" means the second of two."""
    text, again, _ = text.partition(" again")
    found = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=bool(again))
    return found.timestamp()


NIGHT, DAY, SMALL = "17:00/06:00/08:00", "09:00/17:00/17:00", "02:15/02:45/03:30"
#: Zone, hours, local time; then the expected phase, and when it changes and when sessions end, as local times.
TABLE = [
    # An ordinary night, past midnight.
    ("Europe/Berlin", NIGHT, "2027-06-01 16:59:59", CLOSED, "2027-06-01 17:00", None),
    ("Europe/Berlin", NIGHT, "2027-06-01 17:00:00", OPEN, "2027-06-02 06:00", "2027-06-02 08:00"),
    ("Europe/Berlin", NIGHT, "2027-06-01 23:59:59", OPEN, "2027-06-02 06:00", "2027-06-02 08:00"),
    ("Europe/Berlin", NIGHT, "2027-06-02 00:00:00", OPEN, "2027-06-02 06:00", "2027-06-02 08:00"),
    ("Europe/Berlin", NIGHT, "2027-06-02 05:59:59", OPEN, "2027-06-02 06:00", "2027-06-02 08:00"),
    ("Europe/Berlin", NIGHT, "2027-06-02 06:00:00", LEAVING, "2027-06-02 08:00", "2027-06-02 08:00"),
    ("Europe/Berlin", NIGHT, "2027-06-02 07:59:59", LEAVING, "2027-06-02 08:00", "2027-06-02 08:00"),
    ("Europe/Berlin", NIGHT, "2027-06-02 08:00:00", CLOSED, "2027-06-02 17:00", None),
    # An ordinary day; everything ends at its stop.
    ("Europe/Berlin", DAY, "2027-06-01 08:59:59", CLOSED, "2027-06-01 09:00", None),
    ("Europe/Berlin", DAY, "2027-06-01 09:00:00", OPEN, "2027-06-01 17:00", "2027-06-01 17:00"),
    ("Europe/Berlin", DAY, "2027-06-01 16:59:59", OPEN, "2027-06-01 17:00", "2027-06-01 17:00"),
    ("Europe/Berlin", DAY, "2027-06-01 17:00:00", CLOSED, "2027-06-02 09:00", None),
    # At midnight, from midnight, and until midnight; across the end of a year, and a leap day.
    ("Europe/Berlin", "00:00/06:00/-", "2027-05-31 23:59:59", CLOSED, "2027-06-01 00:00", None),
    ("Europe/Berlin", "00:00/06:00/-", "2027-06-01 00:00:00", OPEN, "2027-06-01 06:00", None),
    ("Europe/Berlin", "18:00/00:00/00:30", "2027-12-31 23:59:59", OPEN, "2028-01-01 00:00", "2028-01-01 00:30"),
    ("Europe/Berlin", "18:00/00:00/00:30", "2028-01-01 00:00:00", LEAVING, "2028-01-01 00:30", "2028-01-01 00:30"),
    ("Europe/Berlin", "18:00/00:00/00:30", "2028-01-01 00:30:00", CLOSED, "2028-01-01 18:00", None),
    ("Europe/Berlin", NIGHT, "2028-02-28 23:00:00", OPEN, "2028-02-29 06:00", "2028-02-29 08:00"),
    ("Europe/Berlin", NIGHT, "2028-02-29 23:00:00", OPEN, "2028-03-01 06:00", "2028-03-01 08:00"),
    # Almost the whole day: the windows of two days almost touch.
    ("Europe/Berlin", "08:00/07:00/07:59", "2027-06-02 07:58:59", LEAVING, "2027-06-02 07:59", "2027-06-02 07:59"),
    ("Europe/Berlin", "08:00/07:00/07:59", "2027-06-02 07:59:00", CLOSED, "2027-06-02 08:00", None),
    ("Europe/Berlin", "08:00/07:00/07:59", "2027-06-02 08:00:00", OPEN, "2027-06-03 07:00", "2027-06-03 07:59"),
    # Spring in Berlin: 01:59:59 on 28 March 2027 is followed by 03:00:00. The night is an hour shorter.
    ("Europe/Berlin", NIGHT, "2027-03-27 17:00:00", OPEN, "2027-03-28 06:00", "2027-03-28 08:00"),
    ("Europe/Berlin", NIGHT, "2027-03-28 01:59:59", OPEN, "2027-03-28 06:00", "2027-03-28 08:00"),
    ("Europe/Berlin", NIGHT, "2027-03-28 03:00:00", OPEN, "2027-03-28 06:00", "2027-03-28 08:00"),
    ("Europe/Berlin", NIGHT, "2027-03-28 06:00:00", LEAVING, "2027-03-28 08:00", "2027-03-28 08:00"),
    ("Europe/Berlin", "22:00/02:30/04:00", "2027-03-28 01:59:59", OPEN, "2027-03-28 03:00", "2027-03-28 04:00"),
    ("Europe/Berlin", "22:00/02:30/04:00", "2027-03-28 03:00:00", LEAVING, "2027-03-28 04:00", "2027-03-28 04:00"),
    ("Europe/Berlin", "02:30/05:00/-", "2027-03-28 01:59:59", CLOSED, "2027-03-28 03:00", None),
    ("Europe/Berlin", "02:30/05:00/-", "2027-03-28 03:00:00", OPEN, "2027-03-28 05:00", None),
    # Only the end is left of this window; the next one is on the next day.
    ("Europe/Berlin", SMALL, "2027-03-28 01:59:59", CLOSED, "2027-03-29 02:15", None),
    ("Europe/Berlin", SMALL, "2027-03-28 03:00:00", LEAVING, "2027-03-28 03:30", "2027-03-28 03:30"),
    ("Europe/Berlin", SMALL, "2027-03-28 03:30:00", CLOSED, "2027-03-29 02:15", None),
    # Autumn in Berlin: 02:59:59 on 31 October 2027 is followed by 02:00:00. The night is an hour longer.
    ("Europe/Berlin", NIGHT, "2027-10-31 02:30:00", OPEN, "2027-10-31 06:00", "2027-10-31 08:00"),
    ("Europe/Berlin", NIGHT, "2027-10-31 02:30:00 again", OPEN, "2027-10-31 06:00", "2027-10-31 08:00"),
    ("Europe/Berlin", "22:00/02:30/04:00", "2027-10-31 02:29:59", OPEN, "2027-10-31 02:30", "2027-10-31 04:00"),
    ("Europe/Berlin", "22:00/02:30/04:00", "2027-10-31 02:30:00", LEAVING, "2027-10-31 04:00", "2027-10-31 04:00"),
    ("Europe/Berlin", "22:00/02:30/04:00", "2027-10-31 02:10 again", LEAVING, "2027-10-31 04:00", "2027-10-31 04:00"),
    ("Europe/Berlin", "02:30/05:00/-", "2027-10-31 02:30:00", OPEN, "2027-10-31 05:00", None),
    ("Europe/Berlin", "02:30/05:00/-", "2027-10-31 02:10:00 again", OPEN, "2027-10-31 05:00", None),
    ("Europe/Berlin", "02:30/05:00/-", "2027-10-31 02:30:00 again", OPEN, "2027-10-31 05:00", None),
    ("Europe/Berlin", SMALL, "2027-10-31 02:15:00", OPEN, "2027-10-31 02:45", "2027-10-31 03:30"),
    ("Europe/Berlin", SMALL, "2027-10-31 02:45:00", LEAVING, "2027-10-31 03:30", "2027-10-31 03:30"),
    ("Europe/Berlin", SMALL, "2027-10-31 02:20:00 again", LEAVING, "2027-10-31 03:30", "2027-10-31 03:30"),
    ("Europe/Berlin", SMALL, "2027-10-31 03:30:00", CLOSED, "2027-11-01 02:15", None),
    # Other zones: across the ocean, in the south, by half an hour, at midnight, and a day that was skipped.
    ("America/New_York", NIGHT, "2027-03-14 03:00:00", OPEN, "2027-03-14 06:00", "2027-03-14 08:00"),
    ("America/New_York", "22:00/01:30/-", "2027-11-07 01:30:00", CLOSED, "2027-11-07 22:00", None),
    ("America/New_York", "22:00/01:30/-", "2027-11-07 01:29:00 again", CLOSED, "2027-11-07 22:00", None),
    ("Australia/Sydney", "22:00/02:30/-", "2027-04-04 02:29:59", OPEN, "2027-04-04 02:30", None),
    ("Australia/Lord_Howe", "22:00/01:45/-", "2027-04-04 01:40:00 again", CLOSED, "2027-04-04 22:00", None),
    ("Asia/Beirut", "00:15/06:00/-", "2027-03-28 01:00:00", OPEN, "2027-03-28 06:00", None),
    ("Pacific/Apia", "17:00/06:00/-", "2011-12-31 00:00:00", OPEN, "2011-12-31 06:00", None),
    ("UTC", NIGHT, "2027-06-01 17:00:00", OPEN, "2027-06-02 06:00", "2027-06-02 08:00"),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}, {row[1]}, {row[2]}")
def test_what_holds_at_an_instant(row: tuple[str, str, str, Phase, str, str | None]) -> None:
    zone, text, local, phase, changes, ends = row
    now = instant_of(local, zone)
    state = state_at(hours(text), now, clock_of(zone))
    assert state.phase is phase
    assert state.changes_at == instant_of(changes, zone)
    assert state.ends_at == (None if ends is None else instant_of(ends, zone))
    assert state.opens_at > now
    assert state_at(hours(text), state.changes_at, clock_of(zone)).phase is not phase


def minutes(zone: str, begin: datetime, count: int) -> Iterator[tuple[float, datetime]]:
    """Yield each minute, with the latest time that the wall clock has shown until then."""
    clock, latest = clock_of(zone), datetime.min
    first = begin.replace(tzinfo=UTC).timestamp()
    for number in range(count):
        instant = first + 60 * number
        latest = max(latest, clock(instant))
        yield instant, latest


ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca", "Asia/Kolkata"
)  # fmt: skip
DAYS = (
    datetime(2027, 3, 14), datetime(2027, 3, 28), datetime(2027, 10, 31), datetime(2018, 11, 4), datetime(2027, 4, 4)
)  # fmt: skip


@given(
    st.sampled_from(ZONES),
    st.sampled_from(DAYS),
    st.integers(0, 1439),
    st.integers(1, 1438),
    st.integers(0, 1438),
)
def test_the_phase_follows_from_the_latest_time_shown(
    zone: str, day: datetime, start: int, opening: int, more: int
) -> None:
    """The oracle steps through the minutes; it knows nothing of zones or windows."""
    stop, end = start + opening, min(start + 1439, start + opening + more)
    given_hours = ServiceHours(*(time(*divmod(each % 1440, 60)) for each in (start, stop, end)))
    clock = clock_of(zone)
    for instant, latest in itertools.islice(minutes(zone, day - timedelta(1), 3 * 1440), 720, None, 83):
        since = (latest.hour * 60 + latest.minute - start) % 1440
        expected = OPEN if since < opening else LEAVING if since < end - start else CLOSED
        state = state_at(given_hours, instant, clock)
        assert state.phase is expected, (instant, latest)


@given(st.sampled_from(ZONES), st.datetimes(datetime(2018, 1, 1), datetime(2030, 1, 1)))
def test_a_time_comes_first_at_one_instant(zone: str, shown: datetime) -> None:
    shown = shown.replace(microsecond=0)
    clock = clock_of(zone)
    instant = first_instant(shown, clock)
    assert clock(instant) >= shown
    assert clock(instant - 1) < shown
    earlier = [clock(instant - 60 * minute) for minute in range(1, 300)]
    assert max(earlier) < shown


def test_hours_are_named_as_they_were_given() -> None:
    assert str(hours(NIGHT)) == "17:00 to 06:00"
