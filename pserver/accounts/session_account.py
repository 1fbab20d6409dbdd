"""The account of one session of a server of root."""

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
_FOLDERS = "accounts"  # of a server, with one folder for each account
_MAX_LINKS = 40  # as many as the system follows


class SessionAccount:
    """The account that a session is going to have.

    `name`: of the account; there may be none. For a member, which runs nothing, it is ``nobody``. `kept`: where a
    server keeps what detached networks leave.

    Attributes
    ----------
    account
        The account; ``None`` if there is none of that name, or sessions must not have it.
    kept
        The same folder for this account alone.
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
            _spend_as_much(name)
        self.kept = account_folder(kept, name) / kept.name if self.account else kept

    def become(self) -> None:
        """Have this process run under the account from now on, and have folders of its own.

        No other process may look into this one: it holds the keys of its node, and speaks to the daemon.

        Raises `ConnectionLostError` if there is no account, or the system refuses.
        """
        if self.account is None:
            raise ConnectionLostError(self._why)
        try:
            if self._has_folder:
                make_account_folder(self.kept.parent, self.account)
            become(self.account, is_dumpable=False)
        except OSError as error:
            raise ConnectionLostError(f"cannot become the account {self.account.name!r}: {error}") from error


def _nobody() -> Account:
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, (entry.pw_gid,), "/", "/bin/false")


def _spend_as_much(name: str) -> None:
    """Ask for the groups of a name that has no account, as `find_account` does for others.

    The system may ask another machine for them. So a client cannot tell by the time whether its user has an account.
    """
    with contextlib.suppress(OSError, ValueError):  # it is no name of an account
        os.getgrouplist(name, _NO_GROUP)


def account_folder(kept: Path, name: str) -> Path:
    """Return the folder of an account, beside `kept`, the one of the whole server."""
    return kept.with_name(_FOLDERS) / name


def account_folders(kept: Path) -> list[Path]:
    """Return the folders of all accounts that have one; `kept` as above."""
    try:
        return sorted(path for path in kept.with_name(_FOLDERS).iterdir() if path.is_dir())
    except OSError:
        return []


def make_account_folder(folder: Path, account: Account) -> None:
    """Make the folder of an account, which no other one may enter; one that was made, but not given to it, gets it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            os.fchown(descriptor, account.uid, account.gid)
    finally:
        os.close(descriptor)


def make_way(kept: Path) -> None:
    """Make the folder of the accounts' folders, and let all accounts pass through it; `kept` as above.

    Raises `ConfigurationError` if it cannot be made, or a folder above it is closed to others, or theirs to change.
    """
    folder = kept.with_name(_FOLDERS)
    try:
        _check_way(folder)
        for missing in [each for each in reversed([folder, *folder.parents]) if not each.is_dir()]:
            missing.mkdir(mode=0o711)
        _check_way(folder)
        for own in (folder, folder.parent):  # that of the server may have been made for root alone
            own.chmod(0o711)
    except OSError as error:
        raise ConfigurationError(
            f"--spool-dir: the folder {folder} cannot be made ({error.strerror}); give another one"
        ) from error
    for above in folder.parents:
        if not stat.S_IMODE(above.stat().st_mode) & 0o001:
            raise ConfigurationError(
                f"--spool-dir: users' accounts cannot pass through {above} to {folder}; give another folder, or let "
                f"them pass with: chmod o+x {shlex.quote(str(above))}"
            )


def _check_way(folder: Path) -> None:
    """Refuse a folder which another account could replace: by what is above it, or a link on the way to it.

    What is missing ends the way. Raises `ConfigurationError` for such a folder, `OSError` if one cannot be looked at.
    """
    place, names, links = Path("/"), list(folder.absolute().parts), 0
    while names:
        place = Path(os.path.normpath(place / names.pop(0)))  # of a folder without links
        try:
            facts = place.lstat()
        except FileNotFoundError:
            return
        is_link = stat.S_ISLNK(facts.st_mode)
        writers = 0o002 | (0o020 if facts.st_gid else 0)
        is_open = not is_link and facts.st_mode & writers and not facts.st_mode & stat.S_ISVTX
        if is_open or facts.st_uid not in {0, os.geteuid()}:
            raise ConfigurationError(
                f"--spool-dir: other accounts can change {place}, which is on the way to {folder}; give another "
                "folder: all on the way to it must belong to root, and be writable for root alone"
            )
        if is_link:
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            names[:0] = place.readlink().parts
            place = place.parent
