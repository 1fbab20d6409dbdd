"""How a process of root becomes another account, for good, and how one is confined that talks to strangers."""

import contextlib
import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from pserver.accounts.account import Account
from pserver.system.processes import deny_new_privileges, die_with_parent, set_dumpable

# What an account takes over from the environment of the server; the rest is root's.
_KEPT = {"LANG", "LANGUAGE", "TZ", "JOURNAL_STREAM"}
_KEPT_BEGINNINGS = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "BLIS_")
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"  # that of login(1) in Debian

_NOBODY = 65534
_NONE = (0, 0)
_MAX_DESCRIPTOR = 2**31 - 1


def become(account: Account, *, is_dumpable: bool) -> None:
    """Have this process, which is root's, run under an account from now on, with its groups, folder and environment.

    `is_dumpable`: whether other processes of the account may look into this one, as debuggers do. Then its standard
    streams lead nowhere, as root's may be the log.

    Raises `OSError` if the system refuses; the process must end then.
    """
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    names = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell}
    environment = common_environment() | names
    os.environ.clear()
    os.environ.update(environment)
    os.umask(0o022)
    try:
        os.chdir(account.home)
    except OSError:
        os.chdir("/")
    if is_dumpable:
        leave_streams()
    set_dumpable(is_dumpable)  # the system has denied it until now


def common_environment() -> dict[str, str]:
    """Return what of this environment is for all accounts."""
    return {name: value for name, value in os.environ.items() if _is_kept(name)} | {"PATH": _PATH}


def _is_kept(name: str) -> bool:
    return name in _KEPT or name.startswith(_KEPT_BEGINNINGS)


@contextlib.contextmanager
def acting_as_owner(folder: Path) -> Iterator[None]:
    """Have the files of this process, if it is root's, be looked at and changed with the rights of a folder's owner.

    It has no groups meanwhile, neither its own nor the owner's. So no link that an account puts into its folder leads
    to what is another's. Raises `OSError` if there is no such folder.
    """
    uid = folder.lstat().st_uid if os.geteuid() == 0 else 0
    if not uid:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups([])  # while this process still may; what is its own needs no group
        os.setegid(_NOBODY)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def confine(keep: Sequence[int]) -> list[int]:
    """Take all from this process, which is root's, but some descriptors; return their new numbers.

    It has the account ``nobody`` then, starts no process, opens no file and no connection, no other process can look
    into it, and it ends with its parent. Raises `OSError` if the system refuses; the process must end then.
    """
    kept = _close_others(keep)
    os.chdir("/")
    os.environ.clear()
    resource.setrlimit(resource.RLIMIT_NPROC, _NONE)
    resource.setrlimit(resource.RLIMIT_FSIZE, _NONE)
    resource.setrlimit(resource.RLIMIT_CORE, _NONE)
    # One more than there are: what waits needs one, for as long as it waits.
    highest = max(kept) + 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    leave_root()
    die_with_parent()  # the system forgets it when the account changes
    return kept


def leave_root() -> None:
    """Give this process, which is root's, the account ``nobody`` for good; no other process can look into it.

    Raises `OSError` if the system refuses; the process must end then.
    """
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    deny_new_privileges()
    set_dumpable(False)


def leave_streams() -> None:
    """Have the standard streams lead nowhere: what is written to root's may be the log."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _close_others(keep: Sequence[int]) -> list[int]:
    """Close all descriptors but some, which get the numbers from 3 on; the standard streams lead nowhere."""
    first = max(*keep, 2) + 1
    moved = [os.dup2(descriptor, first + place, inheritable=False) for place, descriptor in enumerate(keep)]
    leave_streams()
    kept = []
    for place, descriptor in enumerate(moved):
        kept.append(os.dup2(descriptor, 3 + place, inheritable=False))
    os.closerange(3 + len(keep), _MAX_DESCRIPTOR)
    return kept
