"""Wall clocks of other places, where it is any time that a test needs."""

import time


def zone_where_it_is(text: str, *, now: float | None = None) -> str:
    """Return a time zone, as the variable TZ has it, in which the clock shows a time of the day now, to the second.

    Examples
    --------
    >>> zone_where_it_is("01:00:00", now=0), zone_where_it_is("23:59:30", now=0)
    ('HERE-01:00:00', 'HERE+00:00:30')
    """
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    behind = (hours * 3600 + minutes * 60 + seconds - int(time.time() if now is None else now)) % 86400
    ahead = behind if behind <= 43200 else behind - 86400
    minutes, seconds = divmod(abs(ahead), 60)
    # POSIX counts what is to be added to get UTC.
    return f"HERE{'-' if ahead >= 0 else '+'}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
