"""The input for a host's shell, and the parser of its output.

The login shell may be anything: csh, fish, a bash whose startup files print text. It gets one line in single quotes,
without characters that any of these shells treats specially, and that line runs ``/bin/sh``. Everything else arrives on
standard input: first a script for ``/bin/sh``, which finds a Python, then a program for that Python, then the program's
input.

The output of startup files appears before the answer or between its lines. Each line of the answer therefore begins
with a mark that is random for each call.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pserver.deploy import agent

# `head -c` reads exactly this many bytes; `sh -s` could read more, and the rest is for Python.
_COMMAND = "/bin/sh -c 'eval \"$(head -c {size})\"'"

# Usual places of Pythons that are not in the PATH of a shell without a terminal.
_USUAL_PLACES = (
    "/usr/local/bin/python3",
    "$HOME/miniforge3/bin/python3",
    "$HOME/miniconda3/bin/python3",
    "$HOME/anaconda3/bin/python3",
    "/opt/conda/bin/python3",
)
_NEWEST_MINOR = 15  # newer versions are found as python3

_BOOT = "import sys; exec(compile(sys.stdin.buffer.read(int(sys.argv[1])), 'deploy', 'exec'))"
_PROBE = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"

_FIND = """\
for python in {candidates}; do
    found=$(command -v "$python" 2>/dev/null) || continue
    version=$("$found" -I -c {probe} 2>/dev/null </dev/null) || {{
        version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null </dev/null) || continue
        version="$version, without venv"
    }}
    case $version in
    3.1[1-9] | 3.[2-9][0-9]) exec "$found" -I -c {boot} {size} {mark} ;;
    esac
    printf '\\n%s\\n' {mark}"tried $found ($version)"
done
printf '\\n%s\\n' {mark}"no python"
"""

# Runs in a shell as after a login, where `module` and similar commands are defined, with standard input hidden from it.
_SET_UP = """\
shell=sh
command -v bash >/dev/null 2>&1 && shell=bash
exec $shell -l -c {body} 3<&0 </dev/null
"""
_AFTER_LOGIN = """\
{{ {setup}
}} || {{ printf '\\n%s\\n' {mark}"setup failed with status $?"; exit 1; }}
exec 0<&3 3<&-
"""


def candidates(python: str | None) -> list[str]:
    """Return the Pythons to try, as words for a shell: the named one, or else the client's version first.

    Functions transfer most reliably between equal minor versions.
    """
    if python is not None:
        home, rest = ("$HOME/", python[2:]) if python.startswith("~/") else ("", python)
        return [f'"{home}"{shlex.quote(rest)}' if home else shlex.quote(rest)]
    ours = sys.version_info.minor
    others = [f"python3.{minor}" for minor in range(_NEWEST_MINOR, 10, -1) if minor != ours]
    names = [f"python3.{ours}", "python3", "python", *others]
    return [*names, *(f'"{place}"' for place in _USUAL_PLACES)]


def script(mark: str, program_size: int, python: str | None = None, setup: str | None = None) -> str:
    """Return the script for ``/bin/sh``.

    `mark`: the beginning of each line of the answer. `program_size`: bytes of the program that follows. `python`: a
    path or a name. `setup`: shell lines to run first.
    """
    find = _FIND.format(
        candidates=" ".join(candidates(python)),
        probe=shlex.quote(_PROBE),
        boot=shlex.quote(_BOOT),
        size=program_size,
        mark=mark,
    )
    if setup is None:
        return find
    return _SET_UP.format(body=shlex.quote(_AFTER_LOGIN.format(setup=setup, mark=mark) + find))


def command_and_input(
    mark: str, request: dict[str, Any], python: str | None, setup: str | None
) -> tuple[str, bytes]:
    """Return the line for the login shell, and the standard input before the contents of files."""
    program = Path(agent.__file__).read_bytes()
    text = script(mark, len(program), python, setup).encode()
    return _COMMAND.format(size=len(text)), text + program + json.dumps(request).encode() + b"\n"


def read_answer(mark: str, line: str) -> dict[str, Any] | None:
    """Return the contents of a line of the answer; ``None`` for other output.

    Examples
    --------
    >>> read_answer("@7f3a@", "Welcome to alpha!")
    >>> read_answer("@7f3a@", '@7f3a@{"step": "starting"}')
    {'step': 'starting'}
    >>> read_answer("@7f3a@", "@7f3a@tried /usr/bin/python3 (3.9)")
    {'tried': '/usr/bin/python3 (3.9)'}
    """
    if not line.startswith(mark):
        return None
    text = line.removeprefix(mark).strip()
    if text.startswith("{"):
        answer: dict[str, Any] = json.loads(text)
        return answer
    word, _, rest = text.partition(" ")
    return {word: rest}


def why_no_python(tried: Sequence[str], python: str | None, host: str) -> str:
    """Explain why no Python on the host is suitable, and suggest a remedy."""
    needed = "Python 3.11 or newer with the venv module"
    remedy = f"name one with --python {host}=PATH, or load one with --setup {shlex.quote(f'{host}=module load python')}"
    if any("without venv" in each for each in tried):
        remedy = f"install it (on Debian and Ubuntu the package python3-venv), or {remedy}"
    if python is not None:
        found = "cannot be run" if not tried else f"is {tried[0]}"
        return f"{python} {found}, but {needed} is needed: {remedy}"
    found = f"only found {', '.join(tried)}" if tried else "found no Python"
    return f"{found}, but {needed} is needed: {remedy}"
