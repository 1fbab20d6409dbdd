"""Results that the job store cannot write yet, because its disk is full or its folder was moved away.

They stay in memory. The session limits their number: it begins no job while there are any. So they are only those of
its current workers, and short reports on lost jobs.
"""

import logging
import math
import os
import time
from collections.abc import Callable

from pserver.jobs.job_store import JobStore

log = logging.getLogger("pserver")

#: Seconds after which nobody is expected to free disk space any more: a weekend and a day.
PATIENCE = 3 * 86400.0


class UnwrittenResults:
    """The unwritten results of one session. `clock`: like `time.monotonic`."""

    def __init__(self, store: JobStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._results: dict[int, list[bytes | memoryview]] = {}
        self._since = math.inf  # when a write failed first
        #: Why results are not written; empty if all of them are.
        self.why = ""

    def __len__(self) -> int:
        """Return the number of unwritten results."""
        return len(self._results)

    @property
    def is_hopeless(self) -> bool:
        """Whether waiting any longer is pointless."""
        return self._store.is_removed or self._clock() - self._since > PATIENCE

    def keep(self, number: int, result: list[bytes | memoryview]) -> None:
        """Write the result of a job now, or later."""
        self._results[number] = result
        self.write()

    def give_up(self) -> None:
        """Discard the results; `why` is the reason."""
        self._results.clear()
        if self._store.is_removed:
            self.why = "the folder of its results was removed from the server"
        log.error("session %d: its detached jobs end without results: %s", os.getpid(), self.why)

    def write(self) -> None:
        """Write as many results as possible."""
        if not self._results:
            return
        while self._results:
            number = next(iter(self._results))
            try:
                # A worker may have written the result of a job that seemed lost, while the folder was unavailable.
                if not self._store.has_result(number):
                    self._store.keep(number, self._results[number])
            except OSError as error:
                if not self.why:
                    self._since = self._clock()
                    text = "session %d: cannot write the result of job %d yet, so no other job begins: %s"
                    log.error(text, os.getpid(), number, error)
                self.why = f"results could not be written to the disk of the server: {error}"
                return
            del self._results[number]
        if self.why:
            log.info("session %d: all results are written", os.getpid())
            self.why, self._since = "", math.inf
