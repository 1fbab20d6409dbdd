"""The account of one session, for a server that root has started."""

import contextlib
import errno
import os
import pwd
import shlex
import stat
from pathlib import Path

from pserver.accounts.account import Account, find_account
from pserver.accounts.privileges import become
from srp_tools.credentials import is_member
from srp_tools.errors import ConfigurationError, ConnectionLostError

_NO_GROUP = 65534
_FOLDERS = "accounts"  # the server's folder with one folder for each account
_MAX_LINKS = 40  # the kernel follows the same number


class SessionAccount:
    """The account that a session will run under.

    `name`: the name of the account, which may not exist. A member, which runs no code, gets ``nobody``. `kept`: the
    server's folder for the results of detached networks.

    Attributes
    ----------
    account
        The account; ``None`` if it does not exist, or sessions must not run under it.
    kept
        The corresponding folder for this account alone.
    """

    def __init__(self, name: str, kept: Path) -> None:
        self.account: Account | None
        self._has_folder = not is_member(name)
        if not self._has_folder:
            self.account, self.kept = _nobody(), kept
            return
        try:
            self.account = find_account(name)
        except ConfigurationError as error:
            self.account, self._why = None, str(error)
            _look_up_groups(name)
        self.kept = account_folder(kept, name) / kept.name if self.account else kept

    def become(self) -> None:
        """Switch this process to the account, and create the account's own folders.

        No other process may inspect this one: it holds the keys of its node, and communicates with the daemon.

        Raises `ConnectionLostError` if there is no account, or the system refuses.
        """
        if self.account is None:
            raise ConnectionLostError(self._why)
        try:
            if self._has_folder:
                make_account_folder(self.kept.parent, self.account)
            become(self.account, is_dumpable=False)
        except OSError as error:
            raise ConnectionLostError(
                f"cannot switch to the account {self.account.name!r}: {error}"
            ) from error


def _nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, (entry.pw_gid,), "/", "/bin/false")


def _look_up_groups(name: str) -> None:
    """Look up the groups of a name that has no account, as `find_account` does for existing ones.

    The lookup may involve another machine. So a client cannot tell from the response time whether the account exists.
    """
    with contextlib.suppress(OSError, ValueError):  # it is not a valid account name
        os.getgrouplist(name, _NO_GROUP)


def account_folder(kept: Path, name: str) -> Path:
    """Return the folder of an account, next to `kept`, the folder of the whole server."""
    return kept.with_name(_FOLDERS) / name


def account_folders(kept: Path) -> list[Path]:
    """Return the existing folders of accounts. `kept`: see `account_folder`."""
    try:
        return sorted(path for path in kept.with_name(_FOLDERS).iterdir() if path.is_dir())
    except OSError:
        return []


def make_account_folder(folder: Path, account: Account) -> None:
    """Create the folder of an account, closed to all others; give it to the account if it does not own it yet."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchown(descriptor, account.uid, account.gid)
    finally:
        os.close(descriptor)


def make_way(kept: Path) -> None:
    """Create the parent folder of the accounts' folders, and let all accounts pass through it.

    `kept`: see `account_folder`. Raises `ConfigurationError` if it cannot be created, or if other accounts cannot pass
    through a folder above it, or can modify one.
    """
    folder = kept.with_name(_FOLDERS)
    try:
        _check_way(folder)
        for missing in [each for each in reversed([folder, *folder.parents]) if not each.is_dir()]:
            missing.mkdir(mode=0o711)
        _check_way(folder)
        for own in (folder, folder.parent):  # the server's folder may have been created for root alone
            own.chmod(0o711)
    except OSError as error:
        raise ConfigurationError(
            f"--spool-dir: cannot create the folder {folder}: {error.strerror}; give another folder"
        ) from error
    for above in folder.parents:
        if not stat.S_IMODE(above.stat().st_mode) & 0o001:
            raise ConfigurationError(
                f"--spool-dir: users' accounts cannot pass through {above} to {folder}: give another folder, or let "
                f"them pass with: chmod o+x {shlex.quote(str(above))}"
            )


def _check_way(folder: Path) -> None:
    """Refuse a folder that another account could replace, through a folder above it or a link in its path.

    The check stops at the first missing part. Raises `ConfigurationError` for a replaceable folder, and `OSError` if a
    part of the path cannot be inspected.
    """
    place, names, links = Path("/"), list(folder.absolute().parts), 0
    while names:
        place = Path(os.path.normpath(place / names.pop(0)))  # the base has no links
        try:
            facts = place.lstat()
        except FileNotFoundError:
            return
        is_link = stat.S_ISLNK(facts.st_mode)
        writers = 0o002 | (0o020 if facts.st_gid else 0)
        is_open = not is_link and facts.st_mode & writers and not facts.st_mode & stat.S_ISVTX
        if is_open or facts.st_uid not in {0, os.geteuid()}:
            raise ConfigurationError(
                f"--spool-dir: other accounts can change {place}, which is part of the path to {folder}: give another "
                "folder; every part of its path must belong to root, and be writable only by root"
            )
        if is_link:
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            names[:0] = place.readlink().parts
            place = place.parent
