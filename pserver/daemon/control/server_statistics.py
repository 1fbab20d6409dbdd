"""The statistics of the server: counts, samples and timeline, and the document that shows them.

doc/reference/statistics.md describes the document. Administrators see all of it. Other users see their own sessions,
and only the number and the slots of the other sessions.
"""

import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from pserver.config.server_config import ServerConfig
from pserver.daemon.callback_selector import LoopPart
from pserver.daemon.control.questions import Question, Questions
from pserver.daemon.held_session import Node, Session
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_allocator import Lease
from pserver.daemon.slot_service import SlotService
from pserver.statistics.ledger import Ledger, Owner
from pserver.statistics.machine import machine_facts
from pserver.statistics.samples import Samples
from pserver.statistics.work import read_told
from srp_tools.errors import ConfigurationError

_ALL = Question()
_OF_MEMBERS = ("id", "name", "addresses", "slots", "heard", "gone")


class ServerStatistics:
    """The work of the sessions of a server, and the load of the machine.

    `about`: returns the facts that identify the server. `admission`: returns whether it accepts sessions. `config`:
    returns the current settings.
    """

    def __init__(
        self,
        sessions: SessionRegistry,
        slots: SlotService,
        about: Callable[[], Mapping[str, object]],
        admission: Callable[[], Mapping[str, object]],
        config: Callable[[], ServerConfig],
    ) -> None:
        self._sessions = sessions
        self._slots = slots
        self._about = about
        self._admission = admission
        self._config = config
        self._ledger = Ledger()
        self.questions = Questions(self._made)  #: of users, who get a share of the daemon's time
        self._samples = Samples(self._look)
        sessions.on_work, sessions.on_leave, sessions.on_end = self._take, self._leave, self._end

    def loop_parts(self) -> list[LoopPart]:
        """Return the parts for the daemon's loop."""
        return [
            LoopPart("samples", self._samples.step, self._samples.time_left),
            LoopPart("questions", self.questions.step, self.questions.time_left),
        ]

    # --- reports from sessions ---

    def _take(self, node: Node, words: Mapping[str, Any]) -> None:
        session = node.session
        match words:
            case {"statistics": dict(request), "number": int(number)}:
                self._ask(node, request, number)
                return
        party = session.user, session.network
        self._ledger.take(
            node,
            Owner(session.pid, session.user or ""),
            read_told(words),
            lambda lease: self._slots.slot_of(party, lease),
            time.time(),
        )

    def _ask(self, node: Node, request: Mapping[str, Any], number: int) -> None:
        """Answer a session that asks on behalf of its client."""

        def reply(body: str) -> None:
            node.tell(f'{{"number": {number}, "statistics": {body}}}')

        try:
            self.questions.ask(node.session.user or "", request, reply)
        except ConfigurationError as error:
            reply(json.dumps({"error": str(error)}))

    def _made(self, user: str, question: Question) -> str:
        return json.dumps(self.document(question, None if user in self._config().admins else user))

    def _leave(self, node: Node) -> None:
        self._ledger.leave(node, time.time())

    def _end(self, session: Session) -> None:
        self._ledger.count_bytes(*_traffic(session))
        if session.failure is not None and session.failure.is_refused:
            self._ledger.logins_failed += 1

    # --- the document ---

    def document(self, question: Question = _ALL, user: str | None = None) -> dict[str, Any]:
        """Return the statistics, for a user or, ``None``, for an administrator."""
        is_brief, after = question
        sessions = self._shown_sessions()
        visible = [session for session in sessions if user in {None, session.user}]
        others = [session for session in sessions if user not in {None, session.user}]
        more = (
            {}
            if is_brief
            else {"samples": self._samples.facts(after), "timeline": self._ledger.timeline(after, user)}
        )
        return {
            "server": self._server(),
            "time": time.time(),
            "machine": self._machine(),
            "totals": self._totals(),
            "slots": self._slot_rows(user),
            "queue": {"waiting": self._slots.waiting},
            "sessions": [self._session_row(session) for session in visible],
            "others": {"sessions": len(others), "slots": sum(map(self._held_by, others))},
            "members": [{name: each.get(name) for name in _OF_MEMBERS} for each in self._sessions.members()],
            **more,
        }

    def _server(self) -> dict[str, object]:
        about = {("account" if name == "user" else name): value for name, value in self._about().items()}
        return about | {"admission": self._admission(), "host": socket.gethostname()}

    def _machine(self) -> dict[str, Any]:
        return machine_facts(self._config().kept_folder())

    def _shown_sessions(self) -> list[Session]:
        return [session for session in self._sessions if session.user is not None and not session.is_control]

    def _totals(self) -> dict[str, Any]:
        received, sent = self._ledger.bytes_with([_traffic(session) for session in self._sessions])
        return {
            **self._ledger.total.shown(),
            "bytes_in": received,
            "bytes_out": sent,
            "sessions": self._sessions.begun,
            "logins_failed": self._ledger.logins_failed,
        }

    def _look(self) -> list[float | None]:
        """Return a sample; see `pserver.statistics.samples.COLUMNS`."""
        machine, totals = self._machine(), self._totals()
        return [
            machine["load"][0],
            machine["memory_free"],
            len(self._ledger.running()),
            self._slots.waiting,
            *self._ledger.total[:6],
            totals["bytes_in"],
            totals["bytes_out"],
            len(self._shown_sessions()),
            machine["disk_free"],
        ]

    def _slot_rows(self, user: str | None) -> list[dict[str, Any]]:
        holders, running = self._slots.holders(), self._ledger.running()
        count = max([self._slots.facts["total"], *(slot + 1 for slot in holders)])
        skew = time.time() - time.monotonic()
        return [self._slot_row(slot, holders.get(slot), slot in running, skew, user) for slot in range(count)]

    def _slot_row(
        self, slot: int, lease: Lease | None, is_busy: bool, skew: float, user: str | None
    ) -> dict[str, Any]:
        session = lease.session.session if lease is not None and isinstance(lease.session, Node) else None
        is_visible = session is not None and user in {None, session.user}
        return {
            "slot": slot,
            "state": "free" if lease is None else "busy" if is_busy else "granted",
            "session": session.pid if session is not None and is_visible else None,
            "user": session.user if session is not None and is_visible else None,
            "since": None if lease is None else round(lease.since + skew, 3),
            **self._ledger.of_slot(slot).shown(),
        }

    def _held_by(self, session: Session) -> int:
        return sum(self._slots.held_by(node) for node in session.nodes)

    def _session_row(self, session: Session) -> dict[str, Any]:
        received, sent = _traffic(session)
        return {
            "session": session.pid,
            "user": session.user,
            "from": session.peer,
            "nodes": sorted(node.number for node in session.nodes if node.number),
            "network": (session.network or "")[:8],
            "since": session.since,
            "slots": self._held_by(session),
            "detached": any(node.is_detached for node in session.nodes),
            "orphaned": session.orphaned_since,
            "exclusive": session.is_exclusive and not session.is_detached,
            "bytes_in": received,
            "bytes_out": sent,
            "memory": sum(use.memory for use in session.usage.values()),
        }


def _traffic(session: Session) -> tuple[int, int]:
    """Return the bytes that a session has received and sent, from its reports."""
    counts = [use.counts for use in session.usage.values()]
    return sum(each[2] for each in counts), sum(each[3] for each in counts)
