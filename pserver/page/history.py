"""The samples of all servers of the last hour, added up in steps of half a minute.

Of each server a step has the mean of its samples, and of counts how much they grow in a second. The steps of servers
are added. So a figure of the page is that of the pool, with a server that came later from when it came.
"""

import math
from typing import Any

from pserver.page.documents import Document, samples_after

STEP = 30.0  # seconds
KEPT = 120  # steps
#: Columns that count from the start of the server.
_COUNTED = {
    "jobs_done", "jobs_failed", "jobs_lost", "programs_done", "programs_failed", "programs_lost",
    "bytes_in", "bytes_out",
}  # fmt: skip


class _Server:
    def __init__(self) -> None:
        self.until = 0.0
        self.last: dict[str, float] = {}
        #: By step and column: the sum of the samples, and how many there are.
        self.steps: dict[int, dict[str, list[float]]] = {}

    def take(self, document: Document) -> set[int]:
        changed: set[int] = set()
        for at, sample in samples_after(document, self.until):
            if at <= self.until:  # samples come in their order, but a server may say anything
                continue
            before, self.until = self.until, at
            values = self._with_rates(sample, at - before)
            step = int(at // STEP)
            changed.add(step)
            sums = self.steps.setdefault(step, {})
            for name, value in values.items():
                pair = sums.setdefault(name, [0.0, 0.0])
                pair[0] += value
                pair[1] += 1
        for step in sorted(self.steps)[: max(0, len(self.steps) - KEPT)]:
            del self.steps[step]
        return changed

    def _with_rates(self, values: dict[str, float], seconds: float) -> dict[str, float]:
        """Return a sample with what has been counted in a second in the place of what was counted so far."""
        last, self.last = self.last, values
        rates = {
            name: max(0.0, values[name] - last[name]) / seconds
            for name in _COUNTED & values.keys() & last.keys()
        }
        return {name: value for name, value in values.items() if name not in _COUNTED} | rates


class History:
    """What the small charts of the page show."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._changed: set[int] = set()

    def taken_until(self, key: str) -> float:
        """Return the instant of the last sample of a server that was taken."""
        server = self._servers.get(key)
        return server.until if server is not None and server.until else -math.inf

    def take(self, key: str, document: Document) -> None:
        """Take the new samples of a document."""
        self._changed |= self._servers.setdefault(key, _Server()).take(document)

    def forget(self, key: str) -> None:
        """Leave a server out from now on."""
        server = self._servers.pop(key, None)
        if server is not None:
            self._changed |= server.steps.keys()

    def changes(self) -> list[dict[str, Any]]:
        """Return the steps that have changed since the last call."""
        changed, self._changed = self._changed, set()
        newest = self._newest()
        return [self._step(step) for step in sorted(changed) if step > newest - KEPT]

    def all(self) -> list[dict[str, Any]]:
        """Return all steps of the last hour."""
        newest = self._newest()
        steps = {step for server in self._servers.values() for step in server.steps}
        return [self._step(step) for step in sorted(steps) if step > newest - KEPT]

    def _newest(self) -> int:
        return max((max(server.steps, default=0) for server in self._servers.values()), default=0)

    def _step(self, step: int) -> dict[str, Any]:
        sums: dict[str, float] = {}
        for server in self._servers.values():
            for name, (total, count) in server.steps.get(step, {}).items():
                sums[name] = sums.get(name, 0.0) + total / count
        return {"at": step * STEP, **{name: round(value, 4) for name, value in sums.items()}}
