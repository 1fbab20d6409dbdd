"""The private folder of a session."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pserver.system.runtime_dir import run_time_folder
from srp_tools.errors import ConfigurationError

_PREFIX = "pserver-"
_PROBE = bytes(4096)  # a disk without room may still have room for a folder


def make_folder(control: socket.socket, mark: int, last_resort: Path) -> str:
    """Make the private folder of a node, in the first place that has room for one; `last_resort` is the last.

    The daemon hears of it, and of the mark of the node's processes: it ends what is left if the session is killed.
    Raises `ConfigurationError` if there is no such place; the text says why for each.
    """
    reasons: dict[Path, str | None] = {}
    for place in [*_places(), last_resort]:
        try:
            folder = _make_in(place)
        except OSError as error:
            reasons[place] = error.strerror
            continue
        with contextlib.suppress(OSError):  # the daemon may be gone; networks go on
            control.send(json.dumps({"folder": folder, "mark": mark}).encode())
        return folder
    why = "; ".join(f"{place}: {reason}" for place, reason in reasons.items())
    raise ConfigurationError(
        f"the server has no place for the private folder of a session ({why}): "
        "make room there, or start the server with TMPDIR set to a folder that has room"
    )


def _places() -> list[Path]:
    """Return where `tempfile` looks, for each session again: what was there for one may be gone for the next."""
    names = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    return [*(Path(name).absolute() for name in names if name), Path("/tmp"), Path("/var/tmp")]  # noqa: S108


def is_session_folder(folder: str, uid: int | None = None) -> bool:
    """Whether this is a folder as `make_folder` makes them, of this account: no other one is removed for a session.

    `uid`: of another account, whose folder it has to be. The last resort is the run-time folder.
    """
    path = Path(folder)
    if not path.name.startswith(_PREFIX) or not (
        path.parent in _places() or _is_run_time_folder(path.parent)
    ):
        return False
    try:
        found = os.lstat(folder)
    except (OSError, ValueError):
        return False
    is_private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    return is_private and found.st_uid == (os.geteuid() if uid is None else uid)


def _is_run_time_folder(place: Path) -> bool:
    try:
        return place == run_time_folder()
    except (ConfigurationError, OSError):  # then a folder of a session was made elsewhere
        return False


def _make_in(place: Path) -> str:
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)  # of mode 0700
    try:
        probe = Path(folder, "probe")
        probe.write_bytes(_PROBE)
        probe.unlink()
    except OSError:
        remove_folder(folder)
        raise
    return folder


@contextlib.contextmanager
def kept_folder(folder: str) -> Iterator[None]:
    """Keep what removes old files from touching a folder: a session may be idle for weeks.

    systemd-tmpfiles leaves alone what is locked, and all that is in it; see tmpfiles.d(5).
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no room for a descriptor, or a file system without locks
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def require_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the private folder of a session if it is there.

    Raises `FileNotFoundError` if somebody has removed it.
    """
    path = Path(folder)
    if not path.is_dir():
        why = "the private folder of this session was removed, connect again"
        raise FileNotFoundError(errno.ENOENT, why, str(path))
    return path


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it, as far as that can be done."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # it calls itself for each folder in a folder; the system's program does not
        subprocess.run(
            ["/bin/rm", "-rf", "--", os.fspath(folder)], check=False, capture_output=True, timeout=60
        )
