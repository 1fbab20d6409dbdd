"""The settings of one server.

Each field of `ServerConfig` declares one option in full. From these fields, `pserver.admin.options` builds the command
line of ``pserver start``, the keywords of `pserver.pserver`, and the arguments that start the daemon.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import platformdirs

from pserver.config.account_options import AccountOptions
from pserver.config.duty_options import DutyOptions
from pserver.config.limit_options import LimitOptions
from pserver.config.listen_options import FilePath
from pserver.config.log_options import LogOptions
from pserver.config.login_options import LoginOptions
from pserver.config.option import setting
from pserver.config.orphan_options import OrphanOptions
from pserver.config.page_options import PageOptions
from pserver.config.pool_options import PoolOptions
from pserver.config.session_settings import seed_folder
from srp_tools.errors import ConfigurationError

MOST_SLOTS = 100_000


@dataclass(frozen=True, kw_only=True)
class ServerConfig(
    AccountOptions,
    LogOptions,
    LimitOptions,
    OrphanOptions,
    DutyOptions,
    PoolOptions,
    PageOptions,
    LoginOptions,
):
    """The settings of one server; ``pserver start --help`` describes them.

    Raises
    ------
    ConfigurationError
        A setting is not valid; the message says which and why.
    """

    slots: int | None = setting(
        None,
        "The number of jobs that can run at the same time. A negative number leaves that many processors free; "
        "0 runs no jobs.",
        "N",
        parse=int,
        default_text="one for each processor",
        flags=("--slots", "--cpus"),
        reloads=True,
    )
    spool_dir: FilePath | None = setting(
        None,
        "The folder for the jobs and results of detached networks.",
        "FOLDER",
        default_text="in your folder for state; /var/lib/pserver if sessions run under several accounts",
    )
    keep_results: float = setting(
        7.0,
        "How long to keep results of detached networks that nobody recovers, in days.",
        "DAYS",
        parse=float,
        reloads=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # For example, from a variable that is not set.
        for option in PATHS:
            if getattr(self, option) == "":
                raise ConfigurationError(f"--{option.replace('_', '-')}: it is empty; leave it out")
        if not 0 < self.keep_results < float("inf"):
            raise ConfigurationError(f"--keep-results {self.keep_results:g}: give a positive number of days")
        self.slot_count()

    def kept_folder(self) -> Path:
        """Return the folder for the jobs and results of detached networks."""
        if self.spool_dir is not None:
            base = Path(self.spool_dir)
        elif self.has_accounts:  # the users' accounts cannot read root's home
            base = Path("/var/lib/pserver")
        else:
            base = platformdirs.user_state_path("pserver", appauthor=False)
        return base / self.name / "kept"

    def seed_folder(self) -> Path:
        """Return the folder for the secret behind answers to unknown users, if it cannot be beside the verifiers."""
        return seed_folder(self.kept_folder())

    def slot_count(self) -> int:
        """Return the number of jobs that can run at the same time."""
        processors = processor_count()
        if self.slots is None:
            return processors
        if self.slots > MOST_SLOTS:
            raise ConfigurationError(f"--slots {self.slots}: give at most {MOST_SLOTS}")
        if self.slots >= 0:
            return self.slots
        if processors + self.slots < 1:
            raise ConfigurationError(
                f"--slots {self.slots}: that leaves none of {processors} processors; give 0 to run no jobs"
            )
        return processors + self.slots


#: The settings that are paths.
PATHS = tuple(field.name for field in fields(ServerConfig) if field.type == FilePath | None)


def processor_count() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))
