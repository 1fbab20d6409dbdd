"""Stand-ins: small shell scripts that are found instead of a program, and run it here or through `prun`.

Every call of a compiler passes through a stand-in, so it must be fast. It reads no file and starts no child process:
it replaces itself with the real program or with `prun`, whose agent decides the rest. The script itself recognizes
these local runs:

* calls by processes that a stand-in started (`pconnect.shadow.guard`),
* compiler calls without ``-c``, and compile steps that read standard input,
* every call while the agent reports that it has no network. To report it, the agent leaves a link to its own folder in
  ``/proc``, which dangles once the agent has ended.

The script's variables have long names so that they do not overwrite variables of the user's environment.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pconnect.shadow.guard import VARIABLE
from srp_tools.errors import ConfigurationError

#: The environment variables that determine the name of an agent, in the order of the name. `pconnect.prun.fast_client`
#: has the same list, but cannot be imported on platforms without stand-ins.
AGENT_VARIABLES = "PCONNECT_HOSTS", "PCONNECT_PROFILE", "PCONNECT_USER", "XDG_CONFIG_HOME"
_MARK = b"#!/bin/sh\n# pshadow 1 "
_MAX_BYTES = 65536  # a real stand-in has about 2,000 bytes, and a path has 4,096 at most
# The pattern of the built-in rule of `pconnect.prun.rules`.
_COMPILER = re.compile(r"([\w.]+-)*(gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(-\d+(\.\d+)*)?")

_HEAD = """\
# This script stands in for a program and may run it on a server. "pshadow off" removes it. Edits here are lost.
pshadow_real={real}
"""
_IN_PLACE = """\
if [ ! -x "$pshadow_real" ]; then
    # Either the folder of links is gone, or "pshadow off" has just put the program back.
    pshadow_real={kept}
    if [ ! -x "$pshadow_real" ]; then
        {{ read -r pshadow_word; read -r pshadow_word; }} 2>/dev/null <{program}
        case $pshadow_word in "# pshadow "*) ;; *) pshadow_real={program} ;; esac
    fi
fi
"""
_COMPILE_STEPS = """\
if [ -z "$pshadow_stay" ]; then
    # Only steps with -c may run on a server. The agent reads response files.
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
    # An agent without a network leaves a link to its own folder in /proc.
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
    """The facts about a stand-in.

    Attributes
    ----------
    program
        Absolute path that the stand-in passes to `prun`: the real program, or, in place, the path that users call.
    prun
        Absolute path of `prun`.
    in_place
        Whether the stand-in has the place of the program, which is kept as ``NAME_``.
    own_folder
        In place only: whether the program must find its own folder in ``argv[0]``, rather than its usual name.
    no_local
        Whether a call that should run on a server must never run here instead.
    """

    program: str
    prun: str
    in_place: bool = False
    own_folder: bool = False
    no_local: bool = False

    @property
    def name(self) -> str:
        """The name that users call."""
        return os.path.basename(self.program)  # noqa: PTH119 - a path need not be valid text

    def script(self, environment: Mapping[str, str]) -> bytes:
        """Return the script of the stand-in, for the agent of this environment."""
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
                f"pshadow: {self.prun} is gone, and --no-local forbids running this here; see: pshadow status"
            )
            made += tail + _ONLY_SERVERS.format(text=shlex.quote(text), **words)
        else:
            agent = _name_of_agent(environment)
            made += _WITHOUT_NETWORK.format(user=os.geteuid(), agent=agent, **words) + tail
        option = " --no-local" if self.no_local else ""
        made += f'exec {words["prun"]}{option} --shadow {words["program"]} "$@"\n'
        # JSON escapes line breaks and non-ASCII characters, so this is one line whatever the paths contain.
        return _MARK + f"{json.dumps(asdict(self))}\n{made}".encode(errors="surrogateescape")


def read_stand_in(path: str | os.PathLike[str]) -> StandIn | None:
    """Read a stand-in; return ``None`` if the file is not a stand-in or does not exist."""
    try:
        # Opening a pipe would block until its other end is open. A link is not a stand-in.
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
    """Return the lines of the script that set the name of the agent, or an empty name if it is unknown.

    The shell cannot compute a name, so the script knows two: that of this environment, and the default one.
    """
    joined = "".join(f"${{{name}-}}" for name in AGENT_VARIABLES)
    lines = [f'if [ -z "{joined}" ]; then', "        pshadow_agent=default"]
    if agent_name(environment) != "default":
        tests = " && ".join(
            f'[ "${{{name}-}}" = {shlex.quote(environment.get(name, ""))} ]' for name in AGENT_VARIABLES
        )
        lines += [f"    elif {tests}; then", f"        pshadow_agent={agent_name(environment)}"]
    return "\n".join([*lines, "    else", "        pshadow_agent=", "    fi"])
