"""Who may log in to a server, and how many at once."""

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

_LONGEST_LIMIT = 86400.0  # seconds; the system's calls take no number that is much larger


class Startups(NamedTuple):
    """How many logins there may be at once; see `pserver.daemon.door.login_queue`."""

    start: int  #: from so many on, newcomers are turned away by chance
    rate: int  #: in percent, at `start`; it grows with the number of logins
    full: int  #: from so many on, newcomers are always turned away


def parse_startups(text: str) -> Startups:
    """Return what START:RATE:FULL means, or N alone, as in sshd_config(5).

    Raises `ConfigurationError` if no login could succeed, or it is something else.

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


@dataclass(frozen=True, kw_only=True)
class LoginOptions(ListenOptions):
    """Those settings of a server that say who may log in, and how many at once."""

    max_startups: int | str = setting(
        "64:30:512",
        "How many clients may be about to log in, as in sshd_config(5): from START on, the server turns RATE percent "
        "of the next ones away, at FULL all of them, in between more and more. N alone means N:100:N.",
        "START:RATE:FULL",
        reloads=True,
    )
    # SRP is arithmetic: more logins at once would only share the processors.
    login_processes: int = setting(
        8,
        "How many logins run at once; the others wait.",
        "N",
        parse=int,
        reloads=True,
    )
    proof_timeout: float = setting(
        5.0,
        "How many seconds a client may take to prove its password, once its turn has come.",
        "SECONDS",
        parse=float,
        reloads=True,
    )
    login_timeout: float = setting(
        20.0,
        "How many seconds a login may wait for its turn, and then take in all.",
        "SECONDS",
        parse=float,
        reloads=True,
    )
    max_failures: int = setting(
        3,
        "How many logins of one user from one address may fail before the next must wait, twice as long each time, up "
        "to 5 minutes; 0 sets no limit.",
        "N",
        parse=int,
        reloads=True,
    )
    allow_users: Sequence[str] = setting(
        (),
        "The users who may log in, of those in the users' file: names with commas between them, or several options.",
        "NAMES",
        parse=parse_list,
        default_text="all",
        reloads=True,
    )
    allow_from: Sequence[str] = setting(
        (),
        "The addresses that may connect, and networks of them, such as 10.1.0.0/16,2001:db8::/32. Servers connect to "
        "each other, so name them, too.",
        "ADDRESSES",
        parse=parse_list,
        default_text="all",
        reloads=True,
    )
    admins: Sequence[str] = setting(
        (),
        "The users who may administer the server from elsewhere, with pserver ctl --host: names with commas between "
        "them, or several options. They may end it and all sessions.",
        "NAMES",
        parse=parse_list,
        default_text="none",
        reloads=True,
    )
    silence_timeout: float = setting(
        5.0,
        "How many seconds a new connection may stay silent before it is closed.",
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
            items = parse_list(given) if isinstance(given, str) else given  # not the letters of a text
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
