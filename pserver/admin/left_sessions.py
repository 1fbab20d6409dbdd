"""Sessions that go on by themselves: because their server was killed, or because their client has detached them.

Those of a killed server live for the next server of this name, or until they are ended here. The server has written
which there are. What counts is only what still has the number and the start time from there, so no stranger is taken
for a session.
"""

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from typing import NamedTuple

from pserver.system.pidfile import find_server, killed_servers
from pserver.system.processes import await_ends, start_ticks

_KILL_SECONDS = 5.0  # for those that were killed
_ENDING_SECONDS = 1.0  # for those that have nothing left to do


class LeftSession(NamedTuple):
    """A session without a server, or without a client."""

    pid: int
    start_ticks: int  #: of the process
    user: str | None  #: ``None`` if nobody has logged in yet
    network: str | None
    is_detached: bool = False  #: whether it runs jobs that their client will recover

    def __str__(self) -> str:
        """Say what there is, for people."""
        who = "that is logging in" if self.user is None else f"of user {self.user!r}, network {self.network}"
        return f"session {self.pid} {who}"


def left_sessions(name: str | None = None) -> dict[str, list[LeftSession]]:
    """Return the sessions that live without their server, by its name; only of `name`, if given.

    Raises `ConfigurationError` if the run-time folder is not private.
    """
    found = {server: _living(status) for server, status in killed_servers().items()}
    return {server: sessions for server, sessions in found.items() if sessions and name in {None, server}}


def detached_sessions(name: str) -> list[LeftSession]:
    """Return the sessions that would lose jobs by an end of the server of a name, whether it runs or was killed.

    One whose last result was just recovered is about to end; for that this waits a moment.

    Raises `ConfigurationError` as by `find_server`.
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
    """End the sessions that live without their server, as the server would; return them.

    `timeout`: seconds after which those that live are killed.
    """
    sessions = left_sessions(name).get(name, [])
    with contextlib.ExitStack() as stack:
        living: set[int] = set()
        for session in sessions:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(session.pid)
                stack.callback(os.close, pidfd)
                # If it has the number now, it had it when the descriptor was opened.
                if start_ticks(session.pid) == session.start_ticks:
                    living.add(pidfd)
        for number, seconds in ((signal.SIGTERM, timeout), (signal.SIGKILL, _KILL_SECONDS)):
            for pidfd in living:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
            living = await_ends(living, seconds)
    return sessions


def _read(facts: object) -> LeftSession | None:
    """Return a session of which a server has told, if it still lives."""
    match facts:
        case {"pid": int(pid), "start_ticks": int(ticks), "user": user, "network": network, **more} if (
            pid > 0 and start_ticks(pid) == ticks
        ):
            is_detached = more.get("detached") is True
            return LeftSession(pid, ticks, user and str(user), network and str(network), is_detached)
    return None
