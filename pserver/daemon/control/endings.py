"""Ends single sessions, with a reason for their clients, and by force if they take too long.

A session that gets the reason passes it to its client and ends. If it is still there after a moment, it gets SIGTERM
and then SIGKILL, all within two seconds.
"""

import contextlib
import json
import logging
import math
import signal
import time

from pserver.daemon.held_session import Session
from srp_tools.printable import printable_name

log = logging.getLogger("pserver")

_PATIENCE = 1.0  # seconds for a session to notify its client and end
_LAST_PATIENCE = 0.5  # for a session that does not read what it gets


class Endings:
    """The sessions that must end."""

    def __init__(self) -> None:
        self._due: dict[Session, tuple[float, signal.Signals]] = {}

    def end(self, session: Session, reason: str) -> None:
        """End a session, with a reason for its client; do nothing if it is already ending."""
        if session in self._due or session.has_ended:
            return
        log.info("ending session %d of %s: %s", session.pid, printable_name(session.user or "nobody"), reason)
        session.how = reason
        words = json.dumps({"end": reason}).encode()
        is_told = False
        for node in session.nodes:
            if node.number:
                with contextlib.suppress(OSError):  # it is ending, or does not read
                    node.control.send(words)
                    is_told = True
        wait = _PATIENCE if is_told else 0.0
        self._due[session] = time.monotonic() + wait, signal.SIGTERM
        self.step()

    def step(self) -> None:
        """Send the signals that are due."""
        now = time.monotonic()
        for session, (due, number) in list(self._due.items()):
            if session.has_ended:
                del self._due[session]
            elif due <= now:
                session.signal(number)
                self._due[session] = now + _LAST_PATIENCE, signal.SIGKILL

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not before an event."""
        first = min((due for due, _ in self._due.values()), default=math.inf)
        return None if first == math.inf else max(0.0, first - time.monotonic())
