"""The `pserver` command: start, stop and look at the servers of this machine, and see a demonstration."""

import argparse
import contextlib
import importlib
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pconnect.commands.table import Table
from pserver.admin.control import check_start, start_server
from pserver.admin.options import CommandParser, add_options, config_of
from pserver.config import ServerConfig
from pserver.starter.starter import StarterProcess
from pserver.system.clean_start import start_cleanly
from pserver.system.log import set_up
from pserver.system.log_file import Rotation, make_log
from pserver.system.pidfile import RunningServer, find_server, list_servers, stop_server
from pserver.system.processes import descriptor_limit
from srp_tools.cli import run_command
from srp_tools.errors import ConfigurationError, ParallelError
from srp_tools.packages import ShowVersion

# The same as that of systemctl and of scripts in /etc/init.d (Linux Standard Base, section 22.2).
_NOT_RUNNING = 3

_HEADINGS = ["NAME", "PID", "COMMANDS", "DATA", "ADDRESS", "TLS", "SINCE", "SESSIONS", "SLOTS"]

_START_EPILOG = """\
The first start on a machine needs users: generate-srp-data makes them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    `argv`: the arguments; ``None`` stands for those of the process. Returns the exit status: 0; 1 after an error, which
    standard error shows; 3 if a server that was to be stopped or looked at does not run; 130 after Ctrl-C. Raises
    `SystemExit` with status 2 for wrong usage, 0 for ``--help``.
    """
    arguments = sys.argv[1:] if argv is None else argv
    return run_command("pserver", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["demo"]:  # it has options of its own
        return _demo(arguments[1:])
    options = _parser().parse_args(arguments)
    return _COMMANDS[options.command](options)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="pserver", description="Manage servers that lend processors to users who log in."
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="start|stop|status|demo")
    _add_start(commands)
    help_name = "the server's name, default: %(default)s"
    stop = commands.add_parser("stop", help="end a server")
    stop.add_argument("--name", default=ServerConfig.name, help=help_name)
    help_timeout = "how long it may take before it is killed, default: %(default)s"
    stop.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help=help_timeout)
    status = commands.add_parser("status", help="show running servers")
    status.add_argument("--name", help="only this one, default: all")
    status.add_argument("--json", action="store_true", help="print a list of objects, for programs")
    commands.add_parser("demo", help="compute something on three servers of this machine")
    return parser


def _add_start(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    """Add the command ``start``."""
    parser = commands.add_parser("start", help="start a server in the background", epilog=_START_EPILOG)
    add_options(parser)
    add = parser.add_argument
    add("--foreground", action="store_true", help="Do not go to the background.")
    # For programs that start a server: a socket, on which it tells that it is ready or why not; that it shall
    # end when their end of that socket is closed; that it must not remain their child.
    add("--parent-fd", type=int, help=argparse.SUPPRESS)
    add("--lifeline", action="store_true", help=argparse.SUPPRESS)
    add("--detach", action="store_true", help=argparse.SUPPRESS)


def _start(options: argparse.Namespace) -> int:
    if options.foreground:
        return _serve(options)
    if options.parent_fd is not None or options.lifeline or options.detach:
        raise ConfigurationError("--parent-fd, --lifeline and --detach go only with --foreground")
    config = config_of(options)
    status = start_server(config)
    print(_describe(status))
    print(f"Its log is {status['log_file']}")
    default = config.name == ServerConfig.name
    print(f"Stop it with: pserver stop{'' if default else f' --name {shlex.quote(config.name)}'}")
    _warn_if_plain(status)
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Be the daemon."""
    start_cleanly(keep=() if options.parent_fd is None else (options.parent_fd,))
    if options.detach:
        _detach()
    with _parent_socket(options.parent_fd) as parent:
        try:
            config = config_of(options)
            check_start(config)
            _set_up_log(config)
            starter = StarterProcess(descriptor_limit())  # it loads its modules while we load ours
            # Late: it brings numpy with it, which other commands need not wait for, and which starts threads
            # that must not be there when `_detach` forks.
            from pserver.daemon.daemon import serve  # noqa: PLC0415

            def announce(status: dict[str, object]) -> None:
                with contextlib.suppress(OSError):  # who has closed standard output does not want to know
                    print(_describe(status), flush=True)
                    _warn_if_plain(status)
                if parent is not None:
                    _tell(parent, {"ready": status})  # an error ends the server, which would be unknown

            serve(config, announce, parent if options.lifeline else None, starter)
        except (ParallelError, OSError) as error:
            if parent is not None:
                # A parent that has gone, or has been told already, does not need it.
                with contextlib.suppress(OSError):
                    _tell(parent, {"error": str(error)})
            raise
    return 0


def _detach() -> None:
    """Go on in a process that has no parent who would have to wait for it, see `pserver.admin.control`."""
    if os.fork() > 0:
        os._exit(0)
    # Not to keep the folder's file system from being unmounted.
    os.chdir("/")


@contextlib.contextmanager
def _parent_socket(descriptor: int | None) -> Iterator[socket.socket | None]:
    if descriptor is None:
        yield None
        return
    with socket.socket(fileno=descriptor) as parent:
        # A session that outlives the daemon must not keep the parent waiting for the end of file.
        parent.set_inheritable(False)
        yield parent


def _tell(parent: socket.socket, answer: Mapping[str, object]) -> None:
    try:
        parent.sendall(json.dumps(answer).encode() + b"\n")
    except ConnectionError as error:
        raise ConnectionError("the program that started this server has gone") from error


def _set_up_log(config: ServerConfig) -> None:
    """Write one line for each event, to a file or to standard error."""
    path = None if config.log_file is None else Path(config.log_file)
    if path is not None:
        make_log(path)
    set_up(path, Rotation(config.log_size, config.log_files))


def _stop(options: argparse.Namespace) -> int:
    stopped = stop_server(options.name, options.timeout)
    if stopped is None:
        return _report_none(options.name)
    server = f"{stopped.name} (pid {stopped.pid})"
    if stopped.killed:
        print(f"pserver: {server} did not end within {options.timeout:g} s and was killed", file=sys.stderr)
    else:
        print(f"Stopped {server}.")
    return 0


def _status(options: argparse.Namespace) -> int:
    if options.name is None:
        servers = list_servers()
    else:
        server = find_server(options.name)
        servers = [] if server is None else [server]
    if options.json:
        print(json.dumps([dict(server.status) for server in servers], indent=2))
    elif servers:
        print(Table(_HEADINGS, [_row(server) for server in servers]))
    else:
        return _report_none(options.name)
    return 0 if servers else _NOT_RUNNING


def _demo(arguments: Sequence[str]) -> int:
    try:
        demo = importlib.import_module("pserver.demo.demo")
    except ImportError as error:
        raise ConfigurationError(
            f"the demonstration needs more packages ({error}); install them with: pip install 'pserver[demo]'"
        ) from error
    status = demo.main(arguments)
    return int(status)


def _report_none(name: str | None) -> int:
    which = "no server" if name is None else f"no server named {name!r}"
    others = ", ".join(server.name for server in list_servers())
    hint = f"; choose one of these with --name: {others}" if others else ""
    print(f"pserver: {which} is running{hint}", file=sys.stderr)
    return _NOT_RUNNING


def _describe(status: Mapping[str, object]) -> str:
    return (
        f"The server {status['name']!r} (pid {status['pid']}) listens at {_address(status)}: "
        f"command port {status['cmd_port']}, data port {status['data_port']}."
    )


def _address(status: Mapping[str, object]) -> str:
    return str(status.get("bind") or "all addresses")


def _warn_if_plain(status: Mapping[str, object]) -> None:
    if not status["use_tls"]:
        print(
            "pserver: WARNING: without TLS there is no encryption and no login. Everybody who can reach "
            f"{_address(status)}, port {status['cmd_port']}, and every user of this machine, "
            f"can run any program as {status['user']}.",
            file=sys.stderr,
        )


def _row(server: RunningServer) -> Sequence[object]:
    status = server.status
    if "cmd_port" not in status:
        return [server.name, server.pid, "starting", *[None] * (len(_HEADINGS) - 3)]
    started = status["started"]
    sessions = status["sessions"]
    slots = status["slots"]
    return [
        server.name,
        server.pid,
        status["cmd_port"],
        status["data_port"],
        _address(status),
        "yes" if status["use_tls"] else "no",
        f"{datetime.fromtimestamp(started):%Y-%m-%d %H:%M}" if isinstance(started, int | float) else "",
        _count_sessions(sessions) if isinstance(sessions, list) else "",
        f"{slots['used']} of {slots['total']}" if isinstance(slots, dict) else "",
    ]


def _count_sessions(sessions: Sequence[Mapping[str, object]]) -> str:
    detached = sum(bool(session.get("detached")) for session in sessions)
    return f"{len(sessions)} ({detached} detached)" if detached else str(len(sessions))


_COMMANDS = {"start": _start, "stop": _stop, "status": _status}
