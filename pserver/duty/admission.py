"""Whether a server takes another session, and if not, why: the words that the client reads."""

from collections.abc import Callable, Sequence

from pserver.config.duty_options import DutyOptions


class Admission:
    """What decides about newcomers. It only answers; sessions that are there go on.

    `config`: returns the settings that hold now. `users`: returns the user of each session that has logged in.
    """

    def __init__(self, config: Callable[[], DutyOptions], users: Callable[[], Sequence[str]]) -> None:
        self._config = config
        self._users = users
        self._is_drained = False

    def drain(self) -> None:
        """Take no new sessions from now on."""
        self._is_drained = True

    def resume(self) -> None:
        """Take sessions again."""
        self._is_drained = False

    def refusal(self, user: str) -> str:
        """Return why `user` gets no session now, for the client to read; empty if there is no reason."""
        why = self._why_closed() or self._why_full(user)
        return f"server {self._config().name} takes no new session now: {why}" if why else ""

    def _why_closed(self) -> str:
        return "it is being drained; running sessions go on" if self._is_drained else ""

    def _why_full(self, user: str) -> str:
        config, users = self._config(), self._users()
        if 0 < config.max_sessions <= len(users):
            return (
                f"there are {len(users)}, and its administrator allows {config.max_sessions} (--max-sessions)"
            )
        own = users.count(user)
        if 0 < config.max_sessions_per_user <= own:
            limit = f"allows {config.max_sessions_per_user} for each user (--max-sessions-per-user)"
            return f"{user} has {own}, and its administrator {limit}"
        return ""

    def facts(self) -> dict[str, object]:
        """Return what the status says of it."""
        return {"drained": self._is_drained, "open": not self._why_closed()}
