"""A source for the page with any number of servers and jobs, to test its looks and its speed."""

import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from pserver.page.documents import Report

_LABELS = (
    "simulate",
    "fit_model",
    "render",
    "reduce_sum",
    "load_block",
    "integrate",
    "gcc",
    "resample",
    "check",
)
_INTERVAL = 10.0
_COLUMNS = (
    "load",
    "memory_free",
    "busy_slots",
    "waiting",
    "jobs_done",
    "jobs_failed",
    "bytes_in",
    "bytes_out",
)


class GeneratedServer:
    """A server whose slots are always busy with jobs of random lengths."""

    def __init__(
        self, number: int, slots: int, jobs_per_minute: float, now: float, chance: random.Random
    ) -> None:
        self.key = f"node{number:03}:12502"
        self._number = number
        self._chance = chance
        self._mean = 60 * slots / jobs_per_minute
        self._begin = now - 3600
        self._slots: list[dict[str, Any]] = [
            {"slot": slot, "state": "busy", "session": 4000 + number, "user": "alice", "since": now - 900,
             "jobs_done": 0, "jobs_failed": 0, "jobs_lost": 0, "processing_seconds": 0.0}
            for slot in range(1, slots + 1)
        ]  # fmt: skip
        self._running: list[dict[str, Any]] = []
        self._ended: deque[dict[str, Any]] = deque(maxlen=2000)
        self._totals = dict.fromkeys(("jobs_done", "jobs_failed", "jobs_lost"), 0)
        for slot in self._slots:
            self._start(slot, now - 300)
        self.run_until(now)

    def _start(self, slot: dict[str, Any], begin: float) -> None:
        length = max(0.05, self._chance.expovariate(1 / (0.9 * self._mean)))
        label = _LABELS[min(len(_LABELS) - 1, int(self._chance.expovariate(0.6)))]
        self._running.append(
            {"slot": slot["slot"], "begin": begin, "end": begin + length,
             "kind": "program" if label == "gcc" else "job", "session": slot["session"],
             "outcome": "failed" if self._chance.random() < 0.02 else "done",
             "user": ("alice", "bob")[self._number % 2], "label": label}
        )  # fmt: skip

    def run_until(self, now: float) -> None:
        """End the jobs that are due by then and start the next ones."""
        while due := [job for job in self._running if job["end"] <= now]:
            for job in due:
                self._running.remove(job)
                self._ended.append(job)
                slot = self._slots[job["slot"] - 1]
                slot[f"jobs_{job['outcome']}"] += 1
                slot["processing_seconds"] += job["end"] - job["begin"]
                self._totals[f"jobs_{job['outcome']}"] += 1
                self._start(slot, job["end"] + 0.06 * self._mean * self._chance.random())

    def document(self, now: float, since: float) -> dict[str, Any]:
        """Return the current document, without jobs that had ended by `since`."""
        self.run_until(now)
        busy = sum(job["begin"] <= now for job in self._running)
        for slot in self._slots:
            slot["state"] = "granted"
        for job in self._running:
            if job["begin"] <= now:
                self._slots[job["slot"] - 1]["state"] = "busy"
        running = [{**job, "end": None, "outcome": "running"} for job in self._running if job["begin"] <= now]
        ended = []
        for job in reversed(self._ended):
            if job["end"] < since - 60:
                break
            if job["end"] > since:
                ended.append(job)
        count = int((now - self._begin) / _INTERVAL)
        first = max(0, count - 360, int((since - self._begin) / _INTERVAL))
        rows = [self._sample(place) for place in range(first, count)]
        wave = 1 + 0.3 * self._chance.random()
        name, user, ended_jobs = (
            f"node{self._number:03}",
            ("alice", "bob")[self._number % 2],
            sum(self._totals.values()),
        )
        return {
            "server": {"name": name, "host": f"{name}.lab.example", "version": "0.1.0",
                       "pid": 4000, "started": self._begin, "account": "alice", "cmd_port": 12502, "data_port": 12501,
                       "admission": {"words": "open"}},
            "time": now,
            "machine": {"processors": len(self._slots), "load": [busy * wave, busy, busy], "memory_total": 64e9,
                        "memory_free": 4e9 + 30e9 * self._chance.random(), "swap_total": 0, "swap_free": 0,
                        "disk_total": 1e12, "disk_free": 4e11},
            "totals": {**self._totals, "programs_done": 0, "programs_failed": 0, "programs_lost": 0,
                       "processing_seconds": sum(slot["processing_seconds"] for slot in self._slots),
                       "queue_seconds": 0.01 * ended_jobs, "transfer_seconds": 0.003 * ended_jobs,
                       "bytes_in": 120_000 * ended_jobs, "bytes_out": 40_000 * ended_jobs,
                       "sessions": 7, "logins_failed": 0},
            "slots": self._slots,
            "queue": {"waiting": int(4 * self._chance.random())},
            "sessions": [{"session": 4000 + self._number, "user": user, "from": "10.0.0.9", "nodes": [1],
                          "network": "0f3a9c21", "since": now - 900, "slots": len(self._slots),
                          "detached": False, "orphaned": None,
                          "bytes_in": 10**7, "bytes_out": 10**6, "memory": 3 * 10**8}],
            "others": {"sessions": 1, "slots": 0},
            "members": [{"name": f"node{other:03}", "addresses": [f"node{other:03}.lab.example"], "slots": 4,
                         "heard": 3, "gone": False}
                        for other in {max(1, self._number - 1), self._number + 1}],
            "samples": {"interval": _INTERVAL, "columns": ["time", *_COLUMNS], "rows": rows},
            "timeline": [*running, *ended],
        }  # fmt: skip

    def _sample(self, place: int) -> list[float]:
        chance, slots = random.Random(1000 * self._number + place // 6), len(self._slots)
        busy = slots * (0.6 + 0.4 * chance.random())
        jobs = _INTERVAL * slots / self._mean
        counts = [place * each for each in (jobs, 0.02 * jobs, 1e6 * jobs, 3e5 * jobs)]
        at, memory = self._begin + place * _INTERVAL, 5e9 + 2e10 * chance.random()
        return [at, busy, memory, busy, 3 * chance.random(), *counts]


class GeneratedSource:
    """A source of generated servers; `stopped` lists the sessions that were stopped."""

    can_stop = True

    def __init__(self, servers: int, slots: int = 8, jobs_per_minute: float = 60.0, *, seed: int = 1) -> None:
        chance, now = random.Random(seed), time.time()
        self.servers = [
            GeneratedServer(number, slots, jobs_per_minute, now, chance) for number in range(1, servers + 1)
        ]
        self.stopped: list[tuple[str, int]] = []

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        now = time.time()
        return [Report(each.key, each.document(now, since.get(each.key, 0.0))) for each in self.servers]

    async def stop(self, key: str, session: int) -> str:
        self.stopped.append((key, session))
        return f"Ended session {session}."
