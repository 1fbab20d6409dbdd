"""Whether a server accepts another session, and the reason for the client if it does not."""

import datetime
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from pserver.config.duty_options import DutyOptions
from pserver.duty.exclusion import Session, why_excluded, why_not_alone
from pserver.duty.schedule import Phase, ServiceHours, State, WallClock, state_at
from pserver.duty.wall_clock import wall_clock
from srp_tools.credentials import is_member

_LOOK_SECONDS = 30.0  # between evaluations: the clock or the time zone may change
_ALWAYS = State(Phase.OPEN, float("inf"), None, float("inf"))


class Admission:
    """Decides about new sessions. It only answers; the callers act on the answers.

    `config`: returns the current settings. `users`: returns the user of each session that has logged in. `now`: returns
    the current time like `time.time`. `begun`: returns the total number of sessions that have begun. `sessions`:
    returns the current ones. `admins`: returns the users who administer the server.
    """

    def __init__(
        self,
        config: Callable[[], DutyOptions],
        users: Callable[[], Sequence[str]],
        now: Callable[[], float] = time.time,
        clock: WallClock = wall_clock,
        *,
        begun: Callable[[], int] = lambda: 0,
        sessions: Callable[[], Iterable[Session]] = tuple,
        admins: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._config = config
        self._users = users
        self._now = now
        self._clock = clock
        self._begun = begun
        self._sessions = sessions
        self._admins = admins
        self._is_drained = self._finishes_jobs = False
        # Hours, time of the evaluation, and its result.
        self._known: tuple[ServiceHours | None, float, State] = (None, 0.0, _ALWAYS)

    def drain(self, *, finishes_jobs: bool = False) -> None:
        """Accept no new sessions and begin no jobs from now on. `finishes_jobs`: begin jobs of existing sessions."""
        self._is_drained, self._finishes_jobs = True, finishes_jobs

    def resume(self) -> None:
        """Accept sessions and begin jobs again, within the service hours."""
        self._is_drained = False

    # --- the current state ---

    def state(self) -> State:
        """Return the current state according to the server's hours."""
        hours, now = _hours(self._config()), self._now()
        known_hours, since, state = self._known
        if hours != known_hours or not since <= now < min(since + _LOOK_SECONDS, state.changes_at):
            state = _ALWAYS if hours is None else state_at(hours, now, self._clock)
            self._known = hours, now, state
        return state

    def time_left(self) -> float | None:
        """Return the seconds until the state should be evaluated again; ``None`` if it never changes."""
        state = self.state()
        return None if state is _ALWAYS else min(max(0.0, state.changes_at - self._now()), _LOOK_SECONDS)

    @property
    def begins_jobs(self) -> bool:
        """Whether sessions may get slots for further jobs."""
        return (self._finishes_jobs or not self._is_drained) and self.state().phase is Phase.OPEN

    def why_ended(self) -> str:
        """Return why running sessions must end now; empty if they need not."""
        state = self.state()
        if state.phase is not Phase.CLOSED or self._config().service_end is None:
            return ""
        opens, end = self._shown(state.opens_at), self._config().service_end
        return f"service hours: the server ends all sessions at {end} (--service-end), and opens again at {opens}"

    def refusal(self, user: str, network: str = "", *, is_exclusive: bool = False) -> str:
        """Return why `user` gets no session now, as a text for the client; empty if there is no reason.

        `network`: the network of the session, if known. `is_exclusive`: whether it must be the only session.
        """
        if is_member(user):
            return (
                f"the user {user} is a member, with which servers announce themselves, and gets no session: log in as "
                "another user"
            )
        why = self._why_closed() or self._why_full(user) or why_excluded(user, network, self._sessions())
        if is_exclusive and not why:
            is_allowed = self._config().allow_exclusive or user in self._admins()
            why = why_not_alone(user, network, self._sessions(), is_allowed=is_allowed)
        return f"server {self._config().name} accepts no new session now: {why}" if why else ""

    def _why_closed(self) -> str:
        if self._is_drained:
            return "it is being drained; running sessions continue"
        state, hours = self.state(), _hours(self._config())
        if hours is None or state.phase is Phase.OPEN:
            return ""
        last = "--service-stop" if self._config().service_stop else "--service-end"
        opens = self._shown(state.opens_at)
        return f"its hours are {hours} (--service-start, {last}), and it opens again at {opens}"

    def _why_full(self, user: str) -> str:
        config, users = self._config(), self._users()
        if 0 < config.serve <= self._begun():
            return f"it serves only {config.serve} sessions in total (--serve)"
        if 0 < config.max_sessions <= len(users):
            used = f"{len(users)} of {config.max_sessions} (--max-sessions)"
            return f"it has reached the session limit set by its administrator: {used}"
        own = users.count(user)
        if 0 < config.max_sessions_per_user <= own:
            used = f"{own} of {config.max_sessions_per_user} (--max-sessions-per-user)"
            return f"{user} has reached the session limit set by its administrator: {used}"
        return ""

    # --- for people ---

    def _shown(self, instant: float) -> str:
        return f"{self._clock(instant):%H:%M}"

    def __str__(self) -> str:
        """Return a text about the current state, such as "open until 06:00, hard end 08:00"."""
        state = self.state()
        end = "" if state.ends_at is None else f", hard end {self._shown(state.ends_at)}"
        if self._is_drained:
            return f"drained{end}"
        if state.phase is Phase.OPEN:
            return "open" if state is _ALWAYS else f"open until {self._shown(state.changes_at)}{end}"
        return f"closed until {self._shown(state.opens_at)}{end}"

    def facts(self) -> dict[str, object]:
        """Return the facts for the status."""
        return {"drained": self._is_drained, "open": not self._why_closed(), "words": str(self)}


def _hours(config: DutyOptions) -> ServiceHours | None:
    """Return the service hours in the settings; ``None`` if the server is always open."""
    last = config.service_stop or config.service_end
    if config.service_start is None or last is None:
        return None
    start, stop = (datetime.time.fromisoformat(text) for text in (config.service_start, last))
    end = datetime.time.fromisoformat(config.service_end) if config.service_end else None
    return ServiceHours(start, stop, end)
