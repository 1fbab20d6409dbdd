"""The `pserver` command: run and manage the servers of this machine, and run a demonstration."""

import argparse
import contextlib
import importlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pserver.admin.config_commands import add_settings, save_config, settings_of, show_config
from pserver.admin.control import check_start, start_server, warnings_of
from pserver.admin.ctl_commands import add_ctl, ctl
from pserver.admin.given_settings import settings_reader, take_over
from pserver.admin.options import CommandParser, given_options
from pserver.admin.service_command import add_install_service, install_service
from pserver.admin.status_command import add_status, address_of, name_option, status
from pserver.admin.stop_command import add_stop, stop
from pserver.config.server_config import ServerConfig
from pserver.starter.starter import StarterProcess
from pserver.system.clean_start import open_standard_streams, start_cleanly
from pserver.system.log import set_up
from pserver.system.log_file import Rotation, make_log
from pserver.system.processes import descriptor_limit
from pserver.systemd.notify import ServiceManager
from srp_tools.cli import run_command
from srp_tools.errors import ConfigurationError, ParallelError
from srp_tools.packages import ShowVersion

_START_EPILOG = """\
Before the first start on a machine, create users with generate-srp-data. Options override environment variables such as
PSERVER_SLOTS, which override the configuration file. --tls and --no-allow-root undo settings from there.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status.

    `argv`: the arguments; ``None`` uses the arguments of the process. The exit status is 0 on success; 1 after an
    error, whose message goes to standard error; 3 if the server to stop or to show is not running; 130 after Ctrl-C.
    Raises `SystemExit` with status 2 for wrong usage, and with 0 for ``--help``.
    """
    open_standard_streams()
    arguments = sys.argv[1:] if argv is None else argv
    return run_command("pserver", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["demo"]:  # the demonstration parses its own options
        return _demo(arguments[1:])
    options = _parser(arguments).parse_args(arguments)
    return _COMMANDS[options.command](options)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = CommandParser(prog="pserver", description="Run and manage a compute server.")
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="start|stop|status|ctl|reload|show-config|install-service|deploy|doctor|bug-report|demo",
    )
    _add_start(commands)
    show = commands.add_parser(
        "show-config", help="show the settings that start would use, and where they come from"
    )
    add_settings(show)
    add_stop(commands.add_parser("stop", help="stop a server"))
    add_status(commands.add_parser("status", help="show running servers"))
    add_ctl(commands)
    add_install_service(commands)
    deploy = commands.add_parser("deploy", help="install and start servers on other machines, over ssh")
    if arguments[:1] == ["deploy"]:  # its imports are slow, and the other commands do not need them
        importlib.import_module("pserver.deploy.command").add_deploy_options(deploy)
    doctor = commands.add_parser(
        "doctor", help="check this machine, report problems, and say how to fix them"
    )
    doctor.add_argument(
        "hosts", nargs="*", metavar="HOST", help="also log in to these servers, and check clocks and versions"
    )
    report = commands.add_parser("bug-report", help="collect the facts for a bug report, without secrets")
    report.add_argument("file", nargs="?", metavar="FILE", help="the file to write; - for standard output")
    commands.add_parser("demo", help="run a computation on three servers on this machine")
    return parser


def _add_start(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    """Add the command ``start``."""
    parser = commands.add_parser("start", help="start a server in the background", epilog=_START_EPILOG)
    add_settings(parser)
    add = parser.add_argument
    save_help = (
        "Write the settings to a configuration file, or to standard output, without starting a server."
    )
    add("--save-config", nargs="?", const="-", metavar="FILE", help=save_help)
    add("--foreground", action="store_true", help="Stay in the foreground.")
    # For programs that start a server: a socket on which the server reports that it is ready, or why it failed;
    # stop when the program closes its end of that socket; do not stay a child of the program; the settings.
    add("--parent-fd", type=int, help=argparse.SUPPRESS)
    add("--lifeline", action="store_true", help=argparse.SUPPRESS)
    add("--detach", action="store_true", help=argparse.SUPPRESS)
    add("--settings-fd", type=int, help=argparse.SUPPRESS)


def _start(options: argparse.Namespace) -> int:
    if options.save_config is not None:
        return save_config(options)
    if options.foreground:
        return _serve(options)
    if options.parent_fd is not None or options.lifeline or options.detach:
        raise ConfigurationError("--parent-fd, --lifeline and --detach need --foreground")
    config = settings_of(options).config
    status = start_server(config, given_options(options), options.config)
    print(_describe(status))
    print(f"Its log is {status['log_file']}")
    print(f"Stop it with: pserver stop{name_option(config.name)}")
    _warn(status, config)
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Run the daemon in this process."""
    handed = None if options.settings_fd is None else take_over(options.settings_fd)
    given = handed or (given_options(options), options.config)
    start_cleanly(keep=() if options.parent_fd is None else (options.parent_fd,))
    manager = ServiceManager.of_environment(os.environ)
    if options.detach:
        _detach()
    with _parent_socket(options.parent_fd) as parent:
        try:
            read = settings_reader(*given)
            config = read()
            check_start(config)
            _set_up_log(config)
            # The starter loads its modules while this process loads its own.
            starter = StarterProcess(descriptor_limit(), has_accounts=config.has_accounts)
            # Imported late because it imports numpy: the other commands need not wait for numpy, and numpy starts
            # threads, which must not exist when `_detach` forks.
            from pserver.daemon.daemon import serve  # noqa: PLC0415

            def announce(status: dict[str, object]) -> None:
                if parent is None:
                    _show(status, config)
                else:
                    # The parent prints the status: in a log file, that text would not be a log line. If the parent
                    # has gone, the error ends the server, because nobody would know of it.
                    _tell(parent, {"ready": status})

            serve(config, announce, parent if options.lifeline else None, starter, manager, read=read)
        except (ParallelError, OSError) as error:
            if parent is not None:
                # The parent may have gone, or may already have the answer.
                with contextlib.suppress(OSError):
                    _tell(parent, {"error": str(error)})
            raise
    return 0


def _detach() -> None:
    """Continue in a child process, so the caller's process need not wait for it; see `pserver.admin.control`."""
    if os.fork() > 0:
        os._exit(0)
    # The file system of the current folder must remain unmountable.
    os.chdir("/")


@contextlib.contextmanager
def _parent_socket(descriptor: int | None) -> Iterator[socket.socket | None]:
    if descriptor is None:
        yield None
        return
    with socket.socket(fileno=descriptor) as parent:
        # Otherwise, a session that outlives the daemon would keep the socket open, and the parent would wait.
        parent.set_inheritable(False)
        yield parent


def _tell(parent: socket.socket, answer: Mapping[str, object]) -> None:
    try:
        parent.sendall(json.dumps(answer).encode() + b"\n")
    except ConnectionError as error:
        raise ConnectionError("the program that started this server has gone") from error


def _set_up_log(config: ServerConfig) -> None:
    """Send the log to a file or to standard error."""
    path = None if config.log_file is None else Path(config.log_file)
    if path is not None:
        make_log(path)
    set_up(path, Rotation(config.log_size, config.log_files), form=config.log_form())


def _deploy(options: argparse.Namespace) -> int:
    from pserver.deploy.command import run_deploy  # noqa: PLC0415 - as above

    errors = run_deploy(options, lambda line: print(line, flush=True))
    for error in errors:
        print(f"pserver: {error}", file=sys.stderr)
    return 1 if errors else 0


def _doctor(options: argparse.Namespace) -> int:
    # Imported late because it imports the client: the other commands need not wait for it.
    return int(importlib.import_module("pserver.doctor.command").run_doctor(options))


def _bug_report(options: argparse.Namespace) -> int:
    return int(importlib.import_module("pserver.doctor.bug_report").run_bug_report(options))


def _demo(arguments: Sequence[str]) -> int:
    try:
        demo = importlib.import_module("pserver.demo.demo")
    except ImportError as error:
        raise ConfigurationError(
            f"the demonstration needs more packages: {error}; install them with pip install 'pserver[demo]'"
        ) from error
    status = demo.main(arguments)
    return int(status)


def _describe(status: Mapping[str, object]) -> str:
    listens = f"The server {status['name']!r} (pid {status['pid']}) listens on {address_of(status)}"
    if status.get("socket"):
        return f"{listens}, for this account on this machine only."
    cmd_port, data_port = status["cmd_port"], status["data_port"]
    ports = (
        f"port {cmd_port} for commands and data"
        if cmd_port == data_port
        else f"command port {cmd_port}, data port {data_port}"
    )
    return f"{listens}: {ports}."


def _show(status: Mapping[str, object], config: ServerConfig) -> None:
    """Print the address and warnings of a server in the foreground; if its log is here too, as lines of the log."""
    is_log = config.log_file is None
    with contextlib.suppress(OSError):  # the streams may be closed
        if not (is_log and config.log_format == "json"):
            print(_describe(status), flush=True)
        if is_log:
            for text in _warnings(status, config):
                logging.getLogger("pserver").warning("%s", text)
        else:
            _warn(status, config)


def _warn(status: Mapping[str, object], config: ServerConfig) -> None:
    for text in _warnings(status, config):
        print(f"pserver: WARNING: {text}", file=sys.stderr)


def _warnings(status: Mapping[str, object], config: ServerConfig) -> list[str]:
    found = warnings_of(status, config)
    if not status["use_tls"]:
        found.append(
            "without TLS there is no encryption and no login. Anyone who can reach port "
            f"{status['cmd_port']} ({address_of(status)}), and every user of this machine, can run any "
            f"program as {status['user']}."
        )
    return found


_COMMANDS = {
    "start": _start,
    "stop": stop,
    "status": status,
    "ctl": ctl,
    "reload": ctl,
    "show-config": show_config,
    "install-service": install_service,
    "deploy": _deploy,
    "doctor": _doctor,
    "bug-report": _bug_report,
}
