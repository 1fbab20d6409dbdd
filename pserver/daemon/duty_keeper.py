"""Does what the hours of a server ask for, and the number of its sessions: jobs wait, sessions end, it ends itself."""

from collections.abc import Callable

from pserver.daemon.control.endings import Endings
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService
from pserver.duty.admission import Admission


class DutyKeeper:
    """Acts on what `admission` says.

    `serve`: after how many sessions the server ends; 0 for never. `stop`: has it end, for a reason. `awaits_ends`:
    returns whether a session has ended that is not in the log yet.
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
        """Do what holds now."""
        self._slots.pause(is_paused=not self._admission.begins_jobs)
        if why := self._admission.why_ended():
            for session in self._sessions:
                # Without a user, its client is just reading that it is not let in.
                if session.user is not None and not session.is_control:
                    self._endings.end(session, why)
        has_served = 0 < self._serve <= self._sessions.begun and not len(self._sessions)
        if has_served and not self._awaits_ends():
            self._stop(f"it has served {self._serve} sessions (--serve)")
