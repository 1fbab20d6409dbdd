"""Permanent switch of a root process to another account, and the confinement of processes that talk to strangers."""

import contextlib
import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

from pserver.accounts.account import Account
from pserver.system.processes import deny_new_privileges, die_with_parent, set_dumpable

# The variables that an account inherits from the server's environment; all others are root's own.
_KEPT = {"LANG", "LANGUAGE", "TZ", "JOURNAL_STREAM"}
_KEPT_BEGINNINGS = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "BLIS_")
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"  # as set by login(1) in Debian

_NOBODY = 65534
_NONE = (0, 0)
_MAX_DESCRIPTOR = 2**31 - 1


def become(account: Account, *, is_dumpable: bool) -> None:
    """Switch this root process permanently to an account, with its groups, home folder and environment.

    `is_dumpable`: whether other processes of the account may inspect this one, as debuggers do. If so, its standard
    streams are closed off, because root's may lead to the log.

    Raises `OSError` if the system refuses; then the process must end.
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
    set_dumpable(is_dumpable)  # after the switch, the system denies it by default


def common_environment() -> dict[str, str]:
    """Return the variables of this environment that are meant for all accounts."""
    return {name: value for name, value in os.environ.items() if _is_kept(name)} | {"PATH": _PATH}


def _is_kept(name: str) -> bool:
    return name in _KEPT or name.startswith(_KEPT_BEGINNINGS)


@contextlib.contextmanager
def acting_as_owner(folder: Path) -> Iterator[None]:
    """In this context, access files with the rights of a folder's owner, if this process is root's.

    The process has no groups in the meantime, neither its own nor the owner's. So no link that an account puts into its
    folder gives access to another account's files. Raises `OSError` if the folder does not exist.
    """
    uid = folder.lstat().st_uid if os.geteuid() == 0 else 0
    if not uid:
        yield
        return
    groups, gid = os.getgroups(), os.getegid()
    try:
        os.setgroups([])  # while this process still may; its own files need no group
        os.setegid(_NOBODY)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def confine(keep: Sequence[int]) -> list[int]:
    """Take away everything from this root process except some descriptors; return their new numbers.

    Afterwards, it runs as the account ``nobody``, cannot start processes or open files and connections, cannot be
    inspected by other processes, and ends with its parent. Raises `OSError` if the system refuses; then the process
    must end.
    """
    kept = _close_others(keep)
    os.chdir("/")
    os.environ.clear()
    resource.setrlimit(resource.RLIMIT_NPROC, _NONE)
    resource.setrlimit(resource.RLIMIT_FSIZE, _NONE)
    resource.setrlimit(resource.RLIMIT_CORE, _NONE)
    # Allow one more descriptor than there are: each wait needs one while it lasts.
    highest = max(kept) + 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    leave_root()
    die_with_parent()  # the kernel resets this when the account changes
    return kept


def leave_root() -> None:
    """Switch this root process permanently to the account ``nobody``; no other process can inspect it.

    Raises `OSError` if the system refuses; then the process must end.
    """
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    deny_new_privileges()
    set_dumpable(False)


def leave_streams() -> None:
    """Redirect the standard streams to the null device, because root's may lead to the log."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _close_others(keep: Sequence[int]) -> list[int]:
    """Close all descriptors except some, which are renumbered from 3 on; redirect the standard streams to null."""
    first = max(*keep, 2) + 1
    moved = [os.dup2(descriptor, first + place, inheritable=False) for place, descriptor in enumerate(keep)]
    leave_streams()
    kept = []
    for place, descriptor in enumerate(moved):
        kept.append(os.dup2(descriptor, 3 + place, inheritable=False))
    os.closerange(3 + len(keep), _MAX_DESCRIPTOR)
    return kept
