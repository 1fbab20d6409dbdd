"""Which server it is, and where it listens."""

import os
from dataclasses import dataclass

from pconnect.link.host_names import DEFAULT_CMD_PORT
from pserver.config.option import OptionGroup, setting
from srp_tools.errors import ConfigurationError

DEFAULT_DATA_PORT = 12501
FilePath = str | os.PathLike[str]


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
    bind: str | None = setting(
        None, "Address to listen at.", "ADDRESS", default_text="all with TLS, loopback without", once=True
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
        for option, port in (("--cmd-port", self.cmd_port), ("--data-port", self.data_port)):
            if not 0 <= port <= 65535:
                raise ConfigurationError(f"{option} {port}: a port is a number from 0 to 65535")
        if self.cmd_port == self.data_port != 0:
            raise ConfigurationError(f"--cmd-port and --data-port are both {self.cmd_port}: they must differ")


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
