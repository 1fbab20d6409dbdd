"""When a server takes sessions, and how many."""

from dataclasses import dataclass

from pserver.config.listen_options import ListenOptions
from pserver.config.option import setting
from srp_tools.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class DutyOptions(ListenOptions):
    """Those settings of a server that say when it takes sessions, and how many."""

    max_sessions: int = setting(
        0,
        "How many sessions there may be at once; a client has one, with all its engines here. 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    max_sessions_per_user: int = setting(
        0,
        "How many sessions each user may have at once; 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for option, number in (
            ("--max-sessions", self.max_sessions),
            ("--max-sessions-per-user", self.max_sessions_per_user),
        ):
            if number < 0:
                raise ConfigurationError(f"{option} {number}: give 0 or more; 0 sets no limit")
        if self.max_sessions_per_user and not self.use_tls:
            raise ConfigurationError(
                "--max-sessions-per-user and --no-tls: without TLS there is no login, so there are no users; "
                "leave out one"
            )
