"""Seeds: they assign a stream of random numbers to each job; see `pconnect.jobs.random_streams`."""

import operator
import threading

from pconnect.errors import ConfigurationError


class Seeds:
    """Assigns streams to jobs, in the order in which the jobs are created.

    `seed` is the entropy of all streams. `prefix` precedes the index in the key of each stream.
    """

    def __init__(self, seed: int, prefix: tuple[int, ...] = ()) -> None:
        try:
            self.seed = operator.index(seed)
        except TypeError:
            raise ConfigurationError(f"seed={seed!r} is not allowed: give an integer, 0 or greater") from None
        if self.seed < 0:
            raise ConfigurationError(f"seed={seed} is not allowed: give an integer, 0 or greater")
        self._prefix = prefix
        self._next = 0
        self._lock = threading.Lock()

    def take(self, items: int = 1) -> list[int]:
        """Return entropy and key of the next stream; the keys of the next `items` streams differ in the last number."""
        with self._lock:
            index = self._next
            self._next += items
        return [self.seed, *self._prefix, index]

    def branch(self) -> "Seeds":
        """Return seeds that occupy a single stream here, regardless of how many streams they assign."""
        seed, *key = self.take()
        return Seeds(seed, tuple(key))
