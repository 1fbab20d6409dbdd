"""How long servers that were found are waited for, so that false entries of lists do not eat the time of the others.

Anybody with the member's file can put addresses into the lists at which nothing answers, or something that takes
connections and says nothing. So what counts is silence: servers that are tried side by side are waited for while any of
them goes on, and a little longer; and all such waits together have a limit.
"""

import time
from typing import TypeVar

from srp_tools.steps import Steps

T = TypeVar("T")

_LEAST_SECONDS = 1.0  # of silence, in which a packet that was lost is sent again
_LONGEST_SECONDS = 10.0
_PART = 0.5  # of the patience that is left, for one round: more may be found after it


class Patience:
    """`seconds`: how much silence there may be in all."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._round = 0.0  # what is left for the present round
        self._quiet = 0.0  # for which those that are tried now may be silent
        self._heard = 0.0  # instant at which one of them went on

    def begin_round(self) -> bool:
        """Begin with servers that were found together; return whether there is patience for any of them."""
        self._round = self._left * _PART
        return self._left > 0

    def begin(self, batches: int) -> bool:
        """Begin with some of them, of so many such groups; return whether there is patience for them in this round."""
        self._quiet = min(_LONGEST_SECONDS, max(_LEAST_SECONDS, self._round / batches))
        self._heard = time.monotonic()
        return self._round > 0

    def end(self) -> None:
        """Record that some of them have not answered until the end."""
        self._left -= self._quiet
        self._round -= self._quiet

    def watch(self, steps: Steps[T]) -> Steps[T]:
        """Do steps, and end them with a `TimeoutError` when all have been silent for too long."""
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
                        else:  # meanwhile another one has gone on
                            continue
                    break
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()
