"""Idle processes in the place of sessions."""

import contextlib
import os
import socket
import subprocess
from collections.abc import Callable, Sequence

from pserver.starter.session_starts import Started
from tests.support.waiting import DEADLINE


class Sleeper:
    """A process that lives until it is killed, with a daemon's view of a session.

    `command`: the command to run. `control` is the session's end of the socket to the daemon.
    """

    def __init__(self, stack: contextlib.ExitStack, command: Sequence[str] = ("/bin/sleep", "1000")) -> None:
        self.process = subprocess.Popen(command)
        stack.callback(self._end)
        control, self.control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(DEADLINE)
        stack.enter_context(self.control)
        self._asked: list[Callable[[int | None], object]] = []
        self.started = Started(self.process.pid, os.pidfd_open(self.process.pid), control, self._asked.append)

    def tell_end(self, code: int | None) -> None:
        """Report how it ended, as the starter does."""
        for tell in self._asked:
            tell(code)

    def _end(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
