"""The Unix account that runs the sessions of a user.

System accounts are refused, above all root. The accounts of people, and those that an administrator has created for a
purpose, have user ids from UID_MIN of login.defs(5) on.
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
_FIRST_NUMBER = 1000  # UID_MIN if the file does not set it
_NOBODY = {65534, 65535, 2**32 - 2, 2**32 - 1}  # user ids that belong to no account on any system


class Account(NamedTuple):
    """One Unix account."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  #: all groups, including `gid`
    home: str
    shell: str


def find_account(name: str) -> Account:
    """Return the account with a name.

    Raises `ConfigurationError` if there is none, or sessions must not run under it.
    """
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError, UnicodeEncodeError):
        raise ConfigurationError(f"there is no account {name!r} on this machine") from None
    return _checked(entry)


def account_of(uid: int) -> Account:
    """Return the account with a user id. Raises `ConfigurationError` like `find_account`."""
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        raise ConfigurationError(f"there is no account with the user id {uid} on this machine") from None
    return _checked(entry)


def _checked(entry: pwd.struct_passwd) -> Account:
    first = _first_number()
    if entry.pw_uid < first or entry.pw_uid in _NOBODY:
        raise ConfigurationError(
            f"the account {entry.pw_name!r} (user id {entry.pw_uid}) belongs to the system: sessions run only under "
            f"accounts with user ids from {first} on (UID_MIN in {_LOGIN_DEFINITIONS})"
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
    # Refuse root, even if the file allows it.
    return max(1, int(found[1])) if found else _FIRST_NUMBER


def without_account(names: Mapping[str, str], users: Iterable[str]) -> dict[str, str]:
    """Return the users whose accounts cannot run sessions, each with the reason. `names`: see `read_map`."""
    found = {}
    for user in users:
        try:
            find_account(names.get(user, user))
        except ConfigurationError as error:
            found[user] = f"the user {user!r} cannot log in: {error}"
    return found


def read_map(path: str | os.PathLike[str] | None) -> Mapping[str, str]:
    """Return the account names of users, from a TOML file such as ``alice = "physics1"``.

    `path`: ``None`` for no file; then every user has the account of the same name.

    Raises `ConfigurationError` if it cannot be read; the text has the line.
    """
    if path is None:
        return {}
    file = read_toml(Path(path))
    if file is None:
        raise ConfigurationError(
            f"--account-map {path}: there is no such file, or this account cannot read it"
        )
    for user, name in file.content.items():
        if not isinstance(name, str) or not name:
            raise file.error(
                (user,), f"the account of {user!r} must be a string with the name of the account"
            )
    return file.content
