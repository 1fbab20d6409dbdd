"""Messages from the daemon to the service manager that started it: a small implementation of sd_notify(3).

The manager names a datagram socket in ``NOTIFY_SOCKET``. If it wants keep-alive messages, ``WATCHDOG_USEC`` gives the
longest interval between them, and ``WATCHDOG_PID`` the process that must send them. Only the daemon's loop sends them:
if the loop hangs, they stop, and the manager restarts the server. Sessions run in other processes and cause no delay.

The variables are for the daemon only. A session with these variables could report in the daemon's name that all is
well; the daemon therefore removes them from the environment before it starts any other process.

Nothing here raises an error: the server keeps running if the manager is gone.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Self

log = logging.getLogger("pserver")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_MAX_STATUS = 500  # characters; `systemctl status` shows a single line


class ServiceManager:
    """The service manager, if one is listening.

    `address`: address of its socket: a path, or a name after ``@`` in the abstract namespace (unix(7)); empty for no
    manager. `watchdog_seconds`: the longest interval between keep-alive messages; 0 for none.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        # Other addresses, such as vsock, belong to the managers of virtual machines, not to those of services.
        is_known = address.startswith(("/", "@")) and len(address) > 1
        self._address = address if is_known else ""
        self._pause = (
            watchdog_seconds / 2 if self._address else 0.0
        )  # as recommended in sd_watchdog_enabled(3)
        self._feed_at = 0.0
        self._status = ""
        self._is_unheard = False

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """Return the manager that an environment names, and remove its variables from the environment."""
        address, usec, pid = (environment.pop(name, "") for name in VARIABLES)
        is_ours = pid in {"", str(os.getpid())}
        seconds = int(usec) / 1e6 if usec.isdecimal() and usec.isascii() and is_ours else 0.0
        return cls(address, seconds)

    @property
    def listens(self) -> bool:
        """Whether there is a manager."""
        return bool(self._address)

    def ready(self) -> None:
        """Report that the server is ready, for the first time or after `reloading`."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Report that the server is applying new settings; call `ready` afterwards."""
        # The time lets the manager see that this message answers its latest request, not an earlier one (sd_notify(3)).
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, why: str) -> None:
        """Report that the server is stopping."""
        self._tell(f"STOPPING=1\nSTATUS={_line(why)}")

    def say(self, text: str) -> None:
        """Describe the current activity of the server; a repeated text is sent only once."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={_line(text)}")

    def step(self) -> None:
        """Send a keep-alive message if it is due."""
        now = time.monotonic()
        if self._pause and now >= self._feed_at:
            self._feed_at = now + self._pause
            self._tell("WATCHDOG=1")

    def time_left(self) -> float | None:
        """Return the number of seconds until `step` has work to do; ``None`` for never."""
        return max(0.0, self._feed_at - time.monotonic()) if self._pause else None

    def _tell(self, words: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
                sock.setblocking(False)
                sock.sendto(words.encode(errors="backslashreplace"), address)
        except (OSError, ValueError) as error:  # the manager is gone or busy, or the address is invalid
            if not self._is_unheard:
                log.warning("cannot reach the service manager at %s: %s", self._address, error)
            self._is_unheard = True
        else:
            self._is_unheard = False


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_STATUS]


def in_words(status: Mapping[str, object]) -> str:
    """Describe the status of a server in one line; see `pserver.daemon.daemon`.

    Examples
    --------
    >>> in_words({"sessions": [{}], "slots": {"used": 2, "total": 4}})
    '1 session, 2 of 4 slots in use'
    """
    words = []
    match status.get("sessions"):
        case list() as sessions:
            words.append("1 session" if len(sessions) == 1 else f"{len(sessions)} sessions")
    match status.get("slots"):
        case {"used": used, "total": total}:
            words.append(f"{used} of {total} slots in use")
    return ", ".join(words)
