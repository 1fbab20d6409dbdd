"""Advice for a server without users: mostly, their file is on another machine, where the user was created."""

import getpass
import os
import shlex
import socket
from pathlib import Path

from srp_tools.private_files import client_file, server_file


def no_users(path: Path) -> str:
    """Return a message that a server has no users, with advice; `path`: its users' file, missing or empty."""
    what = (
        f"{path} has no users" if path.exists() else f"there is no file {path} with the users of this server"
    )
    from_there = _from_another_machine(path)
    option = "" if path == server_file() else f" --folder DIR, then --auth-file {path}"
    anew = f"create the first user here: generate-srp-data{option}"
    if client_file().exists():
        return (
            f"{what}, but this machine has a client's file, so a user already exists: {from_there}. Or {anew}; "
            "that replaces the client's file, and the new password works only on servers with the new users' file"
        )
    if (came_from := _ssh_client()) is not None:
        return f"{what}. You came from {came_from}: {from_there}. If you have no users on any machine yet, {anew}"
    return f"{what}. If you have no users on any machine yet, {anew}. Otherwise, {from_there}"


def _from_another_machine(path: Path) -> str:
    host = shlex.quote(f"{_account()}{socket.gethostname()}")
    if path == server_file():
        commands = (
            f"ssh {host} mkdir -p .config/pserver; scp -rp ~/.config/pserver/server {host}:.config/pserver/"
        )
    else:
        commands = f"scp -p ~/.config/pserver/server/tpasswd* {host}:{shlex.quote(str(path.parent))}/"
    return f"copy the users from the machine on which you ran generate-srp-data; run this command there: {commands}"


def _account() -> str:
    try:
        return f"{getpass.getuser()}@"
    except (KeyError, OSError):  # an account without a name
        return ""


def _ssh_client() -> str | None:
    """Return the address of the ssh client of this shell; ``None`` without ssh."""
    return next(iter(os.environ.get("SSH_CONNECTION", "").split()), None)
