"""The name of a server, and the addresses and ports that it listens on."""

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
    """Split a comma-separated list of addresses, and remove their brackets.

    Raises `ConfigurationError` if one is empty: a server meant for one address must not listen on all of them.

    Examples
    --------
    >>> parse_addresses("10.0.0.1, [::1]")
    ('10.0.0.1', '::1')
    """
    found = tuple(part.strip().strip("[]") for part in text.split(","))
    if not all(found):
        raise ConfigurationError(f"{text!r}: an address is empty; leave out --bind for the default")
    return found


@dataclass(frozen=True, kw_only=True)
class ListenOptions(OptionGroup):
    """The settings that name a server and say where it listens."""

    name: str = setting(
        "default", "Name of the server. A machine may run several servers, on different ports.", "NAME"
    )
    cmd_port: int = setting(DEFAULT_CMD_PORT, "Port for logins; 0 picks a free port.", "PORT", parse=int)
    data_port: int = setting(
        DEFAULT_DATA_PORT, "Port for data between nodes; 0 picks a free port.", "PORT", parse=int
    )
    bind: Sequence[str] = setting(
        (),
        "IPv4 and IPv6 addresses to listen on, separated by commas or in several options; all use the same ports.",
        "ADDRESSES",
        parse=parse_addresses,
        default_text="all addresses with TLS, loopback without",
    )
    one_port: bool = setting(
        False,
        "Use the command port for data as well, and open no data port. Then one open port is enough.",
    )
    advertise: Sequence[str] = setting(
        (),
        "The addresses at which other machines reach this server, if a router gives it another address or other ports: "
        "HOST[:CMD[:DATA]], separated by commas or in several options. The default ports are the server's own.",
        "PLACES",
        parse=parse_advertised,
        default_text="the addresses of this machine",
    )
    use_tcp: bool = setting(
        True,
        "Listen on Unix sockets instead of TCP ports, for this account on this machine only.",
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
        "Run without encryption and without a login. Anyone who can reach the ports can then run any program.",
        flags=("--no-tls",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_server_name(self.name)
        addresses = parse_addresses(self.bind) if isinstance(self.bind, str) else self.bind
        if not all(addresses):  # for example, from a variable that is not set
            raise ConfigurationError("--bind: an address is empty; leave it out")
        object.__setattr__(self, "bind", tuple(dict.fromkeys(addresses)))
        for option, port in (("--cmd-port", self.cmd_port), ("--data-port", self.data_port)):
            if not 0 <= port <= 65535:
                raise ConfigurationError(f"{option} {port}: a port is a number from 0 to 65535")
        if self.cmd_port == self.data_port != 0 and not self.one_port:
            raise ConfigurationError(
                f"--cmd-port and --data-port are both {self.cmd_port}: give different ports, or --one-port"
            )
        places = parse_advertised(self.advertise) if isinstance(self.advertise, str) else self.advertise
        check_advertised(places)
        object.__setattr__(self, "advertise", tuple(dict.fromkeys(places)))
        if not self.use_tcp and not self.use_tls:
            raise ConfigurationError("--no-tcp needs a login: leave out --no-tls")

    def addresses(self) -> tuple[str, ...]:
        """Return the addresses to listen on; empty: all addresses of this machine."""
        return tuple(self.bind) or (() if self.use_tls else ("127.0.0.1",))


def check_server_name(name: str) -> None:
    """Raise `ConfigurationError`, with the reason, if a server cannot have this name."""
    if not isinstance(name, str):
        raise ConfigurationError(f"--name {name!r}: it must be a string")
    # Files are named after the server: no path separators, no hidden files, and no name that looks like an option.
    if not 0 < len(name) <= 64 or not all(c.isalnum() or c in "-_." for c in name):
        raise ConfigurationError(
            f"--name {name!r}: it becomes a file name; use up to 64 letters, digits, '-', '_' and '.'"
        )
    if name.startswith((".", "-")):
        raise ConfigurationError(f"--name {name!r}: a name must not begin with a dot or a hyphen")
