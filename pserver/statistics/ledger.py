"""The daemon's counts of work, for the whole server and for each slot, its running jobs, and the timeline.

All data comes from reports of sessions. A session may report only on its own leases; the daemon knows their slots.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from pserver.statistics.work import Running, Span, Told, Work

_MOST_SPANS = 2000  # entries, of all users
_MOST_SLOTS = 4096  # slots with separate counts


class Owner(NamedTuple):
    """The owner of some work."""

    session: int  #: number of its process
    user: str


class _Entry(NamedTuple):
    slot: int
    owner: Owner
    span: Span
    told_at: float


class Ledger:
    """The work of a server's sessions since the server started."""

    def __init__(self) -> None:
        self.total = Work()  #: of all sessions
        self.logins_failed = 0  #: failed logins that had a session process
        self._past_bytes = (0, 0)  # received and sent by sessions that have ended
        self._slots: dict[int, Work] = {}
        self._running: dict[Hashable, tuple[Owner, dict[int, Running]]] = {}  # by node, then by slot
        self._timeline: dict[str, deque[_Entry]] = {}  # by user

    def take(
        self, node: Hashable, owner: Owner, told: Told, slot_of: Callable[[int], int | None], now: float
    ) -> None:
        """Add the report of a node. `slot_of`: returns the slot of a lease that is or was the node's."""
        for lease, work in told.work:
            if (slot := slot_of(lease)) is not None:
                self._add(slot, work)
        if told.running is not None:
            running = {slot: what for lease, what in told.running if (slot := slot_of(lease)) is not None}
            before = self._running[node][1] if told.is_more and node in self._running else {}
            self._running[node] = owner, {**before, **running}
        for lease, span in told.spans:
            if (slot := slot_of(lease)) is not None:
                self._keep(_Entry(slot, owner, span, now))

    def _keep(self, entry: _Entry) -> None:
        """Add an entry to the timeline; if it is full, drop the oldest entry of the user with the most."""
        self._timeline.setdefault(entry.owner.user, deque()).append(entry)
        if sum(map(len, self._timeline.values())) > _MOST_SPANS:
            max(self._timeline.values(), key=len).popleft()

    def _add(self, slot: int, work: Work) -> None:
        self.total = self.total.plus(work)
        if slot in self._slots or len(self._slots) < _MOST_SLOTS:
            self._slots[slot] = self.of_slot(slot).plus(work)

    def leave(self, node: Hashable, now: float) -> None:
        """Record that a node has ended. Any job known to be running is lost, because its session was killed."""
        owner, running = self._running.pop(node, (Owner(0, ""), {}))
        for slot, what in running.items():
            self._add(slot, Work(programs_lost=1) if what.is_program else Work(jobs_lost=1))
            span = Span(what.begin, max(now, what.begin), what.is_program, "lost", what.label)
            self._keep(_Entry(slot, owner, span, now))

    def count_bytes(self, received: int, sent: int) -> None:
        """Add the bytes received and sent by a session that has ended."""
        self._past_bytes = self._past_bytes[0] + received, self._past_bytes[1] + sent

    def bytes_with(self, living: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the bytes received and sent by all sessions. `living`: the numbers of each session that is running."""
        received, sent = zip(self._past_bytes, *living, strict=True)
        return sum(received), sum(sent)

    def of_slot(self, slot: int) -> Work:
        """Return the work done in a slot."""
        return self._slots.get(slot, Work())

    def running(self) -> dict[int, tuple[Owner, Running]]:
        """Return the running work, by slot."""
        return {
            slot: (owner, what) for owner, by_slot in self._running.values() for slot, what in by_slot.items()
        }

    def timeline(self, since: float, user: str | None) -> list[dict[str, Any]]:
        """Return the running work, followed by the work reported as ended since an instant, newest first.

        `user`: the reader; the owners and labels of other users' work are hidden. ``None``: show everything.
        """
        running = [
            _shown(slot, owner, (what.begin, None, what.is_program, "running", what.label), user)
            for slot, (owner, what) in self.running().items()
        ]
        entries = [entry for kept in self._timeline.values() for entry in kept if entry.told_at > since]
        entries.sort(key=lambda entry: entry.span.end, reverse=True)  # workers report separately
        ended = [_shown(entry.slot, entry.owner, entry.span, user) for entry in entries]
        return running + ended


def _shown(slot: int, owner: Owner, facts: Sequence[Any], user: str | None) -> dict[str, Any]:
    begin, end, is_program, outcome, label = facts
    is_visible = user is None or owner.user == user
    return {
        "slot": slot,
        "begin": begin,
        "end": end,
        "kind": "program" if is_program else "job",
        "outcome": outcome,
        "session": owner.session if is_visible else None,
        "user": owner.user if is_visible else None,
        "label": (label or None) if is_visible else None,
    }
