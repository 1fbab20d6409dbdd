"""Who may log in to a server, and the limits for logins."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pserver.config.listen_options import ListenOptions
from pserver.config.option import parse_list, setting
from srp_tools.credentials import login_name
from srp_tools.errors import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LONGEST_LIMIT = 86400.0  # seconds; system calls do not take numbers that are much larger


class Startups(NamedTuple):
    """Limits for logins in progress at the same time; see `pserver.daemon.door.login_queue`."""

    start: int  #: from this number on, the server refuses new logins at random
    rate: int  #: the percentage that it refuses at `start`; it grows with the number of logins
    full: int  #: from this number on, the server refuses all new logins


def parse_startups(text: str) -> Startups:
    """Parse START:RATE:FULL, or N alone, with the meaning of MaxStartups in sshd_config(5).

    Raises `ConfigurationError` if the text has another form, or if no login could succeed.

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
        raise ConfigurationError("nobody could log in; START must be 1 or more")
    if startups.rate > 100 or startups.full < startups.start:
        raise ConfigurationError("RATE must be at most 100, and FULL at least START")
    return startups


@dataclass(frozen=True, kw_only=True)
class LoginOptions(ListenOptions):
    """The settings that say who may log in, and that limit logins."""

    max_startups: int | str = setting(
        "64:30:512",
        "Limits for unfinished logins, as MaxStartups in sshd_config(5): from START logins on, the server refuses RATE "
        "percent of the new ones, rising to all of them at FULL. N alone means N:100:N.",
        "START:RATE:FULL",
        reloads=True,
    )
    # SRP is pure computation: more logins at the same time would only share the processors.
    login_processes: int = setting(
        8,
        "The number of logins in progress at the same time; further logins wait.",
        "N",
        parse=int,
        reloads=True,
    )
    proof_timeout: float = setting(
        5.0,
        "Time limit for a client to prove its password once its login has started, in seconds.",
        "SECONDS",
        parse=float,
        reloads=True,
    )
    login_timeout: float = setting(
        20.0,
        "Time limit for a login to start, and then for the whole login, in seconds.",
        "SECONDS",
        parse=float,
        reloads=True,
    )
    max_failures: int = setting(
        3,
        "The number of failed logins of one user from one address before the next login must wait, twice as long each "
        "time, up to 5 minutes. 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    allow_users: Sequence[str] = setting(
        (),
        "The users in the users' file who may log in: names separated by commas or in several options.",
        "NAMES",
        parse=parse_list,
        default_text="all",
        reloads=True,
    )
    allow_from: Sequence[str] = setting(
        (),
        "The addresses and networks that may connect, such as 10.1.0.0/16,2001:db8::/32. Include the other servers, "
        "because servers connect to each other.",
        "ADDRESSES",
        parse=parse_list,
        default_text="all",
        reloads=True,
    )
    admins: Sequence[str] = setting(
        (),
        "The users who may administer the server from other machines, with pserver ctl --host: names separated by "
        "commas or in several options. They can stop the server and end all sessions.",
        "NAMES",
        parse=parse_list,
        default_text="none",
        reloads=True,
    )
    silence_timeout: float = setting(
        5.0,
        "The time after which the server closes a new connection that sends nothing, in seconds.",
        "SECONDS",
        parse=float,
        reloads=True,
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
        for name in ("allow_users", "allow_from", "admins"):
            given = getattr(self, name)
            items = parse_list(given) if isinstance(given, str) else given  # not the characters of a string
            object.__setattr__(self, name, tuple(items))
        for flag, name in (("--allow-users", "allow_users"), ("--admins", "admins")):
            try:
                object.__setattr__(self, name, tuple(map(login_name, getattr(self, name))))
            except ConfigurationError as error:
                raise ConfigurationError(f"{flag}: {error}") from None
        for option, value in (
            ("--auth-file", self.auth_file),
            ("--allow-users", self.allow_users),
            ("--admins", self.admins),
        ):
            if value and not self.use_tls:
                raise ConfigurationError(
                    f"{option} and --no-tls exclude each other: without TLS there is no login, so the server knows no "
                    "users; leave out one"
                )
        self.allowed_networks()
        for option, seconds in (
            ("--login-timeout", self.login_timeout),
            ("--proof-timeout", self.proof_timeout),
            ("--silence-timeout", self.silence_timeout),
        ):
            if not 0 < seconds <= _LONGEST_LIMIT:
                raise ConfigurationError(
                    f"{option} {seconds:g}: give a positive number of seconds, at most 86400 (one day)"
                )

    def allowed_networks(self) -> list[Network]:
        """Parse `allow_from`.

        Raises `ConfigurationError` if an entry is neither an address nor a network.
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
        """Parse `max_startups`."""
        return parse_startups(str(self.max_startups))
