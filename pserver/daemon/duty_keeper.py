"""Enforces the opening hours and session counts of a server: pauses jobs, ends sessions, and stops the server."""

from collections.abc import Callable

from pserver.daemon.control.endings import Endings
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService
from pserver.duty.admission import Admission


class DutyKeeper:
    """Enforces the rules of `admission`.

    `serve`: the number of sessions after which the server stops; 0 for no limit. `stop`: stops it, with a reason.
    `awaits_ends`: returns whether a session has ended whose end is not in the log yet.
    """

    def __init__(
        self,
        admission: Admission,
        sessions: SessionRegistry,
        slots: SlotService,
        endings: Endings,
        *,
        serve: int,
        stop: Callable[[str], object],
        awaits_ends: Callable[[], bool] = lambda: False,
    ) -> None:
        self._admission = admission
        self._sessions = sessions
        self._slots = slots
        self._endings = endings
        self._serve = serve
        self._stop = stop
        self._awaits_ends = awaits_ends

    def step(self) -> None:
        """Apply the current rules."""
        self._slots.pause(is_paused=not self._admission.begins_jobs)
        if why := self._admission.why_ended():
            for session in self._sessions:
                # A session without a user is just telling its client that the login is refused.
                if session.user is not None and not session.is_control:
                    self._endings.end(session, why)
        has_served = 0 < self._serve <= self._sessions.begun and not len(self._sessions)
        if has_served and not self._awaits_ends():
            self._stop(f"it has served {self._serve} session(s) (--serve)")
