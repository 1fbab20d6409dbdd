"""Estimates of job durations per function. They decide how many jobs are sent ahead to a worker and by a lazy map."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

# Send this many seconds of work ahead to a worker, so that it never waits for the network.
_AHEAD_SECONDS = 0.005
# Send longer jobs only to a free worker: the network delay is negligible, and no job should queue behind a long one.
_LONG_SECONDS = 0.05
_MAX_AHEAD = 1000
# The mean covers about this many of the most recent jobs.
_MEMORY = 8
_KEPT_ESTIMATES = 1024


class DurationEstimate:
    """The estimated duration of one kind of job."""

    __slots__ = ("_count", "ahead", "mean")

    def __init__(self) -> None:
        self._count = 0
        self.mean = 0.0  #: seconds; 0 until a job was measured
        self.ahead = 1  #: how many jobs a worker should hold at the same time; 1 until a job was measured

    def learn(self, seconds: float) -> None:
        """Update the estimate with the duration of a job, or with the time a running job has taken so far."""
        self._count = min(self._count + 1, _MEMORY)
        self.mean += (seconds - self.mean) / self._count
        if self.mean > _LONG_SECONDS:
            self.ahead = 1
        else:
            self.ahead = max(2, min(_MAX_AHEAD, int(_AHEAD_SECONDS / max(self.mean, 1e-6))))


class DurationEstimates:
    """Estimates for the most recently used functions; functions made by the same source lines share one estimate."""

    def __init__(self) -> None:
        self._estimates: OrderedDict[Hashable, DurationEstimate] = OrderedDict()

    def get(self, function: Callable[..., Any] | str, digest: bytes) -> DurationEstimate:
        """Return the estimate for a function; one without Python code is identified by its `digest`."""
        key = _origin(function) or digest
        estimate = self._estimates.setdefault(key, DurationEstimate())
        self._estimates.move_to_end(key)
        if len(self._estimates) > _KEPT_ESTIMATES:
            self._estimates.popitem(last=False)
        return estimate


def _origin(function: object) -> Hashable:
    """Return the location of a function's source code; ``None`` if the location does not identify the function."""
    if isinstance(function, functools.partial):
        parts = [function.func, *(arg for arg in function.args if callable(arg))]
        origins = tuple(_origin(part) for part in parts)
        return None if None in origins else origins
    code = getattr(function, "__code__", None)
    return None if code is None else (code.co_filename, code.co_firstlineno, code.co_name)
