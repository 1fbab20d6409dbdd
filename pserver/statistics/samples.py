"""A ring of samples: the state of the server every few seconds during the last hour."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

INTERVAL = 5.0  # seconds
_ROWS = 720  # an hour
#: The first four are values at the time of the sample; the others are totals since the server started.
COLUMNS = (
    "load", "memory_free", "busy_slots", "waiting", "jobs_done", "jobs_failed", "jobs_lost", "programs_done",
    "programs_failed", "programs_lost", "bytes_in", "bytes_out", "sessions", "disk_free",
)  # fmt: skip


class Samples:
    """The samples of the last hour. `look`: returns one, with a number or ``None`` for each column."""

    def __init__(self, look: Callable[[], Sequence[float | None]]) -> None:
        self._look = look
        self._rows: deque[tuple[float, Sequence[float | None]]] = deque(maxlen=_ROWS)
        self._due = 0.0

    def step(self) -> None:
        """Take a sample if it is due."""
        if time.monotonic() >= self._due:
            # Do not make up for missed samples, for example after the machine has slept.
            self._due = time.monotonic() + INTERVAL
            self._rows.append((round(time.time(), 3), self._look()))

    def time_left(self) -> float:
        """Return the seconds until `step` has something to do."""
        return max(0.0, self._due - time.monotonic())

    def facts(self, since: float = -math.inf) -> dict[str, Any]:
        """Return the samples after an instant; each begins with its own time, in seconds since 1970."""
        rows = [[at, *row] for at, row in self._rows if at > since]
        begin = rows[0][0] if rows else None
        return {"interval": INTERVAL, "begin": begin, "columns": ["time", *COLUMNS], "rows": rows}
