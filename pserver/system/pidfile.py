"""Running servers on this machine: for each name, a file that the server's daemon keeps locked.

``NAME.pid`` is locked with flock(2) as long as the daemon lives. The kernel releases the lock however the process ends,
so an unlocked file is certainly stale, whatever it contains, and nobody needs to guess from a process id. The file is
never removed: otherwise two daemons could hold locks on two files that had the same name at different times.

A lock does not identify its owner, so the file has two lines: the daemon's process id and start time. They keep
`stop_server` from signalling an unrelated process. A process id alone may have been reused. Moreover, between the
moment when a new daemon gets the lock and the moment when it has written its own process id, a stale file looks valid.
But no two processes have the same process id *and* start time.

``NAME.json`` next to it contains the daemon's status. The daemon replaces it atomically, so readers never see a partial
one. It is valid only while it names the process that holds the lock.

The location of these files depends on environment variables, and cron, su and services have other variables than a
login; a service may even have a /tmp of its own. This module therefore also finds the daemons of this account in other
folders, by their open pid files, except for separate servers such as those of `local_network`.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import select
import shlex
import signal
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pserver.config.listen_options import check_server_name
from pserver.system.processes import own_daemons, start_ticks
from pserver.system.runtime_dir import is_apart, open_own, run_time_folder
from srp_tools.errors import ConfigurationError

# Readable and writable by the owner. The sticky bit means nothing to the kernel; it tells programs that clean up
# temporary files to leave this file alone (XDG Base Directory Specification; tmpfiles.d(5)).
_FILE_MODE = 0o600 | stat.S_ISVTX

# A daemon writes its process id a few microseconds after it gets the lock.
_OWNER_TIMEOUT = 1.0

# A server's status has a few hundred bytes, and more with many listeners.
_MAX_STATUS_BYTES = 2**20

# Time for a process to vanish after SIGKILL; it takes longer only if the process hangs inside the kernel.
_KILL_TIMEOUT = 5.0


@dataclass(frozen=True)
class RunningServer:
    """A server that was running a moment ago."""

    name: str  #: the name that it was started with
    pid: int  #: the process id of the daemon
    #: The daemon's status, see `pserver.daemon.daemon.serve`; during its start, only ``name`` and ``pid``.
    status: Mapping[str, object]
    folder: Path | None = None  #: its run-time folder, if it differs from that of this process
    is_apart: bool = False  #: see `PidFile`


@dataclass(frozen=True)
class StoppedServer:
    """A server that `stop_server` has stopped."""

    name: str  #: the name that it was started with
    pid: int  #: the process id that the daemon had
    #: True if it did not stop in time and was killed; then its sessions did not end cleanly.
    killed: bool


class PidFile:
    """The mark of a running server, as a context manager for the daemon.

    Entering takes the lock. Leaving removes the status and releases the lock. A process that is forked inside the block
    and does not execute another program holds the lock, too: it must not outlive the daemon.

    `is_apart`: other processes do not find it, see `pserver.system.runtime_dir.is_apart`.

    Entering raises `ConfigurationError` if a server of that name is already running (the message contains its process
    id), the name is invalid, or other accounts can access the run-time folder. Nothing is locked then. Entering raises
    `OSError` if the file cannot be opened.
    """

    def __init__(self, name: str, *, is_apart: bool = False) -> None:
        check_server_name(name)
        self._name = name
        self._more = {"is_apart": True} if is_apart else {}
        self._descriptor = -1
        self._status_path = Path()
        #: The last status of the previous server of this name, if that was killed; else ``None``.
        self.predecessor: Mapping[str, object] | None = None

    def __enter__(self) -> Self:
        folder = run_time_folder()
        self._status_path = _status_path(folder, self._name)
        descriptor = open_own(_pid_path(folder, self._name), os.O_RDWR | os.O_CREAT)
        try:
            owner = _read_owner(descriptor)
            _mark(descriptor, self._name)
            if owner is not None:  # the last daemon was killed: a clean exit empties the file
                self.predecessor = _read_status(folder, self._name, owner[0])
            # Left by a killed daemon.
            self._status_path.unlink(missing_ok=True)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The folder may be gone, or the disk read-only; that does no harm, as an unlocked file is stale.
        with contextlib.suppress(OSError):
            if not self._has_lost_lock():  # otherwise it may belong to another server of this name
                self._status_path.unlink(missing_ok=True)
            os.ftruncate(self._descriptor, 0)
        # Unlock explicitly: a forked process may have inherited the descriptor, which would keep the lock.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = -1

    @property
    def is_lost(self) -> bool:
        """Whether one of the files was removed, so that other processes cannot find this server or its status."""
        return self._has_lost_lock() or not self._status_path.exists()

    def _has_lost_lock(self) -> bool:
        try:
            found = _pid_path(self._status_path.parent, self._name).lstat()
        except OSError:
            return True
        return not os.path.samestat(found, os.fstat(self._descriptor))

    def _make_again(self) -> None:
        """Lock a new file in place of a removed one, unless another server of this name has started since."""
        descriptor = open_own(_pid_path(run_time_folder(), self._name), os.O_RDWR | os.O_CREAT)
        try:
            _mark(descriptor, self._name)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor

    def write(self, status: Mapping[str, object]) -> None:
        """Replace the status for readers.

        `status`: anything that JSON can express; its ``pid`` must be that of this process, otherwise readers ignore it.
        If the run-time folder was removed, it is created again, with the pid file. Raises `OSError` or
        `ConfigurationError` if the status cannot be written; readers then see the previous one.
        """
        if self._has_lost_lock():
            self._make_again()
        # The temporary file can have a fixed name: only the holder of the lock writes it.
        temporary = self._status_path.with_name(f".{self._status_path.name}.new")
        with os.fdopen(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            os.fchmod(file.fileno(), _FILE_MODE)
            json.dump({**status, **self._more}, file)
        temporary.replace(self._status_path)


def find_server(name: str) -> RunningServer | None:
    """Return the running server of a name, or None if there is none.

    Raises `ConfigurationError` if the name is invalid, if other accounts can access the run-time folder, or if a
    process that is not a server of this machine holds the lock.
    """
    check_server_name(name)
    return _find_in(run_time_folder(), name) or next(
        (server for server in _servers_elsewhere() if server.name == name), None
    )


def _find_in(folder: Path, name: str) -> RunningServer | None:
    with _opened(_pid_path(folder, name)) as descriptor:
        pid = _owner(descriptor, name)
    if pid is None:
        return None
    status = _read_status(folder, name, pid)
    # Unknown until the server has started.
    is_apart = status.pop("is_apart", "cmd_port" not in status) is not False
    return RunningServer(name, pid, status, is_apart=is_apart)


def _servers_elsewhere() -> list[RunningServer]:
    """Return the servers of this account whose files are in other run-time folders, by process id."""
    found: list[RunningServer] = []
    if is_apart():
        return found
    own = run_time_folder()
    for pid in own_daemons():
        # It may exit at any time, and another program of this account may only look like a daemon.
        with contextlib.suppress(OSError, ConfigurationError, ValueError):
            for path in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()):
                folder = Path(f"/proc/{pid}/root{path}").parent
                if path.endswith(".pid") and not folder.samefile(own):
                    server = _find_in(folder, Path(path).stem)
                    if server is not None and server.pid == pid and not server.is_apart:
                        found.append(dataclasses.replace(server, folder=folder))
    return found


def check_is_first(name: str, log_file: Path | None) -> None:
    """Raise an error if a new server would conflict with a running one; write nothing.

    Two processes that write and rotate the same log would lose lines. Raises `ConfigurationError` if a server of this
    name is running, or one that writes to this log.
    """
    for server in list_servers():
        if server.name == name:
            raise _is_running(name, server.pid)
        other = server.status.get("log_file")
        if (
            log_file
            and isinstance(other, str)
            and log_file.is_file()
            and os.path.realpath(log_file) == os.path.realpath(other)
        ):
            raise ConfigurationError(
                f"--log-file {log_file}: the server {server.name!r} (pid {server.pid}) writes to it; give another file"
            )


def _is_running(name: str, pid: int | None) -> ConfigurationError:
    number = f" (pid {pid})" if pid else ""
    return ConfigurationError(
        f"a server named {name!r} is already running{number}; "
        f"stop it with: pserver stop --name {shlex.quote(name)}, or give this one another --name"
    )


def list_servers() -> list[RunningServer]:
    """Return all running servers of this user, by name; raise `ConfigurationError` in the cases of `find_server`."""
    folder = run_time_folder()
    ours = [_find_in(folder, path.stem) for path in folder.glob("[!.]*.pid")]
    found = [*(server for server in ours if server is not None), *_servers_elsewhere()]
    return sorted(found, key=lambda server: server.name)


def killed_servers() -> dict[str, Mapping[str, object]]:
    """Return the last status of each server that was killed and not started again, by name.

    Raises `ConfigurationError` in the cases of `find_server`.
    """
    folder = run_time_folder()
    found: dict[str, Mapping[str, object]] = {}
    for path in sorted(folder.glob("[!.]*.pid")):
        with _opened(path) as descriptor:
            if descriptor is None or _is_locked(descriptor):
                continue
            owner = _read_owner(descriptor)  # a clean exit empties the file
            if owner is not None:
                found[path.stem] = _read_status(folder, path.stem, owner[0])
    return found


def stop_server(name: str, timeout: float = 10.0) -> StoppedServer | None:
    """Stop the server of a name and wait until it has exited.

    The daemon gets SIGTERM, ends its sessions and exits; if it is still running after `timeout`, it gets SIGKILL. No
    other process ever gets a signal.

    `timeout`: time for the daemon to exit, in seconds. Returns the stopped server; None if no server of that name was
    running. Raises `ConfigurationError` in the cases of `find_server`; then no signal was sent. Raises `TimeoutError`
    if the process does not exit even after SIGKILL.
    """
    server = find_server(name)
    folder = run_time_folder() if server is None or server.folder is None else server.folder
    with _opened(_pid_path(folder, name)) as descriptor:
        while (pid := _owner(descriptor, name)) is not None:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    # The process id could have been reused before the pidfd was opened. If the daemon still has it
                    # now, it also had it then: from here on, the pidfd refers to the daemon or to no process.
                    if _owner(descriptor, name) == pid:
                        return StoppedServer(name, pid, killed=_end_process(pidfd, pid, timeout))
                finally:
                    os.close(pidfd)
    return None


def _end_process(pidfd: int, pid: int, timeout: float) -> bool:
    """Stop a process; return whether it had to be killed.

    A process whose pidfd is readable has closed its files, and therefore released its lock.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    if poll.poll(timeout * 1000):
        return False
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    if not poll.poll(_KILL_TIMEOUT * 1000):
        raise TimeoutError(
            f"timed out after {_KILL_TIMEOUT:g} s waiting for the killed process {pid}; it hangs in the kernel"
        )
    return True


def _pid_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.pid"


def _status_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Open a file to check its lock; yield None if there is no such file."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _mark(descriptor: int, name: str) -> None:
    """Lock a file for this process, and write its process id and start time."""
    _take_lock(descriptor, name)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n{start_ticks(os.getpid())}\n".encode(), 0)
    os.fchmod(descriptor, _FILE_MODE)


def _take_lock(descriptor: int, name: str) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        # A process that checks for running servers holds a shared lock for a few microseconds (see `_is_locked`),
        # which must not be mistaken for a server.
        if _is_locked(descriptor):
            pid = _read_owner(descriptor)
            raise _is_running(name, pid[0] if pid else None)


def _is_locked(descriptor: int) -> bool:
    """Whether a daemon holds the lock; flock(2) offers no other way than to try."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _owner(descriptor: int | None, name: str) -> int | None:
    """Return the process id of the daemon that holds the lock, or None if the lock is free."""
    deadline = time.monotonic() + _OWNER_TIMEOUT
    while descriptor is not None and _is_locked(descriptor):
        owner = _read_owner(descriptor)
        if owner is not None and start_ticks(owner[0]) == owner[1]:
            return owner[0]
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"the pid file of the server {name!r} is locked, but not by the process that it names, so nothing "
                f"was done; find that process with: fuser {shlex.quote(str(_pid_path(run_time_folder(), name)))}"
            )
        time.sleep(0.01)
    return None


def _read_owner(descriptor: int) -> tuple[int, int] | None:
    """Return process id and start time from a pid file, None if it is empty or malformed."""
    try:
        pid, started = map(int, os.pread(descriptor, 64, 0).split())
    except ValueError:
        return None
    return pid, started


def _read_status(folder: Path, name: str, pid: int) -> dict[str, object]:
    # The file is missing while a daemon starts or exits; during a start it may also be that of its predecessor.
    with contextlib.suppress(FileNotFoundError):
        with os.fdopen(open_own(_status_path(folder, name), os.O_RDONLY), "rb") as file:
            data = file.read(_MAX_STATUS_BYTES + 1)
        status = json.loads(data) if len(data) <= _MAX_STATUS_BYTES else None
        if isinstance(status, dict) and status.get("pid") == pid:
            return status
    return {"name": name, "pid": pid}
