"""Seeds: they say which job draws from which stream of random numbers; see `pconnect.jobs.random_streams`."""

import operator
import threading

from pconnect.errors import ConfigurationError


class Seeds:
    """Gives out streams, one after the other, to jobs in the order in which they are made.

    `seed`: the entropy of them all. `prefix`: comes before the index in the key of each.
    """

    def __init__(self, seed: int, prefix: tuple[int, ...] = ()) -> None:
        try:
            self.seed = operator.index(seed)
        except TypeError:
            raise ConfigurationError(f"seed={seed!r}: give an integer from 0 on") from None
        if self.seed < 0:
            raise ConfigurationError(f"seed={seed}: give an integer from 0 on")
        self._prefix = prefix
        self._next = 0
        self._lock = threading.Lock()

    def take(self, items: int = 1) -> list[int]:
        """Return the entropy and the key of the next stream; those of the next `items` differ in the last number."""
        with self._lock:
            index = self._next
            self._next += items
        return [self.seed, *self._prefix, index]

    def branch(self) -> "Seeds":
        """Return seeds that take the place of one stream here, however many streams they give out."""
        seed, *key = self.take()
        return Seeds(seed, tuple(key))
