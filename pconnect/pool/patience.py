"""Limits the wait for found servers, so that false entries in lists do not use up the time for the others.

Anyone with the member's file can add addresses to the lists where nothing answers, or where something accepts
connections and stays silent. Therefore silence is limited: the client waits for servers that it tries side by side
while any of them makes progress, and a little longer; and there is a limit on the total of these waits.
"""

import time
from typing import TypeVar

from srp_tools.steps import Steps

T = TypeVar("T")

_LEAST_SECONDS = 1.0  # of silence; within this time a lost packet is sent again
_LONGEST_SECONDS = 10.0
_PART = 0.5  # of the remaining patience, for one round: more servers may be found after it


class Patience:
    """A limited budget of silence. `seconds`: its total."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._round = 0.0  # the remaining budget of the present round
        self._quiet = 0.0  # how long the servers being tried may be silent
        self._heard = 0.0  # instant of the last progress of one of them

    def begin_round(self) -> bool:
        """Begin with servers that were found together; return whether any budget is left for them."""
        self._round = self._left * _PART
        return self._left > 0

    def begin(self, batches: int) -> bool:
        """Begin with one of `batches` remaining groups; return whether any budget is left for it in this round."""
        self._quiet = min(_LONGEST_SECONDS, max(_LEAST_SECONDS, self._round / batches))
        self._heard = time.monotonic()
        return self._round > 0

    def end(self) -> None:
        """Record that some servers of the group have not answered until the end."""
        self._left -= self._quiet
        self._round -= self._quiet

    def watch(self, steps: Steps[T]) -> Steps[T]:
        """Run steps, and end them with a `TimeoutError` when all servers have been silent for too long."""
        error: TimeoutError | None = None
        try:
            while True:
                wait = next(steps) if error is None else steps.throw(error)
                error = None
                self._heard = time.monotonic()
                while True:
                    try:
                        yield wait._replace(until=min(wait.until, self._heard + self._quiet))
                    except TimeoutError as late:
                        now = time.monotonic()
                        if now >= wait.until:
                            error = late
                        elif now >= self._heard + self._quiet:
                            raise
                        else:  # another server has made progress in the meantime
                            continue
                    break
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
