"""Changes since the last message to the page: changed figures, new work, samples of another half minute.

A new browser gets a snapshot, then the changes. The size of both is limited, however many servers and jobs there are.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from pserver.page.documents import (
    UNKNOWN,
    Report,
    Work,
    members_of,
    number,
    row_of,
    sessions_of,
    slot_numbers,
    work_after,
)
from pserver.page.history import History

MOST_KEPT = 30_000  # entries of all timelines together
_LEAST_KEPT = 50  # entries of one timeline
# Ends are looked for again from this many seconds before the document's time, because servers may report them late.
_LATE = 5.0


class _Server:
    """The state of one server that the page knows."""

    def __init__(self) -> None:
        self.row: dict[str, object] = {}
        self.lists: dict[str, object] = {}  # slots, sessions, members
        self.work: dict[tuple[int, float], Work] = {}  # roughly in order of start time
        self.running: set[tuple[int, float]] = set()
        self.seen_until = 0.0  # time by the server's clock

    def take(self, report: Report, most_kept: int) -> dict[str, object]:
        """Apply a report; return the changes."""
        row = row_of(report)
        if report.document is None:
            row = {**self.row, **row}
        changed: dict[str, object] = {
            name: value for name, value in row.items() if self.row.get(name, ...) != value
        }
        self.row = row
        told: dict[str, object] = {"row": changed} if changed else {}
        if report.document is None:
            return told
        lists: dict[str, object] = {
            "slots": slot_numbers(report.document),
            "sessions": sessions_of(report.document),
            "members": members_of(report.document),
        }
        told |= {name: value for name, value in lists.items() if self.lists.get(name) != value}
        self.lists = lists
        if work := self._new_work(report, most_kept):
            told["work"] = work
        return told

    def _new_work(self, report: Report, most_kept: int) -> list[Work]:
        document = report.document or {}
        shown = {(each[0], each[1]): each for each in work_after(document, self.seen_until - _LATE)}
        now = number(document.get("time")) or self.seen_until
        for key in self.running - shown.keys():  # ended, but its outcome was never reported
            shown[key] = (*self.work[key][:2], now, UNKNOWN, *self.work[key][4:])
        found = sorted(
            (each for key, each in shown.items() if self.work.get(key) != each), key=lambda each: each[1]
        )
        for each in found:
            self.work[each[0], each[1]] = each
        self.running = {key for key, each in shown.items() if each[2] is None}
        self.seen_until = max(self.seen_until, now)
        if (surplus := len(self.work) - most_kept) > 0:
            for key in list(islice(self.work, surplus)):
                del self.work[key]
                self.running.discard(key)
        return found[-most_kept:]

    def all(self) -> dict[str, object]:
        return {"row": self.row, **self.lists, "work": list(self.work.values())}


class Changes:
    """Turns reports into messages for the page."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}
        self._history = History()

    @property
    def since(self) -> Mapping[str, float]:
        """The times before which nothing is needed any more, by server."""
        return {
            key: min(server.seen_until - _LATE, self._history.taken_until(key))
            for key, server in self._servers.items()
            if server.seen_until
        }

    def take(self, reports: Sequence[Report]) -> dict[str, Any]:
        """Apply reports; return the changes."""
        keys = {report.key for report in reports}
        gone = [key for key in self._servers if key not in keys]
        for key in gone:
            del self._servers[key]
            self._history.forget(key)
        most = max(_LEAST_KEPT, MOST_KEPT // max(1, len(reports)))
        changed = {}
        for report in reports:
            server = self._servers.setdefault(report.key, _Server())
            if told := server.take(report, most):
                changed[report.key] = told
            if report.document is not None:
                self._history.take(report.key, report.document)
        return {"servers": changed, "gone": gone, "history": self._history.changes()}

    def snapshot(self) -> dict[str, Any]:
        """Return the whole state, for a new browser."""
        return {
            "servers": {key: server.all() for key, server in self._servers.items()},
            "history": self._history.all(),
        }
