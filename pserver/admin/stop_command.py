"""The command that stops a server."""

import argparse
import json
import os
import select
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pserver.admin.left_sessions import detached_sessions, end_left_sessions
from pserver.admin.settings import server_name
from pserver.admin.status_command import name_option, report_none, session_count
from pserver.ctl.asking import NoAnswerError, ask
from pserver.system.pidfile import RunningServer, find_server, stop_server
from srp_tools.errors import ConfigurationError

_LOOK_SECONDS = 1.0  # interval for checking that a server still stops when idle


def add_stop(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    help_name = "name of the server; default: the configured name, or default"
    parser.add_argument("--name", help=help_name)
    help_timeout = "time until the server is killed; default: %(default)s"
    parser.add_argument(
        "--force", action="store_true", help="stop even if detached jobs are running; they are lost"
    )
    help_idle = "accept no new sessions, wait until the last one has ended, then stop the server"
    parser.add_argument("--when-idle", action="store_true", help=help_idle)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help=help_timeout)


def stop(options: argparse.Namespace) -> int:
    """Stop a server; return the exit status."""
    options.name = server_name(options.name)
    if options.when_idle:
        return _await_idle(options)
    detached = detached_sessions(options.name)
    if detached and not options.force:
        raise ConfigurationError(
            f"the server {options.name!r} is running detached jobs: {'; '.join(map(str, detached))}. "
            f"Wait for them with: pserver stop --when-idle{name_option(options.name)}, or discard them with: "
            f"pserver stop --force{name_option(options.name)} (finished results are kept)"
        )
    ended = _sessions(options.name)
    stopped = stop_server(options.name, options.timeout)
    left = end_left_sessions(options.name, options.timeout)  # of a server killed here or earlier
    if stopped is None and not left:
        return report_none(options.name)
    lines: list[str] = []
    if stopped is not None:
        server = f"{stopped.name} (pid {stopped.pid})"
        if stopped.killed:
            print(
                f"pserver: {server} did not stop within {options.timeout:g} s and was killed", file=sys.stderr
            )
        else:
            lines.append(f"Stopped {server}.")
        lines += [f"Ended the detached jobs of {session}." for session in detached]
        lines += map(_ended, ended)
    lines += [f"Ended {session}, which had outlived the server {options.name}." for session in left]
    facts = {
        "stopped": None if stopped is None else stopped.pid,
        "killed": stopped is not None and stopped.killed,
        "ended": ended if stopped is not None else [],
        "detached": [str(session) for session in detached],
        "left": [str(session) for session in left],
    }
    _show(options, facts, lines)
    return 0


def _show(options: argparse.Namespace, facts: Mapping[str, object], lines: Sequence[str]) -> None:
    """Print the outcome, as JSON for `pserver ctl stop --json`."""
    print(
        *([json.dumps(facts, indent=2)] if getattr(options, "json", False) else lines), sep="\n", flush=True
    )


def _sessions(name: str) -> list[dict[str, Any]]:
    """Return the sessions with a client that will end with the server, if the server reports them."""
    server = find_server(name)
    try:
        rows: list[dict[str, Any]] = ask(server, {"do": "sessions"})["sessions"] if server else []
    except (ConfigurationError, OSError):  # no server is running, or it hangs
        return []
    return [row for row in rows if row["user"] and not row["detached"]]


def _ended(row: dict[str, Any]) -> str:
    running = f", which was running {row['running']} command(s) or job(s)" if row["running"] else ""
    return f"Ended session {row['session']} of user {row['user']!r} from {row['from']}{running}."


def _await_idle(options: argparse.Namespace) -> int:
    """Have a server stop when its last session ends, and wait for that."""
    server = find_server(options.name)
    if server is None:
        return report_none(options.name)
    try:
        pidfd = os.pidfd_open(server.pid)
    except ProcessLookupError:  # it has just stopped
        return report_none(options.name)
    try:
        again = find_server(options.name)
        if again is None or again.pid != server.pid:  # the process id may have been reused
            return report_none(options.name)
        if options.force:
            raise ConfigurationError(
                "--when-idle and --force exclude each other: the first waits for sessions, the second ends them"
            )
        sessions = ask(server, {"do": "release"})["sessions"]
        if sessions and not getattr(options, "json", False):
            print(
                f"Waiting for {session_count(sessions)} to end. The server accepts no new ones. "
                "Ctrl-C stops only the waiting.",
                flush=True,
            )
        while not select.select([pidfd], [], [], _LOOK_SECONDS)[0]:
            _check_is_ending(server)
    finally:
        os.close(pidfd)
    facts = {"stopped": server.pid, "killed": False, "ended": [], "detached": [], "left": []}
    _show(options, facts, [f"Stopped {server.name} (pid {server.pid})."])
    return 0


def _check_is_ending(server: RunningServer) -> None:
    """Raise `ConfigurationError` if the server no longer waits for its last session."""
    try:
        status = ask(server, {"do": "status"})
    except NoAnswerError:  # it is stopped or busy, or exiting at this moment
        return
    if not status["admission"]["drained"]:
        raise ConfigurationError(
            f"the server {server.name!r} accepts sessions again (pserver ctl resume): it no longer stops when idle"
        )
