"""Wall clocks in time zones where it is any time that a test needs."""

import time


def zone_where_it_is(text: str, *, now: float | None = None) -> str:
    """Return a time zone, in the form of the variable TZ, where the clock now shows a given time, to the second.

    Examples
    --------
    >>> zone_where_it_is("01:00:00", now=0), zone_where_it_is("23:59:30", now=0)
    ('HERE-01:00:00', 'HERE+00:00:30')
    """
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    behind = (hours * 3600 + minutes * 60 + seconds - int(time.time() if now is None else now)) % 86400
    ahead = behind if behind <= 43200 else behind - 86400
    minutes, seconds = divmod(abs(ahead), 60)
    # In POSIX, the offset is added to local time to get UTC.
    return f"HERE{'-' if ahead >= 0 else '+'}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
