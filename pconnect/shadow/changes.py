"""Change a folder of programs: one process at a time, and each step is on disk before the next one starts."""

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
    errno.EACCES: "run pshadow as its owner, or use a folder of stand-ins that you own",
    errno.EROFS: "use a folder of stand-ins on another file system",
    errno.EBADF: "its file system cannot lock folders; use a folder of stand-ins on another file system",
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EPERM: "run pshadow as the owner of all files in it, or use a folder of stand-ins that you own",
    errno.EOPNOTSUPP: "its file system has no hard links; use a folder of stand-ins",
}


@contextlib.contextmanager
def changing(folder: str) -> Iterator[None]:
    """Lock a folder while the body of the ``with`` statement changes it. Blocks while another process holds the lock.

    The lock is on the folder itself: it needs no lock file. The system releases it when the process ends.

    Raises `ConfigurationError` for each `OSError` of the body, and if the folder cannot be locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.stderr.write(f"pshadow: waiting for another pshadow that is changing {folder}\n")
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
    """Raise `ConfigurationError` if every user can write to a folder, and thus replace a program in it."""
    mode = Path(folder).stat().st_mode
    if mode & 0o002:
        raise ConfigurationError(
            f"every user can write to {folder}, and thus replace programs there; "
            f"use another folder, or run: chmod o-w {folder}"
        )


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Write a file and flush it to disk. An old file of that name is removed first."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
