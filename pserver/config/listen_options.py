"""Which server it is, and where it listens."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pconnect.link.host_names import DEFAULT_CMD_PORT
from pserver.config.advertised import check_advertised, parse_advertised
from pserver.config.option import OptionGroup, setting
from srp_tools.errors import ConfigurationError

DEFAULT_DATA_PORT = 12501
FilePath = str | os.PathLike[str]


def parse_addresses(text: str) -> tuple[str, ...]:
    """Return the addresses between the commas of a text, without their brackets.

    Raises `ConfigurationError` if there is none: a server that was to be found here only must not listen everywhere.

    Examples
    --------
    >>> parse_addresses("10.0.0.1, [::1]")
    ('10.0.0.1', '::1')
    """
    found = tuple(part.strip().strip("[]") for part in text.split(","))
    if not all(found):
        raise ConfigurationError(f"{text!r}: an address is empty; leave --bind out for the default")
    return found


@dataclass(frozen=True, kw_only=True)
class ListenOptions(OptionGroup):
    """Those settings of a server that say which one it is, and where it listens."""

    name: str = setting(
        "default", "Name of the server; one machine may run several, on different ports.", "NAME"
    )
    cmd_port: int = setting(DEFAULT_CMD_PORT, "Port for logins; 0 takes any free one.", "PORT", parse=int)
    data_port: int = setting(
        DEFAULT_DATA_PORT, "Port for data between nodes; 0 takes any free one.", "PORT", parse=int
    )
    bind: Sequence[str] = setting(
        (),
        "Addresses to listen at, IPv4 and IPv6, with commas between them, or several options; all have the same ports.",
        "ADDRESSES",
        parse=parse_addresses,
        default_text="all with TLS, loopback without",
    )
    one_port: bool = setting(
        False,
        "Take data at the command port as well, and open no data port: one open port is enough for everything.",
    )
    advertise: Sequence[str] = setting(
        (),
        "Where others reach this server, if a router gives it another address or other ports: HOST[:CMD[:DATA]], with "
        "commas between several, or several options. The ports are those of the server where they are left out.",
        "PLACES",
        parse=parse_advertised,
        default_text="the addresses of this machine",
    )
    use_tcp: bool = setting(
        True,
        "Listen at no TCP port, but at Unix sockets: for this account, on this machine.",
        flags=("--no-tcp",),
    )
    auth_file: FilePath | None = setting(
        None,
        "The users who may log in, with their verifiers.",
        "FILE",
        default_text="the file that generate-srp-data writes",
    )
    use_tls: bool = setting(
        True,
        "Without TLS there is no encryption and no login: anyone who reaches the ports can run any program.",
        flags=("--no-tls",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_server_name(self.name)
        addresses = parse_addresses(self.bind) if isinstance(self.bind, str) else self.bind
        if not all(addresses):  # of a variable that is not set, say
            raise ConfigurationError("--bind: an address is empty; leave it out")
        object.__setattr__(self, "bind", tuple(dict.fromkeys(addresses)))
        for option, port in (("--cmd-port", self.cmd_port), ("--data-port", self.data_port)):
            if not 0 <= port <= 65535:
                raise ConfigurationError(f"{option} {port}: a port is a number from 0 to 65535")
        if self.cmd_port == self.data_port != 0 and not self.one_port:
            raise ConfigurationError(
                f"--cmd-port and --data-port are both {self.cmd_port}: they must differ, or give --one-port"
            )
        places = parse_advertised(self.advertise) if isinstance(self.advertise, str) else self.advertise
        check_advertised(places)
        object.__setattr__(self, "advertise", tuple(dict.fromkeys(places)))
        if not self.use_tcp and not self.use_tls:
            raise ConfigurationError("--no-tcp needs a login: leave --no-tls out")

    def addresses(self) -> tuple[str, ...]:
        """Return the addresses to listen at; none: all of this machine's."""
        return tuple(self.bind) or (() if self.use_tls else ("127.0.0.1",))


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
