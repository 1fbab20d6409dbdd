"""The Unix account under which the sessions of a user run.

An account of the system is refused, root first of all: only those of people, and those that an administrator has made
for a purpose, have numbers from UID_MIN of login.defs(5) on.
"""

import os
import pwd
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pconnect.toml_file import read_toml
from srp_tools.errors import ConfigurationError

_LOGIN_DEFINITIONS = Path("/etc/login.defs")
_FIRST_NUMBER = 1000  # UID_MIN where the file does not say
_NOBODY = {65534, 65535, 2**32 - 2, 2**32 - 1}  # what has no account anywhere, by number


class Account(NamedTuple):
    """One Unix account."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  #: all, with `gid`
    home: str
    shell: str


def find_account(name: str) -> Account:
    """Return the account of a name.

    Raises `ConfigurationError` if there is none, or sessions must not run under it.
    """
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError, UnicodeEncodeError):
        raise ConfigurationError(f"there is no account {name!r} on this machine") from None
    return _checked(entry)


def account_of(uid: int) -> Account:
    """Return the account of a number. Raises `ConfigurationError` as `find_account` does."""
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        raise ConfigurationError(f"there is no account with the number {uid} on this machine") from None
    return _checked(entry)


def _checked(entry: pwd.struct_passwd) -> Account:
    first = _first_number()
    if entry.pw_uid < first or entry.pw_uid in _NOBODY:
        raise ConfigurationError(
            f"the account {entry.pw_name!r} (user id {entry.pw_uid}) belongs to the system: sessions run only under "
            f"accounts with numbers from {first} on (UID_MIN in {_LOGIN_DEFINITIONS})"
        )
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    shell = entry.pw_shell or "/bin/sh"
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir or "/", shell)


def _first_number() -> int:
    try:
        text = _LOGIN_DEFINITIONS.read_text(errors="replace")
    except OSError:
        return _FIRST_NUMBER
    found = re.search(r"^UID_MIN\s+([0-9]{1,10})\s*$", text, re.MULTILINE)
    # Root stays refused, whatever the file says.
    return max(1, int(found[1])) if found else _FIRST_NUMBER


def without_account(names: Mapping[str, str], users: Iterable[str]) -> dict[str, str]:
    """Return those users under whose accounts no session can run, each with the reason; `names`: see `read_map`."""
    found = {}
    for user in users:
        try:
            find_account(names.get(user, user))
        except ConfigurationError as error:
            found[user] = f"the user {user!r} cannot log in: {error}"
    return found


def read_map(path: str | os.PathLike[str] | None) -> Mapping[str, str]:
    """Return the names of accounts by user, from a file of TOML such as ``alice = "physics1"``.

    `path`: ``None`` for no file, so that all users have accounts of their own names.

    Raises `ConfigurationError` if it cannot be read; the text has the line.
    """
    if path is None:
        return {}
    file = read_toml(Path(path))
    if file is None:
        raise ConfigurationError(f"--account-map {path}: there is no such file that this account can read")
    for user, name in file.content.items():
        if not isinstance(name, str) or not name:
            raise file.error((user,), f"the account of {user!r} must be a text with its name")
    return file.content
