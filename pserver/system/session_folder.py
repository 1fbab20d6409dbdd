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
_SERVER = ".server"  # a file in it: the name of the server whose session has made it
_PROBE = bytes(4096)  # a disk without room may still have room for a folder


def make_folder(control: socket.socket, mark: int, last_resort: Path, server: str = "") -> str:
    """Make the private folder of a node, in the first place that has room for one; `last_resort` is the last.

    `server`: the name of the server, for `remove_left`.

    The daemon hears of it, and of the mark of the node's processes: it ends what is left if the session is killed.
    Raises `ConfigurationError` if there is no such place; the text says why for each.
    """
    reasons: dict[Path, str | None] = {}
    for place in [*_places(), last_resort]:
        try:
            folder = _make_in(place, server)
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


def _make_in(place: Path, server: str) -> str:
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)  # of mode 0700
    try:
        probe = Path(folder, "probe")
        probe.write_bytes(_PROBE)
        probe.unlink()
        if server:
            Path(folder, _SERVER).write_text(server, encoding="utf-8")
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


def remove_left(server: str, before: float) -> list[str]:
    """Remove the folders of sessions of a server of this name that were made before an instant and are left over.

    One is left over if no process holds it, works in it, or has a file of it open. Folders of other accounts, and of
    servers of other names, stay. Returns what was removed.
    """
    found = [
        str(path)
        for place in [*_places(), *_run_time_folders()]
        for path in place.glob(f"{_PREFIX}*")
        if is_session_folder(str(path)) and _is_left(path, server, before)
    ]
    left = sorted(set(found) - _in_use(set(found)))
    for folder in left:
        remove_folder(folder)
    return left


def _run_time_folders() -> list[Path]:
    try:
        return [run_time_folder()]
    except (ConfigurationError, OSError):
        return []


def _is_left(path: Path, server: str, before: float) -> bool:
    try:
        if (path / _SERVER).read_text(encoding="utf-8") != server or path.stat().st_mtime >= before:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, UnicodeDecodeError):  # it is another version's, or goes just now
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _in_use(folders: set[str]) -> set[str]:
    """Return those in which a process works, or has a file open, as far as this account may know."""
    used = set()
    for link in [*Path("/proc").glob("[0-9]*/cwd"), *Path("/proc").glob("[0-9]*/fd/*")]:
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            used |= {folder for folder in folders if target == folder or target.startswith(f"{folder}/")}
    return used


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it, as far as that can be done."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # it calls itself for each folder in a folder; the system's program does not
        subprocess.run(
            ["/bin/rm", "-rf", "--", os.fspath(folder)], check=False, capture_output=True, timeout=60
        )
