"""Where a log goes: a file that is rotated, and may be renamed, removed or without room; or standard error.

Several processes append to the same file, each line with one system call. Only the daemon renames it when it has grown;
the others look before each line whether the path still leads to what they have open, and open it anew if not.
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

# What a pipe or a terminal that can be written to takes without waiting (PIPE_BUF of Linux).
_PIECE_BYTES = 4096


@dataclass(frozen=True)
class Rotation:
    """When a log is set aside, and how many files are kept, with the one that is being written."""

    max_bytes: int  #: 0: never
    files: int = 2  #: at least 2


class StandardError:
    """Standard error as a place for a log."""

    def write(self, data: bytes) -> None:
        """Write lines; raise `OSError` if they cannot be written now."""
        while data:
            data = data[_write_some(2, data) :]

    def open(self) -> None:
        """Do nothing: it is open."""

    def close(self) -> None:
        """Do nothing: others write there, too."""


class LogFile:
    """A file that lines are appended to.

    `rotation`: for the one process that sets the file aside when it has grown. The file is opened with the first line,
    and only under the account that this process has now: under another one it stays the one that is open.
    """

    def __init__(self, path: Path, rotation: Rotation | None = None) -> None:
        # Renaming a link would set aside the link. Not `Path.resolve`, which raises for a link to itself.
        self._path = Path(os.path.realpath(path))
        self._rotation = rotation
        self._uid = os.geteuid()
        self._descriptor = -1
        self._is_in_line = False  # the disk was full in the middle of a line
        self._rotate_at = rotation.max_bytes if rotation else 0

    def write(self, data: bytes) -> None:
        """Write lines; raise `OSError` if they cannot be written now. The next ones may be."""
        self._follow_path()
        rest = b"\n" * self._is_in_line + data
        while rest:
            rest = rest[_write_some(self._descriptor, rest) :]
            self._is_in_line = bool(rest)
        if self._rotate_at:
            self._rotate_if_large()

    def open(self) -> None:
        """Open the file, if it is not; raise `OSError` if it cannot be."""
        self._follow_path()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow_path(self) -> None:
        """Open the file that the path leads to now, unless it is open."""
        if os.geteuid() != self._uid:  # it would make a log of its own, or find what it has put there
            if self._descriptor < 0:
                raise PermissionError(errno.EPERM, "this process has another account now")
            return
        if self._descriptor >= 0:
            mine = os.fstat(self._descriptor)
            with contextlib.suppress(OSError):  # it is gone, or this account may not look there
                if os.path.samestat(mine, self._path.stat()):
                    return
        try:
            new = open_log(self._path)
        except OSError:
            # A file that was only renamed is better than none. In a removed one nobody would find the line.
            if self._descriptor >= 0 and mine.st_nlink:
                return
            raise
        if self._descriptor >= 0:
            _move_outputs(mine, new)
        self.close()
        self._descriptor = new

    def _rotate_if_large(self) -> None:
        facts = os.fstat(self._descriptor)
        # A device, such as /dev/null, and a pipe stay where they are.
        if facts.st_size < self._rotate_at or not stat.S_ISREG(facts.st_mode) or self._rotation is None:
            return
        self._rotate_at = facts.st_size + self._rotation.max_bytes
        # Where the folder is closed to us, a program such as logrotate looks after it.
        with contextlib.suppress(OSError):
            files = [self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._rotation.files)]
            for old, new in reversed([*itertools.pairwise([self._path, *files])]):
                with contextlib.suppress(FileNotFoundError):
                    old.rename(new)
            self._rotate_at = self._rotation.max_bytes
            self._follow_path()  # the log is there at once, not with its next line


def default_log(name: str) -> Path:
    """Return where the log of a server is, if nobody has said where.

    It is with what outlives a restart of the machine, and its name has the machine's: homes may be shared.
    """
    return platformdirs.user_log_path("pserver", appauthor=False) / f"{name}-{socket.gethostname()}.log"


def make_log(path: Path) -> None:
    """Make a log, for its owner only, and the folders above it, where they are missing.

    Raises `ConfigurationError` if it cannot be opened, or cannot be a log.
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
    """Whether it names another file in each process, as /dev/stdout does, or one of the system's."""
    text = os.path.normpath(path.absolute())
    return text.startswith(("/dev/std", "/dev/fd/", "/proc/")) or os.path.realpath(path).startswith("/proc/")


def _can_be_log(descriptor: int) -> bool:
    """Whether lines stay there: in a file, or a device such as /dev/null."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(descriptor))


def _no_log(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"--log-file {path}: a log is a regular file, because the processes of a server all open it; to have it on "
        "standard error, start with --foreground and without --log-file"
    )


def open_log(path: Path) -> int:
    """Open a log to append to it; make it, and its folder, if they are missing."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _write_some(descriptor: int, data: bytes) -> int:
    """Write what can be written without waiting for somebody who does not read; return how much that was."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.write(descriptor, data)
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.write(descriptor, data[:_PIECE_BYTES])


def _move_outputs(old: os.stat_result, new: int) -> None:
    """Let standard output and standard error follow, where they went to the old file."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # it is closed
            if os.path.samestat(os.fstat(descriptor), old):
                os.dup2(new, descriptor)
