"""Clients that are killed, and others that resume their sessions."""

import signal
from pathlib import Path
from typing import Any

from pconnect import pconnect
from pconnect.views.network_views import ClientNetwork
from tests.support.clients import ClientProcess
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until


def client(file: Path, script: str, *servers: Server) -> ClientProcess:
    """Start a client with sessions that can be resumed; it prints a line when it has run the script."""
    return ClientProcess(script + "\nsay('ready')\ntime.sleep(1000)", *servers, resume=str(file))


def kill(process: ClientProcess, server: Server) -> None:
    """Kill a client once it has reported that it is ready; its session then waits."""
    while process.line() != "ready":
        pass  # the output of engines
    process.process.send_signal(signal.SIGKILL)
    process.process.wait(DEADLINE)
    wait_until(lambda: bool(orphans(server)), "the session to notice that its client is gone")


def orphans(server: Server) -> list[dict[str, Any]]:
    """Return the server's report of the sessions that wait for their clients."""
    return [session for session in server.status_now()["sessions"] if session["orphaned"]]


def come_back(file: Path, server: Server, **options: Any) -> ClientNetwork:
    """Resume with the password of the server's user."""
    login = {"user": server.credentials.user, "password": server.credentials.password}
    settings: dict[str, Any] = {"profile": "", "resume": file, "timeout": DEADLINE, **login}
    return pconnect(**settings | options)


def mark(path: Path) -> str:
    """Return a command that shows that all earlier ones have ended."""
    return f"open({str(path)!r}, 'w').close()"
