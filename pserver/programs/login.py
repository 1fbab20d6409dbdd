"""A line for the login shell of the account, as ssh servers run it: the shell, its home, its environment."""

import errno
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What a login finds behind the server's own places. In the last are `prun-ssh` and the like, which some launchers look
# for at each node.
_PATH = "/usr/local/bin", "/usr/bin", "/bin", str(Path(sys.executable).parent)
_SHELL = "/bin/sh"
# Shells of accounts that only servers use. To run programs the network's user may do anyway.
_NO_SHELLS = {"nologin", "false"}
# Bash, as many distributions make it, reads ~/.bashrc if an ssh server has started it and no other shell: there are the
# paths of compilers and MPI.
_STARTED_BY_SERVER = {b"SSH_CLIENT": b"0.0.0.0 0 0", b"SHLVL": b"0"}


def through_login_shell(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request to start a program that is its login shell, which runs the line that `request` has.

    `request`: as of `pserver.programs.program.start`. Its ``args`` is one line, empty for the shell itself; ``login``
    the name of the account that this must be, empty for any. The home is that of the environment, if it has one.

    Raises
    ------
    PermissionError
        This is another account.
    """
    name, home, shell = _account()
    wanted = os.fsdecode(request["login"])
    if wanted not in {"", name}:
        raise PermissionError(errno.EPERM, f"the server runs as {name} and cannot become {wanted}")
    (line,) = request["args"]
    environment = {
        **_STARTED_BY_SERVER,
        b"PATH": os.fsencode(_with_usual_places(os.environ.get("PATH", ""))),
        b"HOME": os.fsencode(home),
        b"USER": os.fsencode(name),
        b"LOGNAME": os.fsencode(name),
        b"SHELL": os.fsencode(shell),
    }
    return {
        **request,
        "args": [os.fsencode(shell), b"-c", line] if line else [os.fsencode(shell), b"-l"],
        "cwd": os.fsencode(home),
        "env": environment | request["env"],
    }


def _account() -> tuple[str, str, str]:
    """Return name, home and shell; without an entry of this user, what does for most purposes."""
    try:
        entry = pwd.getpwuid(os.geteuid())
        name, home, shell = entry.pw_name, entry.pw_dir, entry.pw_shell
    except KeyError:
        name, home, shell = str(os.geteuid()), "/", _SHELL
    home = os.environ.get("HOME") or home
    if not (Path(home).is_absolute() and os.access(home, os.X_OK) and Path(home).is_dir()):
        home = "/"
    return name, home, _SHELL if not shell or Path(shell).name in _NO_SHELLS else shell


def _with_usual_places(path: str) -> str:
    places = [place for place in path.split(":") if place]
    return ":".join([*places, *(place for place in _PATH if place not in places)])
