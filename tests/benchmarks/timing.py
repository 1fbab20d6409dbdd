"""Measures two things alternately, so other load on the machine affects both equally."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Sample(NamedTuple):
    """Durations of the same work, in seconds."""

    durations: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.durations)

    def text(self, unit: str) -> str:
        """Return the median and the spread; `unit` is ``ms``, ``s``, for 64 MiB ``MB/s``, for `JOBS` ``jobs/s``."""
        values = sorted(in_unit(duration, unit) for duration in self.durations)
        digits = {"ms": 3, "s": 3, "MB/s": 0, "jobs/s": 0}[unit]
        middle, low, high = (
            f"{value:.{digits}f}" for value in (in_unit(self.median, unit), values[0], values[-1])
        )
        return f"{middle} ({low}..{high}) {unit}" if len(values) > 1 else f"{middle} {unit}"


TRANSFER_BYTES = 2**26
JOBS = 1000


def in_unit(seconds: float, unit: str) -> float:
    """Return a time, or the rate that it means."""
    match unit:
        case "MB/s":
            return TRANSFER_BYTES / seconds / 1e6
        case "jobs/s":
            return JOBS / seconds
        case "ms":
            return seconds * 1000
        case _:
            return seconds


def is_rate(unit: str) -> bool:
    """Return whether higher figures are better."""
    return unit.endswith("/s")


def ratio(raw: Sample, ours: Sample) -> float:
    """Return the ratio of our time to the other, as the median over the turns of `alternate`.

    The machine may be twice as fast in one minute as in the next; the two halves of one turn are neighbours.
    """
    return statistics.median(b / a for a, b in zip(raw.durations, ours.durations, strict=True))


def alternate(
    count: int, raw: Callable[[], object], ours: Callable[[], object], burst: int = 1
) -> tuple[Sample, Sample]:
    """Run both in turn, `count` times each, after a tenth of that number to warm up.

    Short work runs `burst` times in a row, after some runs that do not count, and a sample is the average: a single
    round trip between two of another kind finds processors asleep and caches cold, and takes several times as long as
    one of many.
    """
    lead = burst // 10
    samples: tuple[list[float], list[float]] = ([], [])
    warm_up = 1 + count // 10
    for turn in range(warm_up + count):
        for sample, work in zip(samples, (raw, ours), strict=True):
            for _ in range(lead):
                work()
            begin = time.perf_counter()
            for _ in range(burst):
                work()
            if turn >= warm_up:
                sample.append((time.perf_counter() - begin) / burst)
    return Sample(samples[0]), Sample(samples[1])
