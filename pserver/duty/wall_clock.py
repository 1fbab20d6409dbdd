"""What the wall clock of this machine shows."""

import time
from datetime import datetime


def wall_clock(instant: float) -> datetime:
    """Return the local time at an instant, by the time zone that the machine has now: it may be moved meanwhile."""
    time.tzset()
    return datetime.fromtimestamp(instant)
