"""Sessions that run on their own, because their server was killed or their client has detached them.

Sessions of a killed server wait for the next server of the same name, or until `end_left_sessions` ends them. The
server recorded their process ids and start times. Only a process that matches both counts, so no unrelated process is
ever mistaken for a session.
"""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from typing import NamedTuple

from pserver.system.pidfile import find_server, killed_servers
from pserver.system.processes import await_ends, start_ticks

_KILL_SECONDS = 5.0  # for killed sessions
_ENDING_SECONDS = 1.0  # for sessions that have nothing left to do


class LeftSession(NamedTuple):
    """A session without a server, or without a client."""

    pid: int
    start_ticks: int  #: start time of the process
    user: str | None  #: ``None`` if no user has logged in yet
    network: str | None
    is_detached: bool = False  #: whether it runs jobs whose results its client will collect later

    def __str__(self) -> str:
        """Describe the session, for people."""
        who = "that is logging in" if self.user is None else f"of user {self.user!r}, network {self.network}"
        return f"session {self.pid} {who}"


def left_sessions(name: str | None = None) -> dict[str, list[LeftSession]]:
    """Return the sessions that have outlived their server, by server name; with `name`, only those of that server.

    Raises `ConfigurationError` if other accounts can access the run-time folder.
    """
    found = {server: _living(status) for server, status in killed_servers().items()}
    return {server: sessions for server, sessions in found.items() if sessions and name in {None, server}}


def detached_sessions(name: str) -> list[LeftSession]:
    """Return the sessions that would lose jobs if the server of this name stopped; the server may be running or killed.

    A session whose last result was just recovered is about to end; this function waits briefly for it.

    Raises `ConfigurationError` under the conditions of `find_server`.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        server = find_server(name)
        sessions = left_sessions(name).get(name, []) if server is None else _living(server.status)
        detached = [session for session in sessions if session.is_detached]
        if not detached or time.monotonic() > deadline:
            return detached
        time.sleep(0.05)


def _living(status: Mapping[str, object]) -> list[LeftSession]:
    told = status.get("sessions")
    sessions = [_read(facts) for facts in told] if isinstance(told, list) else []
    return [session for session in sessions if session is not None]


def end_left_sessions(name: str, timeout: float) -> list[LeftSession]:
    """End the sessions that have outlived their server, in the same way as the server would; return them.

    `timeout`: seconds after which the remaining sessions are killed.
    """
    sessions = left_sessions(name).get(name, [])
    with contextlib.ExitStack() as stack:
        living: set[int] = set()
        for session in sessions:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(session.pid)
                stack.callback(os.close, pidfd)
                # If it has the process id now, it also had it when the descriptor was opened.
                if start_ticks(session.pid) == session.start_ticks:
                    living.add(pidfd)
        for number, seconds in ((signal.SIGTERM, timeout), (signal.SIGKILL, _KILL_SECONDS)):
            for pidfd in living:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
            living = await_ends(living, seconds)
    return sessions


def _read(facts: object) -> LeftSession | None:
    """Return the session that a server recorded, if it is still running."""
    match facts:
        case {"pid": int(pid), "start_ticks": int(ticks), "user": user, "network": network, **more} if (
            pid > 0 and start_ticks(pid) == ticks
        ):
            is_detached = more.get("detached") is True
            return LeftSession(pid, ticks, user and str(user), network and str(network), is_detached)
    return None
