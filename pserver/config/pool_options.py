"""The servers to which a server announces itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pconnect.link.host_names import parse_hosts
from pserver.config.listen_options import FilePath, ListenOptions
from pserver.config.option import parse_duration, setting
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import server_file

MOST_HOSTS = 64  #: to which one server announces itself
LONGEST_INTERVAL = 3600.0  #: between two announcements


def parse_joined(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of hosts.

    Raises `ConfigurationError` if the list is empty, or if an entry is not the address of one server.

    Examples
    --------
    >>> parse_joined("alpha, beta:12600")
    ('alpha', 'beta:12600')
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ConfigurationError(f"{text!r} names no server; give HOST, or HOST:PORT with its command port")
    for host in found:
        check_joined(host)
    return found


def check_joined(host: str) -> None:
    """Raise `ConfigurationError` if a text is not the address of one server."""
    hosts = parse_hosts(host)
    if len(hosts) != 1 or "*" in host or hosts[0].is_socket:
        raise ConfigurationError(f"{host!r} is not one server; give HOST, or HOST:PORT with its command port")


@dataclass(frozen=True, kw_only=True)
class PoolOptions(ListenOptions):
    """The settings that make a server part of a pool."""

    join: Sequence[str] = setting(
        (),
        "The servers to announce this server to: names separated by commas or in several options. Clients that log in "
        "to one of them with join= find this server.",
        "HOST[:PORT]",
        parse=parse_joined,
        default_text="none",
        reloads=True,
    )
    announce_interval: float = setting(
        30.0,
        "The time between two announcements: seconds, or a number with m, h or d. A server with many members asks for "
        "fewer announcements. A member that misses four in a row counts as gone.",
        "TIME",
        parse=parse_duration,
        reloads=True,
    )
    member_file: FilePath | None = setting(
        None,
        "A file with the user name and the password for announcements, as generate-srp-data --member writes it.",
        "FILE",
        default_text="the file named member beside the users' file",
        reloads=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        hosts = parse_joined(self.join) if isinstance(self.join, str) else tuple(self.join)
        for host in hosts:
            try:
                check_joined(host)
            except ConfigurationError as error:
                raise ConfigurationError(f"--join {host}: {error}") from None
        object.__setattr__(self, "join", tuple(dict.fromkeys(hosts)))
        if len(self.join) > MOST_HOSTS:
            raise ConfigurationError(f"--join: {len(self.join)} servers; give at most {MOST_HOSTS}")
        if self.join and not self.use_tls:
            raise ConfigurationError(
                "--join and --no-tls exclude each other: without TLS there is no login, and announcements need one; "
                "leave out one"
            )
        if self.join and not self.use_tcp:
            raise ConfigurationError(
                "--join and --no-tcp exclude each other: other machines need a port to reach this server; leave out one"
            )
        if not 1 <= self.announce_interval <= LONGEST_INTERVAL:
            raise ConfigurationError(
                f"--announce-interval {self.announce_interval:g}: give 1 second to 1 hour"
            )

    def member_path(self) -> Path:
        """Return the path of the file with the user name and the password for announcements."""
        if self.member_file is not None:
            return Path(self.member_file)
        return Path(self.auth_file or server_file()).with_name("member")
