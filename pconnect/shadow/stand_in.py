"""Stand-ins: small scripts of the shell that are found instead of a program, and decide what to do in its place.

Each start of a compiler passes here, so a stand-in starts nothing but what it becomes, and reads no file: the real
program at once, or `prun`, whose agent decides the rest. What surely stays here is decided by the arguments alone:

* what a stand-in has started itself (`pconnect.shadow.guard`),
* steps of a compiler other than ``-c``, and those whose source is standard input,
* everything, while the agent says that it has no network: it leaves a link to its own folder of ``/proc``, which leads
  nowhere once that agent has ended.

The variables of the script have long names: one of the user's environment with the same name would be changed.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pconnect.shadow.guard import VARIABLE
from srp_tools.errors import ConfigurationError

#: The variables of the environment that an agent is named by, in the order of its name. They are those of
#: `pconnect.prun.fast_client`, which cannot be imported where there are no stand-ins.
AGENT_VARIABLES = "PCONNECT_HOSTS", "PCONNECT_PROFILE", "PCONNECT_USER", "XDG_CONFIG_HOME"
_MARK = b"#!/bin/sh\n# pshadow 1 "
_MAX_BYTES = 65536  # of a stand-in; real ones have 2,000, and paths of programs have 4,096 at most
# The same as the built-in rule of `pconnect.prun.rules`.
_COMPILER = re.compile(r"([\w.]+-)*(gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(-\d+(\.\d+)*)?")

_HEAD = """\
# This stands in for a program: its work may go to servers. "pshadow off" takes it away. Changes here are lost.
pshadow_real={real}
"""
_IN_PLACE = """\
if [ ! -x "$pshadow_real" ]; then
    # Either its folder of links is gone, or "pshadow off" has put the program back a moment ago.
    pshadow_real={kept}
    if [ ! -x "$pshadow_real" ]; then
        {{ read -r pshadow_word; read -r pshadow_word; }} 2>/dev/null <{program}
        case $pshadow_word in "# pshadow "*) ;; *) pshadow_real={program} ;; esac
    fi
fi
"""
_COMPILE_STEPS = """\
if [ -z "$pshadow_stay" ]; then
    # Only steps with -c may go away. The agent reads files of arguments.
    pshadow_stay=1
    for pshadow_word do
        case $pshadow_word in
        -c) pshadow_stay= ;;
        @*) pshadow_stay=; break ;;
        -E | -M | -MM | -S | -) pshadow_stay=1; break ;;
        esac
    done
fi
"""
_WITHOUT_NETWORK = """\
[ -x {prun} ] || pshadow_stay=1
if [ -z "$pshadow_stay" ]; then
    # An agent without network leaves a link to its own folder of /proc.
    case ${{XDG_RUNTIME_DIR-}} in
    /*) pshadow_run=$XDG_RUNTIME_DIR/prun ;;
    *) pshadow_run=/tmp/prun-{user} ;;
    esac
    {agent}
    if [ -n "$pshadow_agent" ] && [ -O "$pshadow_run" ] && [ -e "$pshadow_run/$pshadow_agent.offline" ]; then
        pshadow_stay=1
    fi
fi
"""
_TAIL = """\
if [ -n "$pshadow_stay" ]; then
    {variable}=${{{variable}:-{name}}}
    export {variable}
    exec "$pshadow_real" "$@"
fi
"""
_ONLY_SERVERS = """\
if [ ! -x {prun} ]; then
    printf '%s\\n' {text} >&2
    exit 125
fi
"""


@dataclass(frozen=True)
class StandIn:
    """What a stand-in stands for.

    Attributes
    ----------
    program
        Absolute path that `prun` is told: the real program, and in place the one that users call.
    prun
        Absolute path of `prun`.
    in_place
        Whether the stand-in is in the place of the program, which is kept beside.
    own_folder
        Whether the program, in place, has to see its own folder in its first argument, rather than the name that it
        expects there.
    no_local
        Whether what is to go away must not be run here because there is no network.
    """

    program: str
    prun: str
    in_place: bool = False
    own_folder: bool = False
    no_local: bool = False

    @property
    def name(self) -> str:
        """The name that users call."""
        return os.path.basename(self.program)  # noqa: PTH119 - its bytes need not be text

    def script(self, environment: Mapping[str, str]) -> bytes:
        """Return the stand-in, for agents of this environment."""
        folder, name = os.path.split(self.program)
        real = self.program
        if self.in_place:
            real = f"{self.program}_" if self.own_folder else f"{folder}/.pshadow/bin/{name}"
        words = {key: shlex.quote(value) for key, value in (("real", real), ("program", self.program),
                 ("kept", f"{self.program}_"), ("prun", self.prun), ("name", name))}  # fmt: skip
        parts = [_HEAD, _IN_PLACE] if self.in_place else [_HEAD]
        parts.append(f"pshadow_stay=${{{VARIABLE}-}}\n")
        made = "".join(part.format(**words) for part in parts[:-1]) + parts[-1]
        if is_compiler(name):
            made += _COMPILE_STEPS
        tail = _TAIL.format(variable=VARIABLE, **words)
        if self.no_local:
            text = (
                f"pshadow: {self.prun} is gone, and --no-local forbids to run this here; see: pshadow status"
            )
            made += tail + _ONLY_SERVERS.format(text=shlex.quote(text), **words)
        else:
            agent = _name_of_agent(environment)
            made += _WITHOUT_NETWORK.format(user=os.geteuid(), agent=agent, **words) + tail
        option = " --no-local" if self.no_local else ""
        made += f'exec {words["prun"]}{option} --shadow {words["program"]} "$@"\n'
        # JSON writes what is not ASCII as escapes, so this is one line whatever the paths contain.
        return _MARK + f"{json.dumps(asdict(self))}\n{made}".encode(errors="surrogateescape")


def read_stand_in(path: str | os.PathLike[str]) -> StandIn | None:
    """Return what a file stands for, ``None`` if it is no stand-in, or is not there."""
    try:
        # Not as a pipe is, which waits for the other end, and not by a link, which is no stand-in.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            if file.read(len(_MARK)) != _MARK:
                return None
            facts = json.loads(file.readline(_MAX_BYTES))
            return StandIn(**facts)
    except (OSError, ValueError, TypeError):
        return None


def is_compiler(name: str) -> bool:
    """Return whether a program of this name compiles C or C++.

    Examples
    --------
    >>> is_compiler("x86_64-linux-gnu-g++-12"), is_compiler("ld")
    (True, False)
    """
    return _COMPILER.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Raise `ConfigurationError` if no stand-in can have this name."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name or "\n" in name:
        raise ConfigurationError(f"{name!r} is not the name of a program")
    if name in {"prun", "prun-ssh", "pshadow"}:
        raise ConfigurationError(f"{name} cannot be shadowed: stand-ins run it")


def agent_name(environment: Mapping[str, str]) -> str:
    """Return the name of the agent that serves an environment."""
    given = [f"{name}={environment[name]}" for name in AGENT_VARIABLES if environment.get(name)]
    if not given:
        return "default"
    number = 0xCBF29CE484222325
    for byte in "\0".join(given).encode(errors="surrogateescape"):
        number = (number ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{number:016x}"


def _name_of_agent(environment: Mapping[str, str]) -> str:
    """Return the lines of the script that find which agent is meant, or none.

    The shell cannot compute a name, so it knows that of the environment here and that without any of the variables.
    """
    joined = "".join(f"${{{name}-}}" for name in AGENT_VARIABLES)
    lines = [f'if [ -z "{joined}" ]; then', "        pshadow_agent=default"]
    if agent_name(environment) != "default":
        tests = " && ".join(
            f'[ "${{{name}-}}" = {shlex.quote(environment.get(name, ""))} ]' for name in AGENT_VARIABLES
        )
        lines += [f"    elif {tests}; then", f"        pshadow_agent={agent_name(environment)}"]
    return "\n".join([*lines, "    else", "        pshadow_agent=", "    fi"])
