"""Which other servers a server announces itself to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pconnect.link.host_names import parse_hosts
from pserver.config.listen_options import FilePath, ListenOptions
from pserver.config.option import parse_duration, setting
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import server_file

MOST_HOSTS = 64  #: that one server announces itself to
LONGEST_INTERVAL = 3600.0  #: between two announcements


def parse_joined(text: str) -> tuple[str, ...]:
    """Return the hosts between the commas of a text.

    Raises `ConfigurationError` if one of them is not a server, or there is none.

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
    """Refuse what is not one server; raises `ConfigurationError`."""
    hosts = parse_hosts(host)
    if len(hosts) != 1 or "*" in host or hosts[0].is_socket:
        raise ConfigurationError(f"{host!r}: give HOST, or HOST:PORT with its command port, of one server")


@dataclass(frozen=True, kw_only=True)
class PoolOptions(ListenOptions):
    """Those settings of a server that make it part of a pool."""

    join: Sequence[str] = setting(
        (),
        "The servers to announce this one to: names with commas between them, or several options. Clients that log in "
        "at one of them with join= find this one. See doc/howto/pool.md.",
        "HOST[:PORT]",
        parse=parse_joined,
        default_text="none",
        reloads=True,
    )
    announce_interval: float = setting(
        30.0,
        "How often to announce this server, in seconds, or with m, h or d; a server that has many members asks for "
        "less. After four times without it, a member counts as gone.",
        "TIME",
        parse=parse_duration,
        reloads=True,
    )
    member_file: FilePath | None = setting(
        None,
        "The user and the password to announce this server with, as generate-srp-data --member writes them.",
        "FILE",
        default_text="the file member beside the users' file",
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
            raise ConfigurationError(f"--join: {len(self.join)} servers; name at most {MOST_HOSTS}")
        if self.join and not self.use_tls:
            raise ConfigurationError(
                "--join and --no-tls: without TLS there is no login, so nobody can announce a server; leave out one"
            )
        if self.join and not self.use_tcp:
            raise ConfigurationError(
                "--join and --no-tcp: without a port no other machine comes here; leave out one"
            )
        if not 1 <= self.announce_interval <= LONGEST_INTERVAL:
            raise ConfigurationError(
                f"--announce-interval {self.announce_interval:g}: give seconds, from 1 to an hour"
            )

    def member_path(self) -> Path:
        """Return where the user and the password are to announce this server with."""
        if self.member_file is not None:
            return Path(self.member_file)
        return Path(self.auth_file or server_file()).with_name("member")
