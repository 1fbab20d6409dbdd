"""The parser of `prun-ssh` for the command line of OpenSSH's ssh.

Programs that use a remote shell, such as rsync, git and MPI launchers, know how to call ssh. So `prun-ssh` follows the
rules of ssh: letters may be combined, options may precede or follow the host, the first of two values wins, and the
words of the command are joined by spaces for the login shell there. `ssh_options` defines the treatment of each option.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import unquote

from pconnect.errors import ConfigurationError
from pconnect.prun.ssh_options import HARMLESS, KEYS, OPTIONS, Fate
from pconnect.prun.ssh_request import Shows, SshRequest, Terminal, fits

USAGE = "usage: prun-ssh [options of ssh] [user@]HOST [command [argument ...]]"
# The places of the sftp-server in the distributions. Only /bin/sh has to understand the loop below.
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
)  # fmt: skip
_SFTP = (
    f"exec /bin/sh -c 'for server in {' '.join(_SFTP_SERVERS)}; do test -x $server && exec $server; done;"
    ' echo "prun-ssh: the sftp-server of OpenSSH is not installed here" >&2; exit 127\''
)
_BOOLEANS = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_SESSIONS = {kind: kind for kind in ("none", "subsystem", "default")}
_Option = tuple[str, str]  # a letter and its argument
Value = TypeVar("Value")


_TERMINALS = {kind.value: kind for kind in Terminal} | {"true": Terminal.IF_OURS, "false": Terminal.NO}


def parse(words: Sequence[str]) -> SshRequest:
    """Parse a command line, which is given without the name of the program.

    Raises
    ------
    ConfigurationError
        ssh would refuse it, too, or it asks for something that `prun-ssh` cannot do. The text is one line.
    """
    options, rest, is_closed = _split(words)
    if any(letter == "V" for letter, _ in options):
        return SshRequest(shows=Shows.VERSION)
    if not rest:
        raise ConfigurationError(f"name a host; {USAGE}")
    reader = _Reader()
    reader.take(options)
    reader.take_destination(rest[0])
    rest = rest[1:]
    if not is_closed:
        options, rest, _ = _split(rest)
        reader.take(options)
    return reader.request(rest)


def _split(words: Sequence[str]) -> tuple[list[_Option], Sequence[str], bool]:
    """Return the options at the beginning, the remaining words, and whether ``--`` separates them."""
    options: list[_Option] = []
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            return options, words[place + 1 :], True
        if not word.startswith("-") or word == "-":
            break
        place += 1
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            argument = ""
            if letter not in OPTIONS:
                raise ConfigurationError(f"ssh has no option -{letter}; {USAGE}")
            if OPTIONS[letter].argument:
                argument, letters = letters, ""
                if not argument:
                    if place == len(words):
                        raise ConfigurationError(f"-{letter} needs an argument: {OPTIONS[letter].argument}")
                    argument = words[place]
                    place += 1
            options.append((letter, argument))
    return options, words[place:], False


class _Reader:
    """The state of the parser. For each key in `_values`, the first value wins."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._host = ""
        self._terminal: Terminal | None = None
        self._flags: set[str] = set()
        self._sent: list[str] = []
        self._unknown: list[str] = []

    def take(self, options: Sequence[_Option]) -> None:
        """Process options in order; raise `ConfigurationError` if one is refused."""
        for letter, argument in options:
            row = OPTIONS[letter]
            if row.fate is Fate.REFUSED:
                raise ConfigurationError(f"-{letter} {row.argument}".rstrip() + f": {row.why}")
            if row.fate is Fate.HONOURED:
                self._option(letter, argument)

    def _option(self, letter: str, argument: str) -> None:
        match letter:
            case "l":
                self._values.setdefault("user", argument)
            case "p":
                self._values.setdefault("port", argument)
            case "o":
                self._key(argument)
            case "t":
                is_again = self._terminal is Terminal.IF_OURS
                self._terminal = Terminal.ALWAYS if is_again else Terminal.IF_OURS
            case "T":
                self._terminal = Terminal.NO
            case _:
                self._flags.add(letter)

    def _key(self, text: str) -> None:
        """Process ``key=value`` or ``key value``."""
        parts = re.fullmatch(r"\s*([^\s=]*)(?:\s*=\s*|\s+|$)(.*)", text, re.DOTALL)
        name, value = (parts[1], parts[2].strip()) if parts else (text, "")
        row = KEYS.get(name.lower())
        if row is None:
            if any(fits(name.lower(), pattern) for pattern in self._unknown):
                return
            raise ConfigurationError(f"-o {name}: ssh has no such key")
        if row.fate is Fate.REFUSED and value.lower() not in HARMLESS:
            raise ConfigurationError(f"-o {name}: {row.why}")
        if row.fate is not Fate.HONOURED:
            return
        if not value:
            raise ConfigurationError(f"-o {name}: the value is missing")
        self._honour(name.lower(), value)

    def _honour(self, name: str, value: str) -> None:
        if name == "remotecommand":
            self._values.setdefault(name, value)
            return
        try:
            words = shlex.split(value)
        except ValueError:
            raise ConfigurationError(f"-o {name}: a quotation mark is missing in {value}") from None
        match name:
            case "requesttty":
                kind = _one_of(name, words[0], _TERMINALS)
                self._terminal = self._terminal or kind
            case "stdinnull":
                self._values.setdefault(name, _one_of(name, words[0], _BOOLEANS))
            case "sessiontype":
                self._values.setdefault(name, _one_of(name, words[0], _SESSIONS))
            case "sendenv":
                self._send(words)
            case "ignoreunknown":
                self._unknown += value.lower().replace(",", " ").split()
            case "setenv":
                self._values.setdefault(name, value)
            case _:
                self._values.setdefault(name, words[0])

    def _send(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            if pattern.startswith("-"):
                self._sent = [one for one in self._sent if not fits(one, pattern[1:])]
            else:
                self._sent.append(pattern)

    def take_destination(self, text: str) -> None:
        """Process ``[user@]host`` or ``ssh://[user@]host[:port]``."""
        is_address = text.lower().startswith("ssh://")
        rest = text[len("ssh://") :] if is_address else text
        user, at, host = rest.rpartition("@")
        if is_address:
            host, port = _split_address(text, host.removesuffix("/"))
            user = unquote(user.partition(";")[0])
            if port:
                self._values.setdefault("port", port)
        self._host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not self._host or (at and not user):
            raise ConfigurationError(f"{text}: name a host; {USAGE}")
        if at:
            self._values.setdefault("user", user)

    def request(self, words: Sequence[str]) -> SshRequest:
        """Return the complete request. `words`: the words of the command."""
        values = self._values
        port = values.get("port")
        if port is not None and not (port.isdecimal() and 0 < int(port) < 2**16):
            raise ConfigurationError(f"{port!r} is not a port; give a number from 1 to 65535")
        session = values.get("sessiontype", "default")
        if session == "none":
            raise ConfigurationError(f"-o SessionType=none: {OPTIONS['N'].why}")
        host = values.get("hostname", self._host)
        return SshRequest(
            host=_expand("HostName", host, {"h": self._host}) if "hostname" in values else host,
            user=values.get("user"),
            port=None if port is None else int(port),
            command=self._command(words, is_subsystem="s" in self._flags or session == "subsystem"),
            terminal=self._terminal or Terminal.IF_NO_COMMAND,
            stdin="n" not in self._flags and values.get("stdinnull", "no") == "no",
            sent=tuple(self._sent),
            variables=_variables(values.get("setenv", "")),
            shows=Shows.CONFIGURATION if "G" in self._flags else Shows.NOTHING,
        )

    def _command(self, words: Sequence[str], *, is_subsystem: bool) -> bytes:
        text = " ".join(words)
        other = self._values.get("remotecommand", "none")
        if other.lower() != "none" and "G" not in self._flags:
            if text:
                raise ConfigurationError(
                    "-o RemoteCommand: the command line has a command, too; give only one"
                )
            values = {"h": self._host, "n": self._host, "p": self._values.get("port", "22")}
            text = _expand("RemoteCommand", other, values | {"r": self._values.get("user", "")})
        if is_subsystem:
            if text != "sftp":
                raise ConfigurationError(
                    f"-s: the subsystem {text or '(none)'} is unknown; only sftp is supported"
                )
            text = _SFTP
        return text.encode(errors="surrogateescape")


def _one_of(name: str, text: str, values: Mapping[str, Value]) -> Value:
    if text.lower() not in values:
        raise ConfigurationError(f"-o {name}: {text!r} is not one of {', '.join(values)}")
    return values[text.lower()]


def _variables(text: str) -> dict[bytes, bytes]:
    """Return the variables in ``NAME=VALUE NAME=VALUE``. Each of them may be quoted."""
    found: dict[bytes, bytes] = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise ConfigurationError(f"-o SetEnv: {word!r} is not NAME=VALUE")
        found.setdefault(name.encode(errors="surrogateescape"), value.encode(errors="surrogateescape"))
    return found


def _split_address(text: str, place: str) -> tuple[str, str]:
    """Split the last part of an address into host and port."""
    parts = re.fullmatch(r"(\[[^\]/]+\]|[^:/\[\]]+)(?::([0-9]+))?", place)
    if parts is None:
        raise ConfigurationError(f"{text}: write ssh://[user@]host[:port]")
    return parts[1], parts[2] or ""


def _expand(name: str, text: str, values: Mapping[str, str]) -> str:
    """Expand the percent tokens of a text. ``%%`` stands for a percent sign."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in values and found[1] != "%":
            known = ", ".join(f"%{letter}" for letter in values)
            raise ConfigurationError(f"-o {name}: prun-ssh supports {known} and %%, not {found[0]!r}")
        return values.get(found[1], "%")

    return re.sub("%(.?)", value, text, flags=re.DOTALL)
