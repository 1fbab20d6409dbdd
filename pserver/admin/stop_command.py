"""The command that ends a server."""

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

_LOOK_SECONDS = 1.0  # until a server that ends when idle is asked whether it still does


def add_stop(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    help_name = "the server's name, default: that of the configuration, or default"
    parser.add_argument("--name", help=help_name)
    help_timeout = "how long it may take before it is killed, default: %(default)s"
    parser.add_argument(
        "--force", action="store_true", help="even while it runs detached jobs, which are lost"
    )
    help_idle = "let no new session in, wait until the last one has ended, and then end the server"
    parser.add_argument("--when-idle", action="store_true", help=help_idle)
    parser.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help=help_timeout)


def stop(options: argparse.Namespace) -> int:
    """End a server; return the exit status."""
    options.name = server_name(options.name)
    if options.when_idle:
        return _await_idle(options)
    detached = detached_sessions(options.name)
    if detached and not options.force:
        raise ConfigurationError(
            f"the server {options.name!r} runs detached jobs: {'; '.join(map(str, detached))}. "
            f"Wait for them with: pserver stop --when-idle{name_option(options.name)}, or lose these jobs with: "
            f"pserver stop --force{name_option(options.name)} (results that are ready stay)"
        )
    ended = _sessions(options.name)
    stopped = stop_server(options.name, options.timeout)
    left = end_left_sessions(options.name, options.timeout)  # of one that was killed, here or before
    if stopped is None and not left:
        return report_none(options.name)
    lines: list[str] = []
    if stopped is not None:
        server = f"{stopped.name} (pid {stopped.pid})"
        if stopped.killed:
            print(
                f"pserver: {server} did not end within {options.timeout:g} s and was killed", file=sys.stderr
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
    """Print what was done; `pserver ctl stop --json` wants it for programs."""
    print(
        *([json.dumps(facts, indent=2)] if getattr(options, "json", False) else lines), sep="\n", flush=True
    )


def _sessions(name: str) -> list[dict[str, Any]]:
    """Return the sessions with a client that the end of a server ends, as far as it says so."""
    server = find_server(name)
    try:
        rows: list[dict[str, Any]] = ask(server, {"do": "sessions"})["sessions"] if server else []
    except (ConfigurationError, OSError):  # none is running, or it hangs
        return []
    return [row for row in rows if row["user"] and not row["detached"]]


def _ended(row: dict[str, Any]) -> str:
    running = f", in which {row['running']} command(s) or job(s) ran" if row["running"] else ""
    return f"Ended session {row['session']} of user {row['user']!r} from {row['from']}{running}."


def _await_idle(options: argparse.Namespace) -> int:
    """Have a server end with its last session, and wait for that."""
    server = find_server(options.name)
    if server is None:
        return report_none(options.name)
    try:
        pidfd = os.pidfd_open(server.pid)
    except ProcessLookupError:  # it has just ended
        return report_none(options.name)
    try:
        again = find_server(options.name)
        if again is None or again.pid != server.pid:  # another process may have its number
            return report_none(options.name)
        if options.force:
            raise ConfigurationError(
                "--when-idle and --force: the first waits for sessions, the other ends them"
            )
        sessions = ask(server, {"do": "release"})["sessions"]
        if sessions and not getattr(options, "json", False):
            print(
                f"Waiting for the end of {session_count(sessions)}; no new one is let in. "
                "Ctrl-C ends only the waiting.",
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
    """Raise `ConfigurationError` if the server does not wait for its last session any more."""
    try:
        status = ask(server, {"do": "status"})
    except NoAnswerError:  # it is stopped or busy, or ends just now
        return
    if not status["admission"]["drained"]:
        raise ConfigurationError(
            f"somebody had the server {server.name!r} go on (pserver ctl resume): it does not end with its last session"
        )
