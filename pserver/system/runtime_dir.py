"""The folder of what belongs to running servers: pid files, status files, log files."""

import errno
import os
import shlex
import stat
from pathlib import Path

from srp_tools.errors import ConfigurationError

#: A folder for those servers that others must not meet, as a test's; see `run_time_folder`.
OWN_VARIABLE = "PSERVER_RUNTIME_DIR"

# Below it logind makes a folder for every user who logs in (pam_systemd(8)).
_LOGIN_FOLDERS = Path("/run/user")


def run_time_folder() -> Path:
    """Return the run-time folder of this user; make it if it is missing.

    It is ``$XDG_RUNTIME_DIR/pserver``, or ``/tmp/pserver-UID`` if that variable is unset, leads to a place
    where no folder can be made, or names a login's own ``/run/user/UID``: systemd empties that one when the
    user logs out, and the daemon, which goes on, could no longer be found or stopped. ``PSERVER_RUNTIME_DIR`` counts
    before both. Servers that are started with it are found only with it, see `is_apart`.

    Raises `ConfigurationError` if the folder is open to others, belongs to somebody else, or is no real folder; the
    text says how to fix it. Raises `OSError` if the folder cannot be made.
    """
    if is_apart():
        return _make_private(Path(os.environ[OWN_VARIABLE], "pserver").absolute())
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_absolute() and _LOGIN_FOLDERS not in base.parents:
        folder = base / "pserver"
        try:
            return _make_private(folder)
        except OSError:
            # What cannot be made is no reason to do without, but what is there and cannot be trusted is.
            pass
    # Not the folder of TMPDIR: cluster schedulers give every job another one. Other users may have been there
    # first, which is checked as it is for any folder.
    return _make_private(Path(f"/tmp/pserver-{os.geteuid()}"))  # noqa: S108


def open_own(path: Path, flags: int) -> int:
    """Open a file of the run-time folder, or make it.

    Raises `OSError` if it is another account's, a link, or no regular file, which could have this process wait.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, 0o600)
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise PermissionError(errno.EPERM, "it is no regular file of this account", str(path))


def is_apart() -> bool:
    """Whether this process, and what it starts, has nothing to do with the other servers of this account."""
    return bool(os.environ.get(OWN_VARIABLE))


def _make_private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _check_private(folder)
    return folder


def _check_private(folder: Path) -> None:
    """Refuse a folder into which others could have put a log, a status or a link that we would trust."""
    # Not that of the target, if it is a symbolic link: others may be able to lead it elsewhere.
    facts = folder.lstat()
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{folder} belongs to another account (user id {facts.st_uid}); have it removed, "
            f"or use a folder of your own, with: export XDG_RUNTIME_DIR=$HOME"
        )
    quoted = shlex.quote(str(folder))
    if not stat.S_ISDIR(facts.st_mode):
        raise ConfigurationError(f"{folder} is not a real folder, fix it with: rm {quoted}")
    if mode & 0o077:
        raise ConfigurationError(
            f"the folder {folder} is open to others (mode {mode:04o}), fix it with: chmod 700 {quoted}"
        )
