"""Changes of a folder of programs: one process at a time, each step on the disk before the next."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from srp_tools.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

_ADVICE = {
    errno.EACCES: "do it as its owner, or use a folder of stand-ins that is yours",
    errno.EROFS: "use a folder of stand-ins in another place",
    errno.EBADF: "its file system has no locks for folders; use a folder of stand-ins in another place",
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EPERM: "do it as the owner of all that is in it, or use a folder of stand-ins that is yours",
    errno.EOPNOTSUPP: "its file system has no second names for files; use a folder of stand-ins",
}


@contextlib.contextmanager
def changing(folder: str) -> Iterator[None]:
    """Hold a folder while it is changed; another process that wants to waits.

    The lock is on the folder itself, so that nothing has to be there, and nothing is left. It ends with the process.

    Raises `ConfigurationError` for each `OSError` of the body, and if the folder cannot be locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.stderr.write(f"pshadow: waiting for another one that changes {folder}\n")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        raise ConfigurationError(
            f"cannot change {folder}: {error.strerror}{advice and f'; {advice}'}"
        ) from error


def check_closed(folder: str) -> None:
    """Raise `ConfigurationError` if everyone can write into a folder, and so exchange a program in it."""
    mode = Path(folder).stat().st_mode
    if mode & 0o002:
        raise ConfigurationError(
            f"everyone can write into {folder}, and so exchange programs there; "
            f"use another folder, or: chmod o-w {folder}"
        )


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a new file, or one that was left there, and have it on the disk."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
