"""How long a session waits for a client that has vanished."""

from dataclasses import dataclass

from pserver.config.listen_options import ListenOptions
from pserver.config.option import setting
from srp_tools.errors import ConfigurationError

_MOST_MINUTES = 60 * 24 * 14  # node certificates expire after 30 days; clients renew them every ten days


@dataclass(frozen=True, kw_only=True)
class OrphanOptions(ListenOptions):
    """The setting for vanished clients."""

    orphan_timeout: float = setting(
        0.0,
        "How long a session waits for a client that has vanished and may come back, in minutes; see "
        "pconnect(resume=...). 0 ends each session with its client.",
        "MIN",
        parse=float,
        flags=("--orphan-timeout", "--zombie-interval"),
        reloads=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.orphan_timeout <= _MOST_MINUTES:
            raise ConfigurationError(
                f"--orphan-timeout {self.orphan_timeout:g}: give minutes, from 0 to {_MOST_MINUTES} (14 days)"
            )
        if self.orphan_timeout and not self.use_tls:
            raise ConfigurationError(
                "--orphan-timeout and --no-tls exclude each other: without a login, no client can prove that a session "
                "is its own; leave out one"
            )
