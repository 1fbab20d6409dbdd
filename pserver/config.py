"""The settings of one server."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from srp_tools.errors import ConfigurationError

DEFAULT_CMD_PORT = 12502
DEFAULT_DATA_PORT = 12501

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class ServerConfig:
    """The settings of one server; see ``pserver start --help``.

    Raises
    ------
    ConfigurationError
        A setting cannot be used; the text says which and why.
    """

    name: str = "default"
    cmd_port: int = DEFAULT_CMD_PORT  # 0: any free one
    data_port: int = DEFAULT_DATA_PORT  # 0: any free one
    bind: str | None = None  # None: all addresses with TLS, the loopback address without
    auth_file: Path | None = None  # None: the user's own, see `srp_tools.verifiers`
    use_tls: bool = True
    log_file: Path | None = None  # None: beside the pid file, or standard error in the foreground
    allow_root: bool = False
    slots: int | None = None  # processes for jobs; None: the processors; negative: leave so many free
    max_startups: int = 8  # logins at work at once; SRP is arithmetic, more of them only share the processors
    login_timeout: float = 20.0  # seconds from the first byte of a client to the end of its login
    silence_timeout: float = 5.0  # seconds a connection may say nothing before it is closed
    max_file_size: int = 0  # bytes of one file that a client puts here or gets from here; 0: no limit
    spool_dir: Path | None = None  # for what detached networks leave; None: the user's folder for state
    keep_results: float = 7.0  # days until that is removed if nobody recovers it

    def __post_init__(self) -> None:
        for option, port in (("--cmd-port", self.cmd_port), ("--data-port", self.data_port)):
            if not 0 <= port <= 65535:
                raise ConfigurationError(f"{option} {port}: a port is a number from 0 to 65535")
        if self.cmd_port == self.data_port != 0:
            raise ConfigurationError(f"--cmd-port and --data-port are both {self.cmd_port}: they must differ")
        if self.max_startups < 1:
            raise ConfigurationError(f"--max-startups {self.max_startups}: nobody could log in")
        for option, seconds in (
            ("--login-timeout", self.login_timeout),
            ("--silence-timeout", self.silence_timeout),
        ):
            if not 0 < seconds < float("inf"):
                raise ConfigurationError(
                    f"{option} {seconds:g}: a limit of time is a positive number of seconds"
                )
        if not 0 < self.keep_results < float("inf"):
            raise ConfigurationError(f"--keep-results {self.keep_results:g}: it is a positive number of days")
        self.slot_count()
        if self.max_file_size < 0:
            raise ConfigurationError(
                f"--max-file-size {self.max_file_size}: a size is not negative; 0 sets no limit"
            )
        check_server_name(self.name)

    def kept_folder(self) -> Path:
        """Return where the jobs and results of detached networks are."""
        base = self.spool_dir or platformdirs.user_state_path("pserver", appauthor=False)
        return base / self.name / "kept"

    def slot_count(self) -> int:
        """Return how many processes for jobs there may be at once."""
        processors = processor_count()
        if self.slots is None:
            return processors
        if self.slots >= 0:
            return self.slots
        if processors + self.slots < 1:
            raise ConfigurationError(
                f"--slots {self.slots}: of {processors} processors none would be left; 0 means no jobs"
            )
        return processors + self.slots


def processor_count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_size(text: str) -> int:
    """Return the bytes that a size such as ``4096``, ``64m`` or ``2g`` means.

    Raises
    ------
    ConfigurationError
        It is no whole number, or what stands behind that is not one of k, m, g and t, the powers of 1024.

    Examples
    --------
    >>> parse_size("4096"), parse_size("64m"), parse_size("2G") == 2 * 2**30
    (4096, 67108864, True)
    """
    found = re.fullmatch(r"([0-9]+)([kmgt]?)", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is no size: give a number of bytes, or one with k, m, g or t (powers of 1024), such as 64m"
        )
    return int(found[1]) * _UNITS[found[2].lower()]


def check_server_name(name: str) -> None:
    """Refuse a name that no server can have.

    Raises
    ------
    ConfigurationError
        The text says why it cannot be used.
    """
    # The name becomes a file's: no path separators, nothing hidden, and nothing like an option.
    if not 0 < len(name) <= 64 or not all(c.isalnum() or c in "-_." for c in name):
        raise ConfigurationError(
            f"--name {name!r}: use up to 64 letters, digits, '-', '_' and '.', it becomes a file's name"
        )
    if name.startswith((".", "-")):
        raise ConfigurationError(f"--name {name!r}: a name does not begin with a dot or a hyphen")


@dataclass(frozen=True)
class SessionSettings:
    """What a session needs to know of the server; see `pserver.config.ServerConfig`."""

    auth_file: Path | None  # None: no encryption, no login
    data_port: int
    bind: str | None
    login_timeout: float
    log_file: Path | None
    peer: str
    kept: Path  # see `ServerConfig.kept_folder`
    max_file_size: int = 0
