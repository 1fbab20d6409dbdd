"""The options of `prun`, which override the rules."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from pconnect.errors import ConfigurationError
from pconnect.prun.settings import Explained

HELP = """\
usage: prun [options] PROGRAM [ARGUMENT...]   run a program on a server
       prun --explain [options] PROGRAM ...   show what prun would do, and why
       prun --which PROGRAM                   path and version on each machine
       prun --slots | --report                total of slots; where programs ran
       prun --agent status|stop               the process that keeps the network

Streams, signals and exit status work as if the program ran here.
Where it runs:
  --on HOST            on this server (several: --on A --on B)
  --ordered            the first of them with a free slot, not the least loaded
  --accept CONDITION   where it holds, such as 'memory>8G and cpus>=4'
  --queue-timeout S    wait at most S seconds for a slot; then status 124
  --or-local           here, if no server can run it;   --no-local  never here
Its folder on the server, by default the one with the path of this folder:
  --cd DIR             run it in this folder of the server
  --map-dir HERE=THERE the folder HERE has the path THERE on the server
  --send FILE          send it before;   --fetch FILE  fetch it afterwards
  --sync               send this folder before, fetch changes afterwards
Environment, terminal and limits:
  --env NAME[=VALUE]   pass a variable;  --env-all  all but HOME, PATH and such
  -n                   no standard input
  -t, -T               a terminal, or none (default: if stdin and stdout are)
  --time-limit S       end it after S seconds; then status 124
  --nice N             lower its priority by 0 to 19
  --repeatable         it may run again if its server is lost
Exit status: its own; 124 time limit, 125 prun failed, 126 cannot be executed,
127 not found, 128+n signal n. prun.toml has rules for programs.
"""

#: The actions other than running a program.
ACTIONS = ("explain", "which", "slots", "report", "agent-status", "agent-stop")


@dataclass(frozen=True)
class CommandLine:
    """A command line: `action`, one of `ACTIONS` or empty; the `given` settings; the program's `words`.

    `is_shadow`: whether a stand-in called `prun`. Then the first word is the path of its program.
    """

    action: str
    given: dict[str, object]
    words: tuple[str, ...]
    is_shadow: bool

    def over(self, rules: Explained) -> Explained:
        """Return the settings of the rules, overridden or extended by those of the command line."""
        given = dict(self.given)
        if "map_dir" in given:
            given["map_dir"] = (*given["map_dir"], *rules.settings.map_dir)  # type: ignore[misc]
        if "env" in given:
            given["env"] = (*rules.settings.env, *given["env"])  # type: ignore[misc]
        return rules.changed(given, "the command line")


def parse(words: Sequence[str]) -> CommandLine:
    """Parse a command line; raise `ConfigurationError` if it is invalid."""
    options = vars(_PARSER.parse_args(list(words)))
    rest = tuple(options.pop("words"))
    rest = rest[1:] if rest[:1] == ("--",) else rest
    is_shadow = options.pop("is_shadow", False)
    action = options.pop("action", "")
    has_program = action in {"", "explain", "which"}
    if not has_program and rest:
        raise ConfigurationError(f"--{action} takes no program")
    if has_program and not rest:
        raise ConfigurationError("name a program to run; prun --help shows how")
    if action not in {"", "explain"} and options:
        raise ConfigurationError(f"--{action} takes no other options")
    for name in ("on", "map_dir", "send", "fetch", "env"):
        if name in options:
            options[name] = tuple(options[name])
    return CommandLine(action, options, rest, is_shadow)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message}; prun --help shows the options")


def _pair(text: str) -> tuple[str, str]:
    here, equals, there = text.partition("=")
    if not (here and equals and there):
        raise argparse.ArgumentTypeError(f"{text!r}: write HERE=THERE")
    if not (here.startswith("/") and there.startswith("/")):
        raise argparse.ArgumentTypeError(f"{text!r}: give absolute paths")
    return here, there


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds, more than 0")
    return seconds


def _nice(text: str) -> int:
    if text not in {str(number) for number in range(20)}:
        raise argparse.ArgumentTypeError(f"{text!r}: a priority can be lowered by 0 to 19")
    return int(text)


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="prun", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    add = parser.add_argument
    for action in ACTIONS:
        add(f"--{action}", action="store_const", dest="action", const=action)
    add("--on", action="append")
    add("--ordered", action="store_true")
    add("--accept")
    add("--queue-timeout", dest="queue_limit", type=_seconds)
    add("--or-local", dest="or_here", action="store_true")
    add("--no-local", dest="or_here", action="store_false")
    add("--cd", dest="cwd")
    add("--map-dir", action="append", type=_pair)
    add("--send", action="append")
    add("--fetch", action="append")
    add("--sync", action="store_true")
    add("--env", action="append")
    add("--env-all", action="store_true")
    add("-n", "--no-stdin", dest="stdin", action="store_false")
    add("-t", "--terminal", dest="terminal", action="store_true")
    add("-T", "--no-terminal", dest="terminal", action="store_false")
    add("--time-limit", type=_seconds)
    add("--nice", type=_nice)
    add("--repeatable", action="store_true")
    add("--shadow", dest="is_shadow", action="store_true")  # for stand-ins
    add("words", nargs=argparse.REMAINDER, default=[])
    return parser


_PARSER = _make_parser()
