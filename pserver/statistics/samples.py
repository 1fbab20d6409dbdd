"""A ring of samples: how the server was, every few seconds of the last hour."""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

INTERVAL = 5.0  # seconds
_ROWS = 720  # an hour
#: The first four are of that instant; the others count from the start of the server.
COLUMNS = (
    "load", "memory_free", "busy_slots", "waiting", "jobs_done", "jobs_failed", "jobs_lost", "programs_done",
    "programs_failed", "programs_lost", "bytes_in", "bytes_out", "sessions", "disk_free",
)  # fmt: skip


class Samples:
    """The samples of the last hour; `look`: returns one, with a number or ``None`` for each column."""

    def __init__(self, look: Callable[[], Sequence[float | None]]) -> None:
        self._look = look
        self._rows: deque[tuple[float, Sequence[float | None]]] = deque(maxlen=_ROWS)
        self._due = 0.0

    def step(self) -> None:
        """Take a sample if it is time."""
        if time.monotonic() >= self._due:
            # What was missed, as while the machine slept, is not made up for.
            self._due = time.monotonic() + INTERVAL
            self._rows.append((round(time.time(), 3), self._look()))

    def time_left(self) -> float:
        """Return in how many seconds `step` has something to do."""
        return max(0.0, self._due - time.monotonic())

    def facts(self, since: float = -math.inf) -> dict[str, Any]:
        """Return the samples after an instant; each begins with its own, in seconds since 1970."""
        rows = [[at, *row] for at, row in self._rows if at > since]
        begin = rows[0][0] if rows else None
        return {"interval": INTERVAL, "begin": begin, "columns": ["time", *COLUMNS], "rows": rows}
