"""Small documents of statistics, and a source that yields a given document."""

from collections.abc import Mapping, Sequence
from typing import Any

from pserver.page.documents import Report


def document(time: float = 1000.0, **more: Any) -> dict[str, Any]:
    """Return the document of a server with two slots, one of them busy; `more` replaces entries."""
    return {
        "server": {"name": "alpha", "host": "alpha.lab", "version": "0.1.0", "started": 10.0, "cmd_port": 12502,
                   "account": "alice", "admission": {"words": "open"}},
        "time": time,
        "machine": {"processors": 2, "load": [0.5, 0.25, 0.125], "memory_total": 100, "memory_free": 40,
                    "swap_total": 0, "swap_free": 0, "disk_total": 1000, "disk_free": 900},
        "totals": {"jobs_done": 7, "jobs_failed": 2, "jobs_lost": 1, "programs_done": 3, "programs_failed": 0,
                   "programs_lost": 0, "processing_seconds": 12.5, "queue_seconds": 1.5, "transfer_seconds": 0.5,
                   "bytes_in": 1000, "bytes_out": 2000, "sessions": 4, "logins_failed": 5},
        "slots": [{"slot": 1, "state": "busy", "jobs_done": 6, "jobs_failed": 2, "jobs_lost": 0,
                   "processing_seconds": 10.0},
                  {"slot": 2, "state": "free", "jobs_done": 1, "jobs_failed": 0, "jobs_lost": 1,
                   "processing_seconds": 2.5}],
        "queue": {"waiting": 3},
        "sessions": [{"session": 77, "user": "alice", "from": "10.0.0.9", "nodes": [1], "network": "01234567",
                      "since": 900.0, "slots": 1, "detached": False, "orphaned": None,
                      "bytes_in": 1, "bytes_out": 2,
                      "memory": 3}],
        "others": {"sessions": 2, "slots": 1},
        "members": [{"name": "beta", "addresses": ["10.0.0.2"], "slots": 8, "heard": 3.5,
                     "gone": False}],
        "samples": {"interval": 5.0, "columns": ["time", "load", "busy_slots"],
                    "rows": [[900.0, 0.5, 1], [905.0, 0.7, 2]]},
        "timeline": [work(1, time - 1, None), work(2, time - 3, time - 2)],
        **more,
    }  # fmt: skip


def work(slot: int, begin: float, end: float | None, **more: Any) -> dict[str, Any]:
    """Return an entry of a timeline."""
    outcome = "running" if end is None else "done"
    facts = {"slot": slot, "begin": begin, "end": end, "kind": "job", "outcome": outcome}
    return {**facts, "session": 77, "user": "alice", "label": "simulate", **more}


class TestSource:
    """Gives `given`, or raises `error`."""

    __test__ = False  # it is not a test

    def __init__(self, *given: Report, can_stop: bool = True) -> None:
        self.given: Sequence[Report] = given
        self.error: Exception | None = None
        self.can_stop = can_stop
        self.asked: list[Mapping[str, float]] = []
        self.stopped: list[tuple[str, int]] = []

    async def reports(self, since: Mapping[str, float]) -> Sequence[Report]:
        self.asked.append(since)
        if self.error is not None:
            raise self.error
        return self.given

    async def stop(self, key: str, session: int) -> str:
        if self.error is not None:
            raise self.error
        self.stopped.append((key, session))
        return f"Ended session {session}."
