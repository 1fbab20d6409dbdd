"""The samples of all servers of the last hour, summed in steps of half a minute.

For each server, a step contains the mean of its samples; for counters, their growth per second. The steps of all
servers are added. A figure on the page is therefore that of the whole pool, and includes a new server from its arrival
on.
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
        #: By step and column: the sum of the samples, and their number.
        self.steps: dict[int, dict[str, list[float]]] = {}

    def take(self, document: Document) -> set[int]:
        changed: set[int] = set()
        for at, sample in samples_after(document, self.until):
            if at <= self.until:  # samples should be in order, but servers are not trusted
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
        """Return a sample in which growth per second replaces the counters."""
        last, self.last = self.last, values
        rates = {
            name: max(0.0, values[name] - last[name]) / seconds
            for name in _COUNTED & values.keys() & last.keys()
        }
        return {name: value for name, value in values.items() if name not in _COUNTED} | rates


class History:
    """The data of the page's small charts."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._changed: set[int] = set()

    def taken_until(self, key: str) -> float:
        """Return the time of a server's last sample."""
        server = self._servers.get(key)
        return server.until if server is not None and server.until else -math.inf

    def take(self, key: str, document: Document) -> None:
        """Add the new samples of a document."""
        self._changed |= self._servers.setdefault(key, _Server()).take(document)

    def forget(self, key: str) -> None:
        """Exclude a server from now on."""
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
