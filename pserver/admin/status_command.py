"""The command that shows running servers, and messages about servers that are not running."""

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pconnect.commands.table import Table
from pserver.admin.left_sessions import LeftSession, left_sessions
from pserver.admin.member_table import member_lines
from pserver.config.server_config import ServerConfig
from pserver.ctl.live_status import live_server, live_servers
from pserver.page.address_file import shown_address
from pserver.system.pidfile import RunningServer, list_servers

# The same status as systemctl and scripts in /etc/init.d return (Linux Standard Base, section 22.2).
NOT_RUNNING = 3

_HEADINGS = ["NAME", "PID", "COMMANDS", "DATA", "ADDRESS", "TLS", "SINCE", "SESSIONS", "SLOTS"]


def add_status(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--name", help="show only the server of this name; default: all servers")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects, for programs")


def status(options: argparse.Namespace) -> int:
    """Print running servers, and sessions of killed servers; return the exit status."""
    if options.name is None:
        servers = live_servers()
    else:
        server = live_server(options.name)
        servers = [] if server is None else [server]
    if options.json:
        print(json.dumps([dict(server.status) for server in servers], indent=2))
    elif servers:
        print(status_table((server.name, server.pid, server.status) for server in servers))
        _print_users(servers)
    left = left_sessions(options.name)
    _report_left(left)
    if not servers and not left and not options.json:
        return report_none(options.name)
    return 0 if servers else NOT_RUNNING


def _print_users(servers: Sequence[RunningServer]) -> None:
    for server in servers:
        match server.status.get("admission"):
            case {"words": str(words)} if words != "open":
                print(f"The server {server.name} is {words}.")
        for line in orphans(server.status):
            print(line)
        for line in member_lines(server.name, server.status.get("members")):
            print(line)
        match server.status.get("users"):
            case {"file": file, "fingerprint": fingerprint}:
                shown = fingerprint or "unknown, see the log"
                print(f"Users of {server.name}: {file}, fingerprint {shown}")
        if page := shown_address(server.name, server.folder):
            print(f"Status page of {server.name}: {page}")
        if server.folder is not None:
            folder = str(server.folder).removeprefix(f"/proc/{server.pid}/root")
            print(f"Run-time folder of {server.name} (pid {server.pid}): {folder}")


def report_none(name: str | None) -> int:
    """Report that a server is not running, and name the running ones; return the exit status."""
    which = "no server" if name is None else f"no server named {name!r}"
    others = ", ".join(server.name for server in list_servers())
    hint = f"; choose one of these with --name: {others}" if others else ""
    print(f"pserver: {which} is running{hint}", file=sys.stderr)
    return NOT_RUNNING


def _report_left(left: Mapping[str, Sequence[LeftSession]]) -> None:
    for name, sessions in left.items():
        option = name_option(name)
        count = (
            "1 session is still alive" if len(sessions) == 1 else f"{len(sessions)} sessions are still alive"
        )
        print(
            f"pserver: the server {name!r} was killed, and {count}: {'; '.join(map(str, sessions))}. "
            f"To keep using them, start the server again with the same options: pserver start{option}; "
            f"to end them: pserver stop{option}",
            file=sys.stderr,
        )


def session_count(number: int) -> str:
    """Return a number of sessions with its noun."""
    return "1 session" if number == 1 else f"{number} sessions"


def name_option(name: str) -> str:
    """Return the option that names a server, for a command line; empty for the default server."""
    return "" if name == ServerConfig.name else f" --name {shlex.quote(name)}"


def address_of(status: Mapping[str, object]) -> str:
    """Return the addresses where a server listens, for people."""
    if status.get("socket"):
        return f"unix:{status['socket']}"
    bind = status.get("bind")
    return ", ".join(bind) if isinstance(bind, list) and bind else "all addresses"


def status_table(servers: Iterable[tuple[str, int, Mapping[str, object]]]) -> Table:
    """Return a table of servers, each given by its name, process id and status."""
    return Table(_HEADINGS, [_row(*server) for server in servers])


def _row(name: str, pid: int, status: Mapping[str, object]) -> Sequence[object]:
    if "cmd_port" not in status:
        return [name, pid, "starting", *[None] * (len(_HEADINGS) - 3)]
    started = status["started"]
    sessions = status["sessions"]
    slots = status.get("slots")
    return [
        name,
        pid,
        status["cmd_port"] or None,
        status["data_port"] or None,
        address_of(status),
        "yes" if status["use_tls"] else "no",
        f"{datetime.fromtimestamp(started):%Y-%m-%d %H:%M}" if isinstance(started, int | float) else "",
        _count_sessions(sessions) if isinstance(sessions, list) else "",
        f"{slots['used']} of {slots['total']}" if isinstance(slots, dict) else "does not answer",
    ]


def _count_sessions(sessions: Sequence[Mapping[str, object]]) -> str:
    counts = {word: sum(bool(session.get(word)) for session in sessions) for word in ("detached", "orphaned")}
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{len(sessions)} ({words})" if words else str(len(sessions))


def orphans(status: Mapping[str, object]) -> list[str]:
    """Return a line for each session whose client has vanished."""
    sessions = status.get("sessions")
    return [
        f"Session {session.get('pid')} of {session.get('user')} has been orphaned since "
        f"{datetime.fromtimestamp(since):%Y-%m-%d %H:%M:%S}: its client vanished, and may come back."
        for session in (sessions if isinstance(sessions, list) else [])
        if isinstance(session, dict) and isinstance(since := session.get("orphaned"), float)
    ]
