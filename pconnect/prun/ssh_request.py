"""What a command line of ssh asks for: which nodes are meant, and what the program there gets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import parse_hosts

_LOOPBACK = {"localhost", "127.0.0.1", "::1", "ip6-localhost"}


class Terminal(Enum):
    """Whether the program there gets a terminal. `IF_NO_COMMAND` is what ssh does when nothing is said."""

    IF_NO_COMMAND = "auto"
    NO = "no"
    IF_OURS = "yes"
    ALWAYS = "force"


class Shows(Enum):
    """What is shown instead of running a command."""

    NOTHING = ""
    VERSION = "-V"
    CONFIGURATION = "-G"


@dataclass(frozen=True)
class SshRequest:
    """What a command line of ssh asks for.

    Attributes
    ----------
    host, user, port
        Where; ``None``: not said.
    command
        For the login shell there; empty: the shell itself.
    terminal
        Whether there is a terminal; see `wants_terminal`.
    stdin
        Whether the command reads our standard input.
    sent
        Names of variables that are sent if they exist, or patterns of them.
    variables
        What is set there besides.
    shows
        What is shown instead.
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
        """Return what is added to the environment there; `here`: the environment of our caller."""
        names = [b"TERM"] if on_terminal else []
        names += [name for name in here if any(fits(name.decode(errors="replace"), one) for one in self.sent)]
        return {name: here[name] for name in names if name in here} | dict(self.variables)

    def account(self, network_user: str) -> str:
        """Return the account that the server must have; empty: the network's user was meant, or nobody."""
        return "" if self.user in {None, network_user} else str(self.user)

    def nodes(self, members: Mapping[int, str]) -> set[int]:
        """Return the nodes that are meant; `members`: the hosts of all nodes, as the configuration names them.

        A name that no server has means one that it is short for, or that is short for it; all names of this machine
        mean the same. Raises `ConfigurationError` if it means none, or several.
        """
        hosts = {node: parse_hosts(label)[0] for node, label in members.items()}
        for is_meant in (_is_same, _are_loopback, _is_short):
            found = {node: host for node, host in hosts.items() if is_meant(self.host, host.name)}
            if found:
                self._check_meaning({host.name for host in found.values()})
                return {node for node, host in found.items() if host.port == self.port} or set(found)
        known = ", ".join(sorted(set(members.values()))) or "none"
        raise ConfigurationError(f"{self.host}: no server of the network has this name; there are: {known}")

    def _check_meaning(self, names: set[str]) -> None:
        if len({_plain(name) for name in names}) > 1 and self.host.lower() not in _LOOPBACK:
            several = ", ".join(sorted(names))
            raise ConfigurationError(
                f"{self.host}: several servers can be meant, {several}; write the whole name"
            )

    def configuration(self) -> str:
        """Return what ``ssh -G`` shows, as far as it is known here."""
        lines = [f"host {self.host}", f"hostname {self.host}", f"requesttty {self.terminal.value}"]
        lines += [f"user {self.user}"] if self.user else []
        lines += [f"port {self.port}"] if self.port else []
        return "\n".join(lines) + "\n"


def fits(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern of ssh, which has ``*`` and ``?``."""
    expression = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(expression, name, re.DOTALL) is not None


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _is_same(name: str, member: str) -> bool:
    return _plain(name) == _plain(member)


def _are_loopback(name: str, member: str) -> bool:
    return _plain(name) in _LOOPBACK and _plain(member) in _LOOPBACK


def _is_short(name: str, member: str) -> bool:
    """Whether one is the first part of the other, and none is an address."""
    names = {_plain(name), _plain(member)}
    if any(re.fullmatch(r"[0-9.]+|.*:.*", one) for one in names):
        return False
    return any("." not in one for one in names) and len({one.partition(".")[0] for one in names}) == 1
