"""The `pserver` command: start, stop and look at the servers of this machine, and see a demonstration."""

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
The first start on a machine needs users: generate-srp-data makes them. What is given here counts before a variable such
as PSERVER_SLOTS, and that before the configuration file; --tls and --no-allow-root undo what stands there.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    `argv`: the arguments; ``None`` stands for those of the process. Returns the exit status: 0; 1 after an error, which
    standard error shows; 3 if a server that was to be stopped or looked at does not run; 130 after Ctrl-C. Raises
    `SystemExit` with status 2 for wrong usage, 0 for ``--help``.
    """
    open_standard_streams()
    arguments = sys.argv[1:] if argv is None else argv
    return run_command("pserver", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["demo"]:  # it has options of its own
        return _demo(arguments[1:])
    options = _parser(arguments).parse_args(arguments)
    return _COMMANDS[options.command](options)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="pserver", description="Manage servers that lend processors to users who log in."
    )
    parser.add_argument("--version", action=ShowVersion)
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="start|stop|status|ctl|reload|show-config|install-service|deploy|doctor|bug-report|demo",
    )
    _add_start(commands)
    show = commands.add_parser(
        "show-config", help="show the settings that a start would have, and where they are from"
    )
    add_settings(show)
    add_stop(commands.add_parser("stop", help="end a server"))
    add_status(commands.add_parser("status", help="show running servers"))
    add_ctl(commands)
    add_install_service(commands)
    deploy = commands.add_parser("deploy", help="install and start servers on other machines, over ssh")
    if arguments[:1] == ["deploy"]:  # the others need not wait for what it imports
        importlib.import_module("pserver.deploy.command").add_deploy_options(deploy)
    doctor = commands.add_parser("doctor", help="check this machine, and say what is wrong and what to do")
    doctor.add_argument(
        "hosts", nargs="*", metavar="HOST", help="log in there, too, and check clocks and versions"
    )
    report = commands.add_parser("bug-report", help="write down what is known of a fault, without secrets")
    report.add_argument("file", nargs="?", metavar="FILE", help="- is standard output; default: a file here")
    commands.add_parser("demo", help="compute something on three servers of this machine")
    return parser


def _add_start(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    """Add the command ``start``."""
    parser = commands.add_parser("start", help="start a server in the background", epilog=_START_EPILOG)
    add_settings(parser)
    add = parser.add_argument
    save_help = "Write the settings to a configuration file, or to standard output, and do not start."
    add("--save-config", nargs="?", const="-", metavar="FILE", help=save_help)
    add("--foreground", action="store_true", help="Do not go to the background.")
    # For programs that start a server: a socket, on which it tells that it is ready or why not; that it shall
    # end when their end of that socket is closed; that it must not remain their child; with which settings.
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
        raise ConfigurationError("--parent-fd, --lifeline and --detach go only with --foreground")
    config = settings_of(options).config
    status = start_server(config, given_options(options), options.config)
    print(_describe(status))
    print(f"Its log is {status['log_file']}")
    print(f"Stop it with: pserver stop{name_option(config.name)}")
    _warn(status, config)
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Be the daemon."""
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
            # It loads its modules while we load ours.
            starter = StarterProcess(descriptor_limit(), has_accounts=config.has_accounts)
            # Late: it brings numpy with it, which other commands need not wait for, and which starts threads
            # that must not be there when `_detach` forks.
            from pserver.daemon.daemon import serve  # noqa: PLC0415

            def announce(status: dict[str, object]) -> None:
                if parent is None:
                    _show(status, config)
                else:  # it shows that itself; in a log, it would be no line of the log
                    _tell(parent, {"ready": status})  # an error ends the server, which would be unknown

            serve(config, announce, parent if options.lifeline else None, starter, manager, read=read)
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
    set_up(path, Rotation(config.log_size, config.log_files), form=config.log_form())


def _deploy(options: argparse.Namespace) -> int:
    from pserver.deploy.command import run_deploy  # noqa: PLC0415 - as above

    errors = run_deploy(options, lambda line: print(line, flush=True))
    for error in errors:
        print(f"pserver: {error}", file=sys.stderr)
    return 1 if errors else 0


def _doctor(options: argparse.Namespace) -> int:
    # Late: it brings the client with it, which other commands need not wait for.
    return int(importlib.import_module("pserver.doctor.command").run_doctor(options))


def _bug_report(options: argparse.Namespace) -> int:
    return int(importlib.import_module("pserver.doctor.bug_report").run_bug_report(options))


def _demo(arguments: Sequence[str]) -> int:
    try:
        demo = importlib.import_module("pserver.demo.demo")
    except ImportError as error:
        raise ConfigurationError(
            f"the demonstration needs more packages ({error}); install them with: pip install 'pserver[demo]'"
        ) from error
    status = demo.main(arguments)
    return int(status)


def _describe(status: Mapping[str, object]) -> str:
    listens = f"The server {status['name']!r} (pid {status['pid']}) listens at {address_of(status)}"
    if status.get("socket"):
        return f"{listens}, for this account on this machine."
    cmd_port, data_port = status["cmd_port"], status["data_port"]
    ports = (
        f"port {cmd_port} for everything"
        if cmd_port == data_port
        else f"command port {cmd_port}, data port {data_port}"
    )
    return f"{listens}: {ports}."


def _show(status: Mapping[str, object], config: ServerConfig) -> None:
    """Show a server that has started in the foreground; in the form of its log, where that comes between."""
    is_log = config.log_file is None
    with contextlib.suppress(OSError):  # who has closed the streams does not want to know
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
            "without TLS there is no encryption and no login. Anyone who can reach "
            f"{address_of(status)}, port {status['cmd_port']}, and every user of this machine, "
            f"can run any program as {status['user']}."
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
