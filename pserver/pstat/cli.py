"""The command line of `pstat`."""

import argparse
import datetime
import importlib
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import NoReturn

from pserver.admin.options import CommandParser
from pserver.config.page_options import add_page_options
from pserver.ctl.sources import Answer, OwnServers, Source
from pserver.pstat.screen import Screen
from pserver.pstat.table import LEGEND, joined, lines_of, summary
from pserver.system.pidfile import list_servers
from srp_tools.cli import run_command
from srp_tools.errors import ConfigurationError
from srp_tools.packages import ShowVersion
from srp_tools.printable import printable_name

_ANSWER_SECONDS = 5.0  # for a login and its answer
_AGAIN_SECONDS = 2.0  # the same while watching: a server that hangs delays the whole table
_LEAST_WATCH, _MOST_WATCH = 0.2, 86400.0
NOTHING_THERE = 3
_NOTHING = """\
pstat: no server of this account is running here, and no hosts are configured; give hosts: pstat alpha beta:12600
"""

_EPILOG = f"""\
Without HOST: the servers of this account on this machine; if there are none, the hosts in the configuration of
pconnect. For a HOST, pstat logs in as pconnect does. {LEGEND}. Exit status: 0 if all servers answered, 1 if a server
did not or after an error, 2 for wrong usage, 3 if there is no server to ask, 130 after Ctrl-C.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    `argv`: the arguments; ``None`` means those of the process. Returns the exit status: 0 if all servers answered; 1 if
    a server did not, or after an error, which standard error shows; 3 if there is no server to ask; 130 after Ctrl-C.
    Raises `SystemExit` with status 2 for wrong usage, 0 for ``--help``.
    """
    return run_command("pstat", lambda: _run(_parser().parse_args(argv)))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="pstat",
        description="Show how busy servers are, and how much work they have done.",
        epilog="\n".join(textwrap.wrap(" ".join(_EPILOG.split()), 100)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--version", action=ShowVersion)
    add(
        "hosts", nargs="*", metavar="HOST", help="a host, with its command port if not the default: HOST:PORT"
    )
    add("--user", help="user name for logins; default: the same as for pconnect")
    watch_help = "update the table every so many seconds, until Ctrl-C (default: 3)"
    add("--watch", nargs="?", const=3.0, type=_seconds, metavar="SECONDS", help=watch_help)
    json_help = "print the documents as one JSON list; with --watch, one line per update"
    add("--json", action="store_true", help=json_help)
    add_page_options(parser)
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not _LEAST_WATCH <= seconds <= _MOST_WATCH:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give a number of seconds from {_LEAST_WATCH:g} to {_MOST_WATCH:g}"
        )
    return seconds


def _run(options: argparse.Namespace) -> int:
    if options.serve is not None:
        return _serve(options)
    source = find_source(options)
    if source is None:
        sys.stderr.write(_NOTHING)
        return NOTHING_THERE
    try:
        if options.watch is None:
            answers = source.ask(_ANSWER_SECONDS, {} if options.json else None)
            _show(answers, Screen(), options)
            for answer in answers if not options.json else ():
                if answer.document is None:  # the table may have no room for the whole error
                    sys.stderr.write(
                        f"pstat: {printable_name(answer.name)}: {printable_name(answer.error)}\n"
                    )
            return int(any(answer.document is None for answer in answers))
        _watch(source, options)
    finally:
        source.close()


def _serve(options: argparse.Namespace) -> int:
    try:
        # A late import: the table in the terminal does not need these packages.
        pages = importlib.import_module("pserver.pstat.page")
    except ImportError as error:
        raise ConfigurationError(
            f"the page needs more packages ({error}); install them with: pip install 'pserver[page]'"
        ) from error
    status = pages.serve(find_source(options), options)
    return int(status)


def find_source(options: argparse.Namespace) -> Source | None:
    """Return the servers for a command line; ``None`` if there are none.

    Raises `ConfigurationError` if the hosts or the credentials are invalid.
    """
    if not options.hosts and list_servers():
        return OwnServers()
    # A late import: the client is slow to load, and the servers of this account do not need it.
    from pserver.pstat.logins import configured_hosts  # noqa: PLC0415

    return configured_hosts(options.hosts, options.user)


def _watch(source: Source, options: argparse.Namespace) -> NoReturn:
    """Show the table until Ctrl-C."""
    screen, seconds = Screen(), _ANSWER_SECONDS
    while True:
        begin = time.monotonic()
        answers = source.ask(seconds, {} if options.json else None)
        _show(answers, screen, options)
        seconds = max(options.watch, _AGAIN_SECONDS)
        time.sleep(max(0.0, begin + options.watch - time.monotonic()))


def _show(answers: Sequence[Answer], screen: Screen, options: argparse.Namespace) -> None:
    if options.json:
        indent = None if options.watch else 1
        screen.show([json.dumps([_document(answer) for answer in answers], indent=indent)])
        return
    is_again = options.watch is not None
    lines = [joined(line, screen.paint) for line in lines_of(answers, screen.columns)]
    if is_again:
        now = datetime.datetime.now().astimezone()
        lines = [f"{now:%H:%M:%S}  {summary(answers)}"[: screen.columns], *lines]
        lines += [""] * (not screen.is_terminal)
    screen.show(lines, again=is_again)


def _document(answer: Answer) -> object:
    """Return the document of a server; if it did not answer, its name and the reason."""
    if answer.document is not None:
        return answer.document
    return {"server": {"name": answer.name}, "error": answer.error}
