"""The destination of a log: a file that is rotated, renamed, removed or on a full disk; or standard error.

Several processes append to the same file, each line with one system call. Only the daemon renames it when it has grown;
before each line, the other processes check that the path still leads to their open file, and reopen it if not.
"""

import contextlib
import errno
import itertools
import os
import select
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from srp_tools.errors import ConfigurationError

# A writable pipe or terminal accepts this many bytes without blocking (PIPE_BUF on Linux).
_PIECE_BYTES = 4096


@dataclass(frozen=True)
class Rotation:
    """When to rotate a log, and how many files to keep, including the current one."""

    max_bytes: int  #: 0: never
    files: int = 2  #: at least 2


class StandardError:
    """Standard error as the destination of a log."""

    def write(self, data: bytes) -> None:
        """Write lines; raise `OSError` if that is impossible at the moment."""
        while data:
            data = data[_write_some(2, data) :]

    def open(self) -> None:
        """Do nothing: standard error is already open."""

    def close(self) -> None:
        """Do nothing: other code also writes to standard error."""


class LogFile:
    """A file that lines are appended to.

    `rotation`: for the one process that rotates the file. The file is opened with the first line, and only under the
    account that this process has now; after a change of account, the open file stays in use.
    """

    def __init__(self, path: Path, rotation: Rotation | None = None) -> None:
        # Renaming a link would move the link. `Path.resolve` raises an error for a link to itself.
        self._path = Path(os.path.realpath(path))
        self._rotation = rotation
        self._uid = os.geteuid()
        self._descriptor = -1
        self._is_in_line = False  # true if the disk became full in the middle of a line
        self._rotate_at = rotation.max_bytes if rotation else 0

    def write(self, data: bytes) -> None:
        """Write lines; raise `OSError` if that is impossible at the moment. Later lines may succeed."""
        self._follow_path()
        rest = b"\n" * self._is_in_line + data
        while rest:
            rest = rest[_write_some(self._descriptor, rest) :]
            self._is_in_line = bool(rest)
        if self._rotate_at:
            self._rotate_if_large()

    def open(self) -> None:
        """Open the file if it is not open; raise `OSError` if that fails."""
        self._follow_path()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow_path(self) -> None:
        """Open the file that the path leads to now, if it is not open already."""
        if os.geteuid() != self._uid:  # it would create its own log, or open a file that its user put there
            if self._descriptor < 0:
                raise PermissionError(errno.EPERM, "this process has switched to another account")
            return
        if self._descriptor >= 0:
            mine = os.fstat(self._descriptor)
            with contextlib.suppress(OSError):  # it is gone, or this account may not look there
                if os.path.samestat(mine, self._path.stat()):
                    return
        try:
            new = open_log(self._path)
        except OSError:
            # Keep a file that was only renamed. In a removed file, the line would be lost.
            if self._descriptor >= 0 and mine.st_nlink:
                return
            raise
        if self._descriptor >= 0:
            _move_outputs(mine, new)
        self.close()
        self._descriptor = new

    def _rotate_if_large(self) -> None:
        facts = os.fstat(self._descriptor)
        # Devices such as /dev/null, and pipes, are never rotated.
        if facts.st_size < self._rotate_at or not stat.S_ISREG(facts.st_mode) or self._rotation is None:
            return
        self._rotate_at = facts.st_size + self._rotation.max_bytes
        # If this account cannot write to the folder, a program such as logrotate is responsible.
        with contextlib.suppress(OSError):
            files = [self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._rotation.files)]
            for old, new in reversed([*itertools.pairwise([self._path, *files])]):
                with contextlib.suppress(FileNotFoundError):
                    old.rename(new)
            self._rotate_at = self._rotation.max_bytes
            self._follow_path()  # create the new file now, not with its next line


def default_log(name: str) -> Path:
    """Return the path of a server's log if the settings name none.

    The folder survives a reboot, and the file name contains the machine's, because machines may share home folders.
    """
    return platformdirs.user_log_path("pserver", appauthor=False) / f"{name}-{socket.gethostname()}.log"


def make_log(path: Path) -> None:
    """Create a log, readable by its owner only, and its parent folders, if they are missing.

    Raises `ConfigurationError` if it cannot be opened, or is not suitable as a log.
    """
    if _leads_elsewhere(path):
        raise _no_log(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = open_log(path)
        try:
            if not _can_be_log(descriptor):
                raise _no_log(path)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the log {path}: {error.strerror}; give another file with --log-file"
        ) from error


def _leads_elsewhere(path: Path) -> bool:
    """Whether a path leads to a different file in each process, like /dev/stdout, or to a file of the system's."""
    text = os.path.normpath(path.absolute())
    return text.startswith(("/dev/std", "/dev/fd/", "/proc/")) or os.path.realpath(path).startswith("/proc/")


def _can_be_log(descriptor: int) -> bool:
    """Whether a descriptor keeps lines or discards them silently: a regular file, or a device such as /dev/null."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(descriptor))


def _no_log(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"--log-file {path}: must be a regular file, because several processes of the server open it; to log to "
        "standard error, start with --foreground and without --log-file"
    )


def open_log(path: Path) -> int:
    """Open a log for appending; create it and its folder if they are missing."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _write_some(descriptor: int, data: bytes) -> int:
    """Write as much as possible without blocking on a slow reader; return the number of bytes."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.write(descriptor, data)
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(descriptor, data[:_PIECE_BYTES])


def _move_outputs(old: os.stat_result, new: int) -> None:
    """Redirect standard output and standard error to the new file if they went to the old one."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # the stream is closed
            if os.path.samestat(os.fstat(descriptor), old):
                os.dup2(new, descriptor)
