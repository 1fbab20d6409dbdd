"""The settings of one server.

Each field of `ServerConfig` declares one option, with all that is known of it. `pserver.admin.options` makes of these
fields the command line of ``pserver start``, the keywords of `pserver.pserver`, and what the daemon is started with.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

import platformdirs

from pconnect.link.host_names import DEFAULT_CMD_PORT
from srp_tools.credentials import composed
from srp_tools.errors import ConfigurationError

DEFAULT_DATA_PORT = 12501
FilePath = str | os.PathLike[str]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LONGEST_LIMIT = 86400.0  # seconds; the system's calls take no number that is much larger
_MOST_LOG_FILES = 1000
_MOST_SLOTS = 100_000

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class Option:
    """What the command line and the documentation need to know of a setting besides its name, type and default."""

    help: str  #: one or two sentences, without the default
    metavar: str | None = None  #: what stands for the value in the usage, None for a switch
    #: Makes the value of its text; raises ConfigurationError if it cannot.
    parse: Callable[[str], object] = str
    default_text: str | None = None  #: names the default where the value itself says little
    #: On the command line, if not made of the name. A switch that is on by default has one that turns it off.
    flags: tuple[str, ...] = ()
    once: bool = False  #: two are refused, because both may be meant; of others, the last one counts


def parse_size(text: str) -> int:
    """Return the bytes that a size such as ``4096``, ``64m`` or ``2g`` means.

    Raises `ConfigurationError` if it is not a whole number, or what follows the number is not one of k, m, g and t, the
    powers of 1024.

    Examples
    --------
    >>> parse_size("4096"), parse_size("64m"), parse_size("2G") == 2 * 2**30
    (4096, 67108864, True)
    """
    found = re.fullmatch(r"([0-9]+)([kmgt]?)", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is not a size: give a number of bytes, or one with k, m, g or t (powers of 1024), such as 64m"
        )
    return int(found[1]) * _UNITS[found[2].lower()]


def parse_list(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas; empty ones are left out.

    Raises `ConfigurationError` if there is no other: a list that was forgotten must not let everybody in.

    Examples
    --------
    >>> parse_list("alice, bob")
    ('alice', 'bob')
    """
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise ConfigurationError(f"{text!r} names no user; leave the option out to allow all")
    return parts


class Startups(NamedTuple):
    """How many logins there may be at once; see `pserver.daemon.login_queue`."""

    start: int  #: from so many on, newcomers are turned away by chance
    rate: int  #: in percent, at `start`; it grows with the number of logins
    full: int  #: from so many on, newcomers are always turned away


def parse_startups(text: str) -> Startups:
    """Return what START:RATE:FULL means, or N alone, as in sshd_config(5).

    Raises `ConfigurationError` if nobody could log in, or it is something else.

    Examples
    --------
    >>> parse_startups("10:30:100"), parse_startups("8")
    (Startups(start=10, rate=30, full=100), Startups(start=8, rate=100, full=8))
    """
    found = re.fullmatch(r"(\d+)(?::(\d+):(\d+))?", text, re.ASCII)
    if found is None:
        raise ConfigurationError(f"{text!r} is neither a number nor START:RATE:FULL, such as 64:30:512")
    start = int(found[1])
    startups = Startups(start, int(found[2] or 100), int(found[3] or start))
    if startups.start < 1:
        raise ConfigurationError("no one could log in; START is 1 or more")
    if startups.rate > 100 or startups.full < startups.start:
        raise ConfigurationError("RATE is at most 100, and FULL not less than START")
    return startups


def _setting(default: object, text: str, metavar: str | None = None, **more: Any) -> Any:
    return field(default=default, metadata={"option": Option(text, metavar, **more)})


@dataclass(frozen=True, kw_only=True)
class ListenOptions:
    """Those settings of a server that say which one it is, and where it listens."""

    name: str = _setting(
        "default", "Name of the server; one machine may run several, on different ports.", "NAME"
    )
    cmd_port: int = _setting(DEFAULT_CMD_PORT, "Port for logins; 0 takes any free one.", "PORT", parse=int)
    data_port: int = _setting(
        DEFAULT_DATA_PORT, "Port for data between nodes; 0 takes any free one.", "PORT", parse=int
    )
    bind: str | None = _setting(
        None, "Address to listen at.", "ADDRESS", default_text="all with TLS, loopback without", once=True
    )
    auth_file: FilePath | None = _setting(
        None,
        "The users who may log in, with their verifiers.",
        "FILE",
        default_text="the file that generate-srp-data writes",
    )
    use_tls: bool = _setting(
        True,
        "Without TLS there is no encryption and no login: anyone who reaches the ports can run any program.",
        flags=("--no-tls",),
    )

    def __post_init__(self) -> None:
        check_server_name(self.name)
        for option, port in (("--cmd-port", self.cmd_port), ("--data-port", self.data_port)):
            if not 0 <= port <= 65535:
                raise ConfigurationError(f"{option} {port}: a port is a number from 0 to 65535")
        if self.cmd_port == self.data_port != 0:
            raise ConfigurationError(f"--cmd-port and --data-port are both {self.cmd_port}: they must differ")


@dataclass(frozen=True, kw_only=True)
class LoginOptions(ListenOptions):
    """Those settings of a server that say who may log in, and how many at once."""

    max_startups: int | str = _setting(
        "64:30:512",
        "How many clients may be about to log in, as in sshd_config(5): from START on, the server turns RATE percent "
        "of the next ones away, at FULL all of them, in between more and more. N alone means N:100:N.",
        "START:RATE:FULL",
    )
    # SRP is arithmetic: more logins at once would only share the processors.
    login_processes: int = _setting(8, "How many logins run at once; the others wait.", "N", parse=int)
    proof_timeout: float = _setting(
        5.0,
        "How many seconds a client may take to prove its password, once its turn has come.",
        "SECONDS",
        parse=float,
    )
    login_timeout: float = _setting(
        20.0,
        "How many seconds a login may wait for its turn, and then take in all.",
        "SECONDS",
        parse=float,
    )
    max_failures: int = _setting(
        3,
        "How many logins of one user from one address may fail before the next must wait, twice as long each time, up "
        "to 5 minutes; 0 sets no limit.",
        "N",
        parse=int,
    )
    allow_users: Sequence[str] = _setting(
        (),
        "The users who may log in, of those in the users' file: names with commas between them, or several options.",
        "NAMES",
        parse=parse_list,
        default_text="all",
    )
    allow_from: Sequence[str] = _setting(
        (),
        "The addresses that may connect, and networks of them, such as 10.1.0.0/16,2001:db8::/32. Servers connect to "
        "each other, so name them, too.",
        "ADDRESSES",
        parse=parse_list,
        default_text="all",
    )
    silence_timeout: float = _setting(
        5.0, "How many seconds a new connection may stay silent before it is closed.", "SECONDS", parse=float
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.startups()
        except ConfigurationError as error:
            raise ConfigurationError(f"--max-startups {self.max_startups}: {error}") from None
        if self.login_processes < 1:
            raise ConfigurationError(f"--login-processes {self.login_processes}: give 1 or more")
        if self.max_failures < 0:
            raise ConfigurationError(f"--max-failures {self.max_failures}: give 0 or more; 0 sets no limit")
        for name in ("allow_users", "allow_from"):
            given = getattr(self, name)
            items = parse_list(given) if isinstance(given, str) else given  # not the letters of a text
            object.__setattr__(self, name, tuple(map(composed, items)))
        for option, value in (("--auth-file", self.auth_file), ("--allow-users", self.allow_users)):
            if value and not self.use_tls:
                raise ConfigurationError(
                    f"{option} and --no-tls: without TLS there is no login, so there are no users; leave out one"
                )
        self.allowed_networks()
        for option, seconds in (
            ("--login-timeout", self.login_timeout),
            ("--proof-timeout", self.proof_timeout),
            ("--silence-timeout", self.silence_timeout),
        ):
            if not 0 < seconds <= _LONGEST_LIMIT:
                raise ConfigurationError(
                    f"{option} {seconds:g}: a time limit is a positive number of seconds, at most a day"
                )

    def allowed_networks(self) -> list[Network]:
        """Return what `allow_from` means.

        Raises `ConfigurationError` if one of them is neither an address nor a network.
        """
        networks = []
        for text in self.allow_from:
            try:
                networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                hint = "give an address or a network, such as 10.1.0.0/16"
                raise ConfigurationError(f"--allow-from {text}: {error}; {hint}") from None
        return networks

    def startups(self) -> Startups:
        """Return what `max_startups` means."""
        return parse_startups(str(self.max_startups))


@dataclass(frozen=True, kw_only=True)
class ServerConfig(LoginOptions):
    """The settings of one server; ``pserver start --help`` describes them.

    Raises
    ------
    ConfigurationError
        A setting cannot be used; the text says which and why.
    """

    log_file: FilePath | None = _setting(
        None,
        "Where to write the log.",
        "FILE",
        default_text="NAME-HOST.log in the user's folder for logs; in the foreground, standard error",
    )
    log_size: int = _setting(
        10 * 2**20,
        "Size at which the server renames the log to FILE.1 and begins a new one; 0 leaves that to another program.",
        "BYTES[kmgt]",
        parse=parse_size,
        default_text="10m",
    )
    log_files: int = _setting(
        5, "How many files of the log to keep, with the one that is being written.", "N", parse=int
    )
    allow_root: bool = _setting(
        False, "Start even as root. Then anyone who logs in can do everything on this machine."
    )
    slots: int | None = _setting(
        None,
        "How many processes for jobs may run at once. A negative number leaves that many processors free; "
        "0 offers none.",
        "N",
        parse=int,
        default_text="one for each processor",
        flags=("--slots", "--cpus"),
    )
    max_file_size: int = _setting(
        0,
        "Limit for each file that a client puts here or gets from here, such as 64m; 0 sets no limit.",
        "BYTES[kmgt]",
        parse=parse_size,
    )
    spool_dir: FilePath | None = _setting(
        None,
        "Where to keep the jobs and results of detached networks.",
        "FOLDER",
        default_text="in the user's folder for state",
    )
    keep_results: float = _setting(
        7.0,
        "How many days to keep the results of a detached network until you recover them.",
        "DAYS",
        parse=float,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for option in ("bind", "auth_file", "log_file", "spool_dir"):  # from a variable that is not set, say
            if getattr(self, option) == "":
                raise ConfigurationError(f"--{option.replace('_', '-')}: it is empty; leave it out")
        if not 0 < self.keep_results < float("inf"):
            raise ConfigurationError(f"--keep-results {self.keep_results:g}: give a positive number of days")
        self.slot_count()
        for option, size in (("--max-file-size", self.max_file_size), ("--log-size", self.log_size)):
            if size < 0:
                raise ConfigurationError(f"{option} {size}: a size is not negative; 0 sets no limit")
        if not 2 <= self.log_files <= _MOST_LOG_FILES:
            count = f"--log-files {self.log_files}"
            raise ConfigurationError(f"{count}: give 2 to {_MOST_LOG_FILES}, because one is being written")

    def kept_folder(self) -> Path:
        """Return where the jobs and results of detached networks are."""
        base = self.spool_dir or platformdirs.user_state_path("pserver", appauthor=False)
        return Path(base, self.name, "kept")

    def seed_folder(self) -> Path:
        """Return where the secret behind answers to unknown users is, if it cannot be beside the verifiers."""
        return seed_folder(self.kept_folder())

    def slot_count(self) -> int:
        """Return how many processes for jobs there may be at once."""
        processors = processor_count()
        if self.slots is None:
            return processors
        if self.slots > _MOST_SLOTS:
            raise ConfigurationError(f"--slots {self.slots}: give at most {_MOST_SLOTS}")
        if self.slots >= 0:
            return self.slots
        if processors + self.slots < 1:
            raise ConfigurationError(
                f"--slots {self.slots}: that leaves none of {processors} processors; give 0 to offer none"
            )
        return processors + self.slots


def seed_folder(kept: Path) -> Path:
    """Return the same, for a session; `kept`: see `ServerConfig.kept_folder`."""
    return kept.with_name("login")


def processor_count() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def check_server_name(name: str) -> None:
    """Refuse a name that no server can have.

    Raises `ConfigurationError`, whose text says why it cannot be used.
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
    proof_timeout: float
    log_file: Path | None
    peer: str
    user: str  # that the client names; empty without encryption
    kept: Path  # see `ServerConfig.kept_folder`
    sessions_path: Path  # of the socket at which the daemon takes sessions back that have lost one
    local_path: Path | None = None  # of the socket for local links; None: there is none
    max_file_size: int = 0
    allow_users: list[str] = field(default_factory=list)  # empty: all

    def as_json(self) -> dict[str, Any]:
        """Return what JSON can express, for `from_json`."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> Self:
        """Return the settings of which `as_json` gave this."""
        paths = {each.name for each in fields(cls) if each.type is Path or Path in get_args(each.type)}
        values: dict[str, Any] = {
            name: Path(value) if name in paths and value is not None else value
            for name, value in settings.items()
        }
        return cls(**values)
