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
_SERVER = ".server"  # a file in the folder with the name of the session's server
_PROBE = bytes(4096)  # a full disk may still have room for an empty folder


def make_folder(control: socket.socket, mark: int, last_resort: Path, server: str = "") -> str:
    """Create the private folder of a node, in the first place with free space; `last_resort` is tried last.

    `server`: the name of the server, for `remove_left`.

    Reports the folder and the mark of the node's processes to the daemon, which cleans up if the session is killed.
    Raises `ConfigurationError` if no place has free space; the message gives the reason for each.
    """
    reasons: dict[Path, str | None] = {}
    for place in [*_places(), last_resort]:
        try:
            folder = _make_in(place, server)
        except OSError as error:
            reasons[place] = error.strerror
            continue
        with contextlib.suppress(OSError):  # the daemon may be gone, but networks continue without it
            control.send(json.dumps({"folder": folder, "mark": mark}).encode())
        return folder
    why = "; ".join(f"{place}: {reason}" for place, reason in reasons.items())
    raise ConfigurationError(
        f"the server has no place for the private folder of a session ({why}): "
        "free some space there, or start the server with TMPDIR set to a folder with free space"
    )


def _places() -> list[Path]:
    """Return the places where `tempfile` looks, fresh for each session: a place may vanish between two sessions."""
    names = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    return [*(Path(name).absolute() for name in names if name), Path("/tmp"), Path("/var/tmp")]  # noqa: S108


def is_session_folder(folder: str, uid: int | None = None) -> bool:
    """Whether this is a folder of this account that `make_folder` created; no other folder is ever removed.

    `uid`: user id of another account that must own it. The last resort is the run-time folder.
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
    except (ConfigurationError, OSError):  # unusable, so no session's folder is in it
        return False


def _make_in(place: Path, server: str) -> str:
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)  # with mode 0700
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
    """Protect a folder from programs that remove old files: a session may be idle for weeks.

    systemd-tmpfiles leaves locked folders and their contents alone; see tmpfiles.d(5).
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # no descriptor left, or a file system without locks
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


def require_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the private folder of a session if it exists.

    Raises `FileNotFoundError` if it was removed.
    """
    path = Path(folder)
    if not path.is_dir():
        why = "the private folder of this session was removed; connect again"
        raise FileNotFoundError(errno.ENOENT, why, str(path))
    return path


def remove_left(server: str, before: float) -> list[str]:
    """Remove leftover session folders of servers of this name that were created before a point in time.

    A folder is left over if no process locks it, works in it, or has one of its files open. Folders of other accounts
    and of servers with other names are kept. Returns the removed folders.
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
    except (OSError, UnicodeDecodeError):  # it is another version's, or being removed
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _in_use(folders: set[str]) -> set[str]:
    """Return the folders in which a process works or has a file open, as far as this account can see."""
    used = set()
    for link in [*Path("/proc").glob("[0-9]*/cwd"), *Path("/proc").glob("[0-9]*/fd/*")]:
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            used |= {folder for folder in folders if target == folder or target.startswith(f"{folder}/")}
    return used


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Remove a folder and its contents, as far as possible."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # `shutil.rmtree` recurses into each nested folder; the system's program does not
        subprocess.run(
            ["/bin/rm", "-rf", "--", os.fspath(folder)], check=False, capture_output=True, timeout=60
        )
