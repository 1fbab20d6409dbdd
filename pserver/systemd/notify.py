"""What the daemon tells the service manager that has started it: the protocol of sd_notify(3), in a few lines.

The manager names a datagram socket in ``NOTIFY_SOCKET``. If it also wants signs of life, ``WATCHDOG_USEC`` says how
long it waits for one, and ``WATCHDOG_PID`` of which process. The daemon's loop gives them, and nothing else does: when
the loop hangs, they stop, and the manager starts the server anew. Sessions compute in other processes, so they delay
none.

The variables are for the daemon alone. A session that had them could say in its name that all is well; so they are
taken out of the environment before anything else is started.

Nothing here raises: a manager that is gone ends no server.
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
_MAX_STATUS = 500  # characters; `systemctl status` shows one line


class ServiceManager:
    """The service manager, if there is one that listens.

    `address`: of its socket: a path, or a name behind ``@`` in the abstract namespace (unix(7)); empty: there is none.
    `watchdog_seconds`: it wants a sign of life within so many seconds; 0: it wants none.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        # What else there may be, as vsock: for virtual machines, is for their managers, and not for a service.
        is_known = address.startswith(("/", "@")) and len(address) > 1
        self._address = address if is_known else ""
        self._pause = watchdog_seconds / 2 if self._address else 0.0  # as sd_watchdog_enabled(3) recommends
        self._feed_at = 0.0
        self._status = ""
        self._is_unheard = False

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """Return the manager that an environment names, and take its variables out."""
        address, usec, pid = (environment.pop(name, "") for name in VARIABLES)
        is_ours = pid in {"", str(os.getpid())}
        seconds = int(usec) / 1e6 if usec.isdecimal() and usec.isascii() and is_ours else 0.0
        return cls(address, seconds)

    @property
    def listens(self) -> bool:
        """Whether there is one."""
        return bool(self._address)

    def ready(self) -> None:
        """Say that the server is ready, for the first time or after `reloading`."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Say that the server takes in other settings; `ready` has to follow."""
        # The instant lets the manager see that this answers its own request, and no earlier one (sd_notify(3)).
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, why: str) -> None:
        """Say that the server begins to end."""
        self._tell(f"STOPPING=1\nSTATUS={_line(why)}")

    def say(self, text: str) -> None:
        """Say in words what the server does; the same words are said once."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={_line(text)}")

    def step(self) -> None:
        """Give a sign of life, if one is wanted and it is time."""
        now = time.monotonic()
        if self._pause and now >= self._feed_at:
            self._feed_at = now + self._pause
            self._tell("WATCHDOG=1")

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None`` for never."""
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
        except (OSError, ValueError) as error:  # it is gone, busy, or no address can be like this
            if not self._is_unheard:
                log.warning("the service manager at %s does not listen: %s", self._address, error)
            self._is_unheard = True
        else:
            self._is_unheard = False


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_STATUS]


def in_words(status: Mapping[str, object]) -> str:
    """Return one line on a server with this status; see `pserver.daemon.daemon`.

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
