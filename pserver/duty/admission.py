"""Whether a server takes another session, and if not, why: the words that the client reads."""

import datetime
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from pserver.config.duty_options import DutyOptions
from pserver.duty.exclusion import Session, why_excluded, why_not_alone
from pserver.duty.schedule import Phase, ServiceHours, State, WallClock, state_at
from pserver.duty.wall_clock import wall_clock
from srp_tools.credentials import is_member

_LOOK_SECONDS = 30.0  # until what holds is found out anew: the clock may be set, the machine may be moved
_ALWAYS = State(Phase.OPEN, float("inf"), None, float("inf"))


class Admission:
    """What decides about newcomers. It only answers; others act on it.

    `config`: returns the settings that hold now. `users`: returns the user of each session that has logged in. `now`:
    returns the instant, as `time.time` does. `begun`: returns how many sessions have begun in all. `sessions`: returns
    those that there are. `admins`: returns the users who administer the server.
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
        self._known: tuple[ServiceHours | None, float, State] = (
            None,
            0.0,
            _ALWAYS,
        )  # since when, for which hours

    def drain(self, *, finishes_jobs: bool = False) -> None:
        """Take no new sessions and begin no jobs from now on; `finishes_jobs`: but those of sessions that are there."""
        self._is_drained, self._finishes_jobs = True, finishes_jobs

    def resume(self) -> None:
        """Do both again, as far as the hours allow."""
        self._is_drained = False

    # --- what holds now ---

    def state(self) -> State:
        """Return what the hours of the server say now."""
        hours, now = _hours(self._config()), self._now()
        known_hours, since, state = self._known
        if hours != known_hours or not since <= now < min(since + _LOOK_SECONDS, state.changes_at):
            state = _ALWAYS if hours is None else state_at(hours, now, self._clock)
            self._known = hours, now, state
        return state

    def time_left(self) -> float | None:
        """Return in how many seconds to look what holds; ``None``: it stays so."""
        state = self.state()
        return None if state is _ALWAYS else min(max(0.0, state.changes_at - self._now()), _LOOK_SECONDS)

    @property
    def begins_jobs(self) -> bool:
        """Whether sessions may get slots for further jobs."""
        return (self._finishes_jobs or not self._is_drained) and self.state().phase is Phase.OPEN

    def why_ended(self) -> str:
        """Return why what still runs is to be ended now; empty if it is not."""
        state = self.state()
        if state.phase is not Phase.CLOSED or self._config().service_end is None:
            return ""
        opens, end = self._shown(state.opens_at), self._config().service_end
        return f"service hours: the server ends all sessions at {end} (--service-end), and opens at {opens} again"

    def refusal(self, user: str, network: str = "", *, is_exclusive: bool = False) -> str:
        """Return why `user` gets no session now, for the client to read; empty if there is no reason.

        `network`: for which it would be, if that is known. `is_exclusive`: whether it is to be the only one.
        """
        if is_member(user):
            return (
                f"the user {user} is a member: servers announce themselves with it, and it has no session; log in as "
                "another user"
            )
        why = self._why_closed() or self._why_full(user) or why_excluded(user, network, self._sessions())
        if is_exclusive and not why:
            is_allowed = self._config().allow_exclusive or user in self._admins()
            why = why_not_alone(user, network, self._sessions(), is_allowed=is_allowed)
        return f"server {self._config().name} takes no new session now: {why}" if why else ""

    def _why_closed(self) -> str:
        if self._is_drained:
            return "it is being drained; running sessions go on"
        state, hours = self.state(), _hours(self._config())
        if hours is None or state.phase is Phase.OPEN:
            return ""
        last = "--service-stop" if self._config().service_stop else "--service-end"
        opens = self._shown(state.opens_at)
        return f"its hours are {hours} (--service-start, {last}), and it opens at {opens} again"

    def _why_full(self, user: str) -> str:
        config, users = self._config(), self._users()
        if 0 < config.serve <= self._begun():
            return f"it serves {config.serve} sessions in all (--serve)"
        if 0 < config.max_sessions <= len(users):
            return (
                f"there are {len(users)}, and its administrator allows {config.max_sessions} (--max-sessions)"
            )
        own = users.count(user)
        if 0 < config.max_sessions_per_user <= own:
            limit = f"allows {config.max_sessions_per_user} for each user (--max-sessions-per-user)"
            return f"{user} has {own}, and its administrator {limit}"
        return ""

    # --- for people ---

    def _shown(self, instant: float) -> str:
        return f"{self._clock(instant):%H:%M}"

    def __str__(self) -> str:
        """Say what holds now, such as "open until 06:00, hard end 08:00"."""
        state = self.state()
        end = "" if state.ends_at is None else f", hard end {self._shown(state.ends_at)}"
        if self._is_drained:
            return f"drained{end}"
        if state.phase is Phase.OPEN:
            return "open" if state is _ALWAYS else f"open until {self._shown(state.changes_at)}{end}"
        return f"closed until {self._shown(state.opens_at)}{end}"

    def facts(self) -> dict[str, object]:
        """Return what the status says of it."""
        return {"drained": self._is_drained, "open": not self._why_closed(), "words": str(self)}


def _hours(config: DutyOptions) -> ServiceHours | None:
    """Return the hours that the settings mean; ``None``: always."""
    last = config.service_stop or config.service_end
    if config.service_start is None or last is None:
        return None
    start, stop = (datetime.time.fromisoformat(text) for text in (config.service_start, last))
    end = datetime.time.fromisoformat(config.service_end) if config.service_end else None
    return ServiceHours(start, stop, end)
