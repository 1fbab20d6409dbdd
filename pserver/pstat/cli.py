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

_ANSWER_SECONDS = 5.0  # for a login and the answer
_AGAIN_SECONDS = 2.0  # the same while it watches: one that hangs delays the others
_LEAST_WATCH, _MOST_WATCH = 0.2, 86400.0
NOTHING_THERE = 3
_NOTHING = """\
pstat: no server of this account is running here, and no hosts are configured; name hosts: pstat alpha beta:12600
"""

_EPILOG = f"""\
Without HOST: the servers of this account on this machine; if there are none, the hosts of the configuration of
pconnect. At a HOST you log in as pconnect does. {LEGEND}.
Exit status: 0 if all servers have answered, 1 if one has not or after an error, 2 for wrong usage, 3 if there is no
server to ask, 130 after Ctrl-C.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    `argv`: the arguments; ``None`` stands for those of the process. Returns the exit status: 0 if all servers have
    answered; 1 if one has not, or after an error that standard error shows; 3 if there is no server to ask; 130 after
    Ctrl-C. Raises `SystemExit` with status 2 for wrong usage, 0 for ``--help``.
    """
    return run_command("pstat", lambda: _run(_parser().parse_args(argv)))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="pstat",
        description="Show what servers have done, and how they are.",
        epilog="\n".join(textwrap.wrap(" ".join(_EPILOG.split()), 100)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--version", action=ShowVersion)
    add("hosts", nargs="*", metavar="HOST", help="a host, with the command port if it is another: HOST:PORT")
    add("--user", help="the user for the logins; default: as for pconnect")
    watch_help = "show it again and again, every so many seconds, until Ctrl-C (default: 3)"
    add("--watch", nargs="?", const=3.0, type=_seconds, metavar="SECONDS", help=watch_help)
    json_help = "print the documents as one JSON list; with --watch, a line each time"
    add("--json", action="store_true", help=json_help)
    add_page_options(parser)
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not _LEAST_WATCH <= seconds <= _MOST_WATCH:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, from {_LEAST_WATCH:g} to {_MOST_WATCH:g}")
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
                if answer.document is None:  # in the table there may be no room for all of it
                    sys.stderr.write(
                        f"pstat: {printable_name(answer.name)}: {printable_name(answer.error)}\n"
                    )
            return int(any(answer.document is None for answer in answers))
        _watch(source, options)
    finally:
        source.close()


def _serve(options: argparse.Namespace) -> int:
    try:
        # Late: a table in the terminal does without what it brings.
        pages = importlib.import_module("pserver.pstat.page")
    except ImportError as error:
        raise ConfigurationError(
            f"the page needs more packages ({error}); install them with: pip install 'pserver[page]'"
        ) from error
    status = pages.serve(find_source(options), options)
    return int(status)


def find_source(options: argparse.Namespace) -> Source | None:
    """Return the servers that a command line means; ``None`` if there are none.

    Raises `ConfigurationError` if the hosts or the credentials cannot be used.
    """
    if not options.hosts and list_servers():
        return OwnServers()
    # Late: it brings the client with it, which servers of this account need not wait for.
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
    """Return what a server has said; if it has not, its name and why."""
    if answer.document is not None:
        return answer.document
    return {"server": {"name": answer.name}, "error": answer.error}
