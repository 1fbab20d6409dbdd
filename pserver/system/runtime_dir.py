"""The folder for files of running servers: pid files, status files, sockets."""

import errno
import os
import shlex
import stat
from pathlib import Path

from srp_tools.errors import ConfigurationError

#: A separate run-time folder for servers that must not interact with others, such as those of tests.
OWN_VARIABLE = "PSERVER_RUNTIME_DIR"

# logind creates a folder in it for every user who logs in (pam_systemd(8)).
_LOGIN_FOLDERS = Path("/run/user")


def run_time_folder() -> Path:
    """Return the run-time folder of this user; create it if it is missing.

    It is ``$XDG_RUNTIME_DIR/pserver``, or ``/tmp/pserver-UID`` if that variable is unset, names a place where no folder
    can be created, or names a login's own ``/run/user/UID``: systemd empties that folder when the user logs out, and
    the daemon, which keeps running, could no longer be found or stopped. ``PSERVER_RUNTIME_DIR`` takes precedence.
    Servers that are started with it are found only with it, see `is_apart`.

    Raises `ConfigurationError` if other accounts can access the folder, it belongs to another account, it is not a
    real folder, or ``PSERVER_RUNTIME_DIR`` names a missing folder; the message says how to fix it. Raises `OSError` if
    the folder cannot be created.
    """
    if is_apart():
        folder = Path(os.environ[OWN_VARIABLE], "pserver").absolute()
        try:
            return _make_private(folder)
        except FileNotFoundError:
            raise ConfigurationError(
                f"{OWN_VARIABLE}: the folder {folder.parent} does not exist; create it, or unset the variable"
            ) from None
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_absolute() and _LOGIN_FOLDERS not in base.parents:
        folder = base / "pserver"
        try:
            return _make_private(folder)
        except OSError:
            # If this folder cannot be created, fall back to /tmp; but an existing untrustworthy folder is an error.
            pass
    # TMPDIR would not do: cluster schedulers give every job another one. Another user may have created the folder
    # first, which the usual check detects.
    return _make_private(Path(f"/tmp/pserver-{os.geteuid()}"))  # noqa: S108


def open_own(path: Path, flags: int) -> int:
    """Open a file of the run-time folder, or create it.

    Raises `OSError` if it belongs to another account, is a link, or is not a regular file, which could block.
    """
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    except OSError as error:
        # A link, a socket, or a folder that was to be written.
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise _unfit(path) from None
        raise
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise _unfit(path)


def _unfit(path: Path) -> PermissionError:
    return PermissionError(f"{path} is not a regular file of this account; remove it")


def is_apart() -> bool:
    """Whether this process and its children are separate from the other servers of this account."""
    return bool(os.environ.get(OWN_VARIABLE))


def _make_private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    """Raise an error if other accounts could have put a log, a status or a link into this folder."""
    # Check a symbolic link itself, not its target: another account may be able to redirect it.
    facts = folder.lstat()
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{folder} belongs to another account (user id {facts.st_uid}); have it removed, "
            f"or use your own folder with: export XDG_RUNTIME_DIR=$HOME"
        )
    quoted = shlex.quote(str(folder))
    if not stat.S_ISDIR(facts.st_mode):
        raise ConfigurationError(f"{folder} is not a real folder, fix it with: rm {quoted}")
    if mode & 0o077:
        raise ConfigurationError(
            f"the folder {folder} is open to others (mode {mode:04o}), fix it with: chmod 700 {quoted}"
        )
