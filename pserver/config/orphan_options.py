"""For how long a session waits for a client that has vanished."""

from dataclasses import dataclass

from pserver.config.listen_options import ListenOptions
from pserver.config.option import setting
from srp_tools.errors import ConfigurationError

_MOST_MINUTES = 60 * 24 * 14  # the certificates of nodes end after 30 days; clients renew them every ten


@dataclass(frozen=True, kw_only=True)
class OrphanOptions(ListenOptions):
    """That setting of a server."""

    orphan_timeout: float = setting(
        0.0,
        "How many minutes a session goes on without a client that has vanished, if that client may come back, see "
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
                "--orphan-timeout and --no-tls: without a login, nobody can prove whose session it is; leave out one"
            )
