"""The wall clock of this machine."""

import time
from datetime import datetime


def wall_clock(instant: float) -> datetime:
    """Return the local time at an instant, in the machine's current time zone, which may change at any time."""
    time.tzset()
    return datetime.fromtimestamp(instant)
