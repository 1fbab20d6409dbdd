"""Which servers run on this machine: for each name a file that its daemon keeps locked.

``NAME.pid`` is locked with flock(2) from the start of a daemon to its end. The kernel releases the lock however the
process ends, so a file that is not locked is stale for certain, whatever it says, and no guess from a process number is
needed. The file itself is never removed: two daemons could otherwise hold locks on two files that had the same name one
after the other.

A lock does not say *whose* it is, so the file has two lines: the process number, and the time at which that
process started. They are what keeps `stop_server` from signalling a stranger. A number alone may have been
given to another process since, and between the moment a new daemon has the lock and the moment it has written
its own number, a stale file looks alive. But no second process has the same number *and* time.

``NAME.json`` beside it has what the daemon says about itself. It is replaced at once, so a reader never sees
a part of it, and it counts only while it names the process that holds the lock.

The folder of these files depends on variables of the environment, and those of cron, su or a service are not those of a
login; a service may even have a /tmp of its own. So the folders of all daemons of this account count, which their open
pid files tell; but not those of servers that are apart, such as those of `local_network`.
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

# Read and write for the owner. The sticky bit means nothing to the kernel; it tells cleaners of temporary
# files to leave this one alone (XDG Base Directory Specification; tmpfiles.d(5)).
_FILE_MODE = 0o600 | stat.S_ISVTX

# A daemon writes its number some microseconds after it has the lock.
_OWNER_TIMEOUT = 1.0

# That of a server has some hundred bytes, and more with many listeners.
_MAX_STATUS_BYTES = 2**20

# How long a process may take to vanish after SIGKILL; longer only if it hangs inside the kernel.
_KILL_TIMEOUT = 5.0


@dataclass(frozen=True)
class RunningServer:
    """A server that was running a moment ago."""

    name: str  #: the name it was started with
    pid: int  #: the process number of the daemon
    #: What the daemon says about itself, see `pserver.daemon.daemon.serve`; while it starts, ``name`` and ``pid``.
    status: Mapping[str, object]
    folder: Path | None = None  #: where its files are, if not where this process keeps its own
    is_apart: bool = False  #: see `PidFile`


@dataclass(frozen=True)
class StoppedServer:
    """A server that `stop_server` has ended."""

    name: str  #: the name it was started with
    pid: int  #: the process number that the daemon had
    #: True if it did not end in the given time and had to be killed; then its sessions had no orderly end.
    killed: bool


class PidFile:
    """The mark of a running server, as a context manager for the daemon.

    The lock is taken on entering. On leaving, the status is removed and the lock is released. A process that is forked
    inside, and does not execute another program, holds the lock as well: it must not outlive the daemon.

    `is_apart`: it is not found from elsewhere, see `pserver.system.runtime_dir.is_apart`.

    On entering, raises `ConfigurationError` if a server of that name runs already (the text has its process number),
    the name cannot be used, or the run-time folder is not private. Nothing is locked. Raises `OSError` if the file
    cannot be opened.
    """

    def __init__(self, name: str, *, is_apart: bool = False) -> None:
        check_server_name(name)
        self._name = name
        self._more = {"is_apart": True} if is_apart else {}
        self._descriptor = -1
        self._status_path = Path()
        #: The status of the server of this name before, if that was killed; else ``None``.
        self.predecessor: Mapping[str, object] | None = None

    def __enter__(self) -> Self:
        folder = run_time_folder()
        self._status_path = _status_path(folder, self._name)
        descriptor = open_own(_pid_path(folder, self._name), os.O_RDWR | os.O_CREAT)
        try:
            owner = _read_owner(descriptor)
            _mark(descriptor, self._name)
            if owner is not None:  # an orderly end empties the file
                self.predecessor = _read_status(folder, self._name, owner[0])
            # What a killed daemon left.
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
        # The folder is gone, or the disk can only be read: a file without lock is stale.
        with contextlib.suppress(OSError):
            if not self._has_lost_lock():  # else it may be that of another server of this name
                self._status_path.unlink(missing_ok=True)
            os.ftruncate(self._descriptor, 0)
        # Explicitly: the lock would otherwise live on in a descriptor that a forked process inherited.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = -1

    @property
    def is_lost(self) -> bool:
        """Whether one of the files was removed, so that nobody finds this server, or what it does."""
        return self._has_lost_lock() or not self._status_path.exists()

    def _has_lost_lock(self) -> bool:
        try:
            found = _pid_path(self._status_path.parent, self._name).lstat()
        except OSError:
            return True
        return not os.path.samestat(found, os.fstat(self._descriptor))

    def _make_again(self) -> None:
        """Lock another file in the place of one that was removed; there may be a new server of this name meanwhile."""
        descriptor = open_own(_pid_path(run_time_folder(), self._name), os.O_RDWR | os.O_CREAT)
        try:
            _mark(descriptor, self._name)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor = descriptor

    def write(self, status: Mapping[str, object]) -> None:
        """Replace the status that others read.

        `status`: anything that JSON can express; ``pid`` has to be that of this process, else it does not count.
        If the run-time folder was removed, it is made again, with the pid file. Raises `OSError` or
        `ConfigurationError` if the status cannot be written. Readers see the status from before.
        """
        if self._has_lost_lock():
            self._make_again()
        # One name is enough for the temporary file: only the holder of the lock writes.
        temporary = self._status_path.with_name(f".{self._status_path.name}.new")
        with os.fdopen(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
            os.fchmod(file.fileno(), _FILE_MODE)
            json.dump({**status, **self._more}, file)
        temporary.replace(self._status_path)


def find_server(name: str) -> RunningServer | None:
    """Return the running server of a name, or None if there is none.

    Raises `ConfigurationError` if the name cannot be used, the run-time folder is not private, or a process that is no
    server of this machine holds the lock.
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
    # While it starts, that is not known.
    is_apart = status.pop("is_apart", "cmd_port" not in status) is not False
    return RunningServer(name, pid, status, is_apart=is_apart)


def _servers_elsewhere() -> list[RunningServer]:
    """Return the servers of this account whose files are in other folders than ours, by process number."""
    found: list[RunningServer] = []
    if is_apart():
        return found
    own = run_time_folder()
    for pid in own_daemons():
        # It may be gone at any time, and a program of this account may only look like a daemon.
        with contextlib.suppress(OSError, ConfigurationError, ValueError):
            for path in map(os.readlink, Path(f"/proc/{pid}/fd").iterdir()):
                folder = Path(f"/proc/{pid}/root{path}").parent
                if path.endswith(".pid") and not folder.samefile(own):
                    server = _find_in(folder, Path(path).stem)
                    if server is not None and server.pid == pid and not server.is_apart:
                        found.append(dataclasses.replace(server, folder=folder))
    return found


def check_is_first(name: str, log_file: Path | None) -> None:
    """Refuse a server that would get in the way of one that is running, before it writes anything.

    Two processes that write and rename one log would lose lines. Raises `ConfigurationError` if one of this name is
    running, or one writes to this log.
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
                f"--log-file {log_file}: the server {server.name!r} (pid {server.pid}) writes there; give another file"
            )


def _is_running(name: str, pid: int | None) -> ConfigurationError:
    number = f" (pid {pid})" if pid else ""
    return ConfigurationError(
        f"a server named {name!r} is already running{number}; "
        f"end it with: pserver stop --name {shlex.quote(name)}, or give this one another --name"
    )


def list_servers() -> list[RunningServer]:
    """Return all running servers of this user, by name. Raises `ConfigurationError` as by `find_server`."""
    folder = run_time_folder()
    ours = [_find_in(folder, path.stem) for path in folder.glob("[!.]*.pid")]
    found = [*(server for server in ours if server is not None), *_servers_elsewhere()]
    return sorted(found, key=lambda server: server.name)


def killed_servers() -> dict[str, Mapping[str, object]]:
    """Return what each server has said at last that was killed and not started again, by name.

    Raises `ConfigurationError` as by `find_server`.
    """
    folder = run_time_folder()
    found: dict[str, Mapping[str, object]] = {}
    for path in sorted(folder.glob("[!.]*.pid")):
        with _opened(path) as descriptor:
            if descriptor is None or _is_locked(descriptor):
                continue
            owner = _read_owner(descriptor)  # an orderly end empties the file
            if owner is not None:
                found[path.stem] = _read_status(folder, path.stem, owner[0])
    return found


def stop_server(name: str, timeout: float = 10.0) -> StoppedServer | None:
    """End the server of a name and wait until it has ended.

    The daemon gets SIGTERM, ends its sessions and goes; if it has not gone after `timeout` it gets SIGKILL.
    No other process is ever signalled.

    `timeout`: how long the daemon may take, in seconds. Returns what was ended; None if no server of that name was
    running. Raises `ConfigurationError` as by `find_server`. Nothing was signalled. Raises `TimeoutError` if the
    process did not even end after SIGKILL.
    """
    server = find_server(name)
    folder = run_time_folder() if server is None or server.folder is None else server.folder
    with _opened(_pid_path(folder, name)) as descriptor:
        while (pid := _owner(descriptor, name)) is not None:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    # The number could have gone to another process before the pidfd was opened. If the daemon
                    # still has it now, it had it then: from here on the pidfd means the daemon or nobody.
                    if _owner(descriptor, name) == pid:
                        return StoppedServer(name, pid, killed=_end_process(pidfd, pid, timeout))
                finally:
                    os.close(pidfd)
    return None


def _end_process(pidfd: int, pid: int, timeout: float) -> bool:
    """End a process; return whether it had to be killed.

    A process whose pidfd is readable has closed its files, and so released its lock.
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
            f"process {pid} did not end {_KILL_TIMEOUT:g} s after SIGKILL; it hangs in the kernel"
        )
    return True


def _pid_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.pid"


def _status_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Open a file to look at its lock; None if there is no such file."""
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
    """Lock a file for this process, and write whose it is."""
    _take_lock(descriptor, name)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n{start_ticks(os.getpid())}\n".encode(), 0)
    os.fchmod(descriptor, _FILE_MODE)


def _take_lock(descriptor: int, name: str) -> None:
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        # Whoever looks whether a server runs holds a shared lock for some microseconds (see `_is_locked`).
        # That must not be taken for a server.
        if _is_locked(descriptor):
            pid = _read_owner(descriptor)
            raise _is_running(name, pid[0] if pid else None)


def _is_locked(descriptor: int) -> bool:
    """Return whether a daemon holds the lock; flock(2) can only tell by trying."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _owner(descriptor: int | None, name: str) -> int | None:
    """Return the process number of the daemon that holds the lock, or None if it is free."""
    deadline = time.monotonic() + _OWNER_TIMEOUT
    while descriptor is not None and _is_locked(descriptor):
        owner = _read_owner(descriptor)
        if owner is not None and start_ticks(owner[0]) == owner[1]:
            return owner[0]
        if time.monotonic() > deadline:
            raise ConfigurationError(
                f"the pid file of the server {name!r} is locked, but not by the process it names, so nothing "
                f"was done; see who has it with: fuser {shlex.quote(str(_pid_path(run_time_folder(), name)))}"
            )
        time.sleep(0.01)
    return None


def _read_owner(descriptor: int) -> tuple[int, int] | None:
    """Return process number and start time from a pid file, None if it is empty or malformed."""
    try:
        pid, started = map(int, os.pread(descriptor, 64, 0).split())
    except ValueError:
        return None
    return pid, started


def _read_status(folder: Path, name: str, pid: int) -> dict[str, object]:
    # Missing while a daemon starts or ends; then the number may also be that of its predecessor.
    with contextlib.suppress(FileNotFoundError):
        with os.fdopen(open_own(_status_path(folder, name), os.O_RDONLY), "rb") as file:
            data = file.read(_MAX_STATUS_BYTES + 1)
        status = json.loads(data) if len(data) <= _MAX_STATUS_BYTES else None
        if isinstance(status, dict) and status.get("pid") == pid:
            return status
    return {"name": name, "pid": pid}
