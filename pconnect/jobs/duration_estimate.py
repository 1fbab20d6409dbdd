"""How long jobs take, by what they call. How many are sent ahead, to a worker and by a lazy map, depends on it."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

# So much work, in seconds, is sent ahead to a worker, so that it never waits for the network.
_AHEAD_SECONDS = 0.005
# Longer jobs are sent when a worker is free: what the network takes is nothing to them, and a queue behind one is bad.
_LONG_SECONDS = 0.05
_MAX_AHEAD = 1000
# The mean is that of about so many of the last jobs.
_MEMORY = 8
_KEPT_ESTIMATES = 1024


class DurationEstimate:
    """How long the jobs of a kind have taken."""

    __slots__ = ("_count", "ahead", "mean")

    def __init__(self) -> None:
        self._count = 0
        self.mean = 0.0  #: seconds; 0 as long as nothing is known
        self.ahead = 1  #: how many of them a worker should have at once; one as long as nothing is known

    def learn(self, seconds: float) -> None:
        """Take into account how long a job took, or has run already."""
        self._count = min(self._count + 1, _MEMORY)
        self.mean += (seconds - self.mean) / self._count
        if self.mean > _LONG_SECONDS:
            self.ahead = 1
        else:
            self.ahead = max(2, min(_MAX_AHEAD, int(_AHEAD_SECONDS / max(self.mean, 1e-6))))


class DurationEstimates:
    """The estimates for the functions that were used last; functions made by the same lines of a program share one."""

    def __init__(self) -> None:
        self._estimates: OrderedDict[Hashable, DurationEstimate] = OrderedDict()

    def get(self, function: Callable[..., Any] | str, digest: bytes) -> DurationEstimate:
        """Return the estimate for a function, which is known by a digest of it where it is not made of Python code."""
        key = _origin(function) or digest
        estimate = self._estimates.setdefault(key, DurationEstimate())
        self._estimates.move_to_end(key)
        if len(self._estimates) > _KEPT_ESTIMATES:
            self._estimates.popitem(last=False)
        return estimate


def _origin(function: object) -> Hashable:
    """Return where the code of a function stands; ``None`` if that does not tell what it does."""
    if isinstance(function, functools.partial):
        parts = [function.func, *(arg for arg in function.args if callable(arg))]
        origins = tuple(_origin(part) for part in parts)
        return None if None in origins else origins
    code = getattr(function, "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno, code.co_name)
