"""The request in an ssh command line: its nodes, and the environment of the remote program."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import parse_hosts

_LOOPBACK = {"localhost", "127.0.0.1", "::1", "ip6-localhost"}


class Terminal(Enum):
    """Whether the remote program gets a terminal. `IF_NO_COMMAND` is the default of ssh."""

    IF_NO_COMMAND = "auto"
    NO = "no"
    IF_OURS = "yes"
    ALWAYS = "force"


class Shows(Enum):
    """Information to print instead of running a command."""

    NOTHING = ""
    VERSION = "-V"
    CONFIGURATION = "-G"


@dataclass(frozen=True)
class SshRequest:
    """The request in an ssh command line.

    Attributes
    ----------
    host, user, port
        The destination; ``None`` if not given.
    command
        The command for the login shell there; empty for the shell itself.
    terminal
        Whether there is a terminal; see `wants_terminal`.
    stdin
        Whether the command reads our standard input.
    sent
        Names or patterns of variables to send if they exist.
    variables
        Further variables to set there.
    shows
        Information to print instead.
    """

    host: str = ""
    user: str | None = None
    port: int | None = None
    command: bytes = b""
    terminal: Terminal = Terminal.IF_NO_COMMAND
    stdin: bool = True
    sent: tuple[str, ...] = ()
    variables: Mapping[bytes, bytes] = field(default_factory=dict)
    shows: Shows = Shows.NOTHING

    def wants_terminal(self, *, stdin_is_terminal: bool) -> bool:
        """Return whether the program gets a terminal."""
        match self.terminal:
            case Terminal.ALWAYS:
                return True
            case Terminal.NO:
                return False
            case Terminal.IF_NO_COMMAND if self.command:
                return False
        return stdin_is_terminal and self.stdin

    def environment(self, here: Mapping[bytes, bytes], *, on_terminal: bool) -> dict[bytes, bytes]:
        """Return the variables to add to the environment there. `here`: the environment of our caller."""
        names = [b"TERM"] if on_terminal else []
        names += [name for name in here if any(fits(name.decode(errors="replace"), one) for one in self.sent)]
        return {name: here[name] for name in names if name in here} | dict(self.variables)

    def account(self, network_user: str) -> str:
        """Return the account that the server must run as; empty if no user or the network's user was given."""
        return "" if self.user in {None, network_user} else str(self.user)

    def nodes(self, members: Mapping[int, str]) -> set[int]:
        """Return the nodes of the host. `members`: the hosts of all nodes, as the configuration names them.

        If no server has exactly this name, a longer or shorter form of it also matches (``alpha``,
        ``alpha.example.org``). All loopback names are equivalent. Raises `ConfigurationError` if the host matches no
        server, or different ones.
        """
        hosts = {node: parse_hosts(label)[0] for node, label in members.items()}
        for is_meant in (_is_same, _are_loopback, _is_short):
            found = {node: host for node, host in hosts.items() if is_meant(self.host, host.name)}
            if found:
                self._check_meaning({host.name for host in found.values()})
                return {node for node, host in found.items() if host.port == self.port} or set(found)
        known = ", ".join(sorted(set(members.values()))) or "none"
        raise ConfigurationError(
            f"{self.host}: no server in the network has this name; the servers are: {known}"
        )

    def _check_meaning(self, names: set[str]) -> None:
        if len({_plain(name) for name in names}) > 1 and self.host.lower() not in _LOOPBACK:
            several = ", ".join(sorted(names))
            raise ConfigurationError(
                f"{self.host}: this matches several servers ({several}); give the full name"
            )

    def configuration(self) -> str:
        """Return the known part of the output of ``ssh -G``."""
        lines = [f"host {self.host}", f"hostname {self.host}", f"requesttty {self.terminal.value}"]
        lines += [f"user {self.user}"] if self.user else []
        lines += [f"port {self.port}"] if self.port else []
        return "\n".join(lines) + "\n"


def fits(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern of ssh with ``*`` and ``?``."""
    expression = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(expression, name, re.DOTALL) is not None


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _is_same(name: str, member: str) -> bool:
    return _plain(name) == _plain(member)


def _are_loopback(name: str, member: str) -> bool:
    return _plain(name) in _LOOPBACK and _plain(member) in _LOOPBACK


def _is_short(name: str, member: str) -> bool:
    """Return whether one name is the first part of the other, and neither is an address."""
    names = {_plain(name), _plain(member)}
    if any(re.fullmatch(r"[0-9.]+|.*:.*", one) for one in names):
        return False
    return any("." not in one for one in names) and len({one.partition(".")[0] for one in names}) == 1
