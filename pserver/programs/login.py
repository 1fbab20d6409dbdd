"""Run a line in the login shell of the account, as ssh servers do, with its shell, home folder and environment."""

import errno
import os
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The PATH of a login, after the server's own folders. The last folder has `prun-ssh` and the like, which some launchers
# look for on each node.
_PATH = "/usr/local/bin", "/usr/bin", "/bin", str(Path(sys.executable).parent)
_SHELL = "/bin/sh"
# Shells of accounts that only services use. The user of the network may run programs anyway, so replace these.
_NO_SHELLS = {"nologin", "false"}
# In many distributions, bash reads ~/.bashrc if an ssh server has started it and it is not nested in another shell.
# That file often sets the paths of compilers and MPI.
_STARTED_BY_SERVER = {b"SSH_CLIENT": b"0.0.0.0 0 0", b"SHLVL": b"0"}


def through_login_shell(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request to start the account's login shell, which runs the line in `request`.

    `request`: as for `pserver.programs.program.start`. Its ``args`` is one line, empty for the shell itself; ``login``
    is the name that this account must have, empty for any. If the environment sets a home folder, that one is used.

    Raises
    ------
    PermissionError
        This is a different account.
    """
    name, home, shell = _account()
    wanted = os.fsdecode(request["login"])
    if wanted not in {"", name}:
        raise PermissionError(errno.EPERM, f"the server runs as {name} and cannot switch to {wanted}")
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
    """Return name, home folder and shell; defaults if the password database has no entry for this account."""
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
