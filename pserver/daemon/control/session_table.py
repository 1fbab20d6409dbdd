"""The facts about each session for an administrator."""

import time

from pserver.daemon.held_session import Session
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService


def session_rows(sessions: SessionRegistry, slots: SlotService) -> list[dict[str, object]]:
    """Return the facts about each session that has logged in or is logging in.

    ``jobs`` is the number of jobs that have ended, ``running`` the number of running commands and jobs, and ``slots``
    the present number of processes for jobs. ``idle`` is the number of seconds in which nothing has run, according to
    the session's reports, which come every two seconds.
    """
    return [_row(session, slots) for session in sessions if not session.is_control]


def _row(session: Session, slots: SlotService) -> dict[str, object]:
    uses = session.usage.values()
    running = sum(use.running for use in uses)
    last = max([session.since, *(use.changed_at for use in uses)])
    return {
        "session": session.pid,
        "user": session.user,
        "from": session.peer,
        "since": session.since,
        "nodes": sorted(node.number for node in session.nodes if node.number),
        "commands": sum(use.counts[0] for use in uses),
        "jobs": sum(use.counts[1] for use in uses),
        "running": running,
        "slots": sum(slots.held_by(node) for node in session.nodes),
        "idle": 0.0 if running else max(0.0, time.time() - last),
        "detached": any(node.is_detached for node in session.nodes),
        "orphaned": session.orphaned_since,
    }
