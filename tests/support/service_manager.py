"""A stand-in for systemd: the service manager's end of sd_notify(3), and the start of a unit's command."""

import os
import re
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.support.waiting import DEADLINE

_MAX_BYTES = 4096
_CREDENTIALS = struct.Struct("3i")


class Manager:
    """Receives a service's messages; `address`: a path, or ``@`` and a name in the abstract namespace."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[dict[str, str]] = []  #: each message
        self.senders: set[int] = set()  #: their senders' process numbers, from the system
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind("\0" + address[1:] if address.startswith("@") else address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def environment(self, watchdog_seconds: float = 0.0) -> dict[str, str]:
        """Return the variables of a service, without ``WATCHDOG_PID``, which is known only after the fork."""
        variables = {"NOTIFY_SOCKET": self.address}
        return variables | ({"WATCHDOG_USEC": str(round(watchdog_seconds * 1e6))} if watchdog_seconds else {})

    def hear(self, timeout: float = 0.0) -> dict[str, str] | None:
        """Return the next message, if one arrives in time."""
        if not select.select([self._sock], [], [], timeout)[0]:
            return None
        data, ancillary, _, _ = self._sock.recvmsg(_MAX_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
        self.senders |= {
            _CREDENTIALS.unpack(each)[0] for _, kind, each in ancillary if kind == socket.SCM_CREDENTIALS
        }
        message = dict(line.split("=", 1) for line in data.decode().split("\n"))
        self.heard.append(message)
        return message

    def await_word(self, name: str) -> dict[str, str]:
        """Return the next message that contains this name."""
        deadline = time.monotonic() + DEADLINE
        while (left := deadline - time.monotonic()) > 0:
            message = self.hear(left)
            if message is not None and name in message:
                return message
        raise AssertionError(f"timed out after {DEADLINE:g} s waiting for {name}: got {self.heard}")


@contextmanager
def manager(folder: Path) -> Iterator[Manager]:
    """Yield a manager that listens on a path short enough for a socket."""
    here = Path.cwd()
    os.chdir(folder)  # a temporary folder may have a long path
    try:
        made = Manager("notify")
    finally:
        os.chdir(here)
    made.address = str(folder / "notify")
    with made:
        yield made


class Unit:
    """A unit as systemd reads it; see systemd.syntax(7)."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.split("\n") if "=" in line and not line.startswith("#")]
        self._settings = [line.split("=", 1) for line in lines]

    def one(self, name: str) -> str:
        """Return the only value of a setting."""
        (value,) = [value for key, value in self._settings if key == name]
        return value

    def words(self, name: str) -> list[str]:
        """Return all words of the values of a setting."""
        values = [value for key, value in self._settings if key == name]
        return [word.replace("%%", "%") for value in values for word in _words(value)]

    @property
    def command(self) -> list[str]:
        """Return the command that the unit starts."""
        return [word.replace("%%", "%").replace("$$", "$") for word in _words(self.one("ExecStart"))]


def _words(value: str) -> list[str]:
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', value)
    return [bare or re.sub(r"\\(?:x(..)|(.))", _unescaped, quoted) for quoted, bare in found]


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else escape[2]
