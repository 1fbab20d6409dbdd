"""Rate limits of a log, per kind of record: a burst, then a few each second, and a count of those left out."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

_SUMMARY_SECONDS = 10.0  # interval between two counts of the same kind
_MAX_KINDS = 500  # more than the number of templates in the source; further kinds share one entry
_OTHERS = object()


@dataclass(frozen=True)
class Rate:
    """A burst of records, and the number per second afterwards."""

    burst: float
    per_second: float


class LeftOut(NamedTuple):
    """The number of records of a kind that were left out, and the period in seconds."""

    kind: Hashable
    records: int
    seconds: float


@dataclass
class _Kind:
    rate: Rate
    tokens: float
    updated: float
    left_out: int = 0
    since: float = 0.0  # time of the first record that was left out


class LogLimit:
    """Decides which records to write; each `now` is a time from the same monotonic clock."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, _Kind] = {}

    def admits(self, kind: Hashable, rate: Rate, now: float) -> bool:
        """Whether to write a record of this kind now; counts the record either way."""
        state = self._kinds.get(kind)
        if state is None:
            if len(self._kinds) >= _MAX_KINDS:
                kind = _OTHERS
            state = self._kinds.setdefault(kind, _Kind(rate, rate.burst, now))
        refill = (now - state.updated) * state.rate.per_second
        state.tokens, state.updated = min(state.rate.burst, state.tokens + refill), now
        if state.tokens >= 1:
            state.tokens -= 1
            return True
        if not state.left_out:
            state.since = now
        state.left_out += 1
        return False

    def take_left_out(self, now: float, *, at_once: bool = False) -> Iterator[LeftOut]:
        """Return the counts that are due, or all of them, and restart counting."""
        for kind, state in self._kinds.items():
            if state.left_out and (at_once or now - state.since >= _SUMMARY_SECONDS):
                count, state.left_out = state.left_out, 0
                yield LeftOut(None if kind is _OTHERS else kind, count, now - state.since)
