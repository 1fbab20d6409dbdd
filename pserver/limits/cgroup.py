"""Cgroups (version 2): limits for all processes of a session together.

A server can use them if its own cgroup was delegated to it: by a systemd unit with ``Delegate=yes``, or in a container
with write access. The server finds out by trying, for each new session until it works. A cgroup whose children have
controllers must not have processes itself (cgroups(7), "no internal processes"), so the daemon moves its own processes
into a child cgroup, and creates another one for each session. If the cgroup has a process that it cannot move, such as
the shell that started it, this is impossible, and everything stays unchanged.

The spawner of a session enters the session's cgroup before it starts an engine. The session process itself stays with
the server, where the memory use of its user's code does not affect it.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pserver.config.limit_options import SessionLimits
from pserver.system.processes import descendants, start_ticks
from srp_tools.errors import ConfigurationError

_CONTROLLERS = ("memory", "pids", "cpu")
_SERVER = "pserver-server"
_SESSION = "pserver-session-"
_CPU_PERIOD = 100_000  # microseconds, the kernel's own default
_LEAST_QUOTA = 1000  # microseconds; the kernel accepts no less
_REMOVE_SECONDS = 1.0  # killed processes are gone within milliseconds
_CHECK_SECONDS = 0.005
_MAX_ATTEMPTS = 20  # attempts to move all processes of the server, which starts few


class Cgroups:
    """The cgroups of one server, created when a session first needs one.

    `why_not`: why they were not available at the last attempt; ``""`` if they are, or none was needed yet.
    `controllers`: the available controllers.
    """

    def __init__(self) -> None:
        self.why_not = ""
        self.controllers: tuple[str, ...] = ()
        self._folder: Path | None = None

    def folder(self, limits: SessionLimits) -> str:
        """Return the folder for the cgroups of sessions; ``""`` if these limits need none, or none are available."""
        if not (limits.memory or limits.processes or limits.processors):
            return ""
        if self._folder is None:
            try:
                folder = own_cgroup()
                self.controllers = divide(folder)
            except (OSError, ConfigurationError) as error:  # the next session tries again
                self.why_not = str(error)
            else:
                self._folder, self.why_not = folder, ""
        if self._folder is None:
            return ""
        self._sweep(self._folder)
        return str(self._folder)

    @staticmethod
    def _sweep(folder: Path) -> None:
        """Remove cgroups of killed sessions; the cgroup of a living session may be empty for a moment, but is kept."""
        for left in folder.glob(f"{_SESSION}*"):
            number = left.name.removeprefix(_SESSION)
            if number.isdecimal() and start_ticks(int(number)) is None:
                with contextlib.suppress(OSError):
                    left.rmdir()


def cgroup_name(process: Path) -> str:
    """Return the kernel's name of a process's cgroup of version 2; ``""`` if it has none."""
    return next((line[3:] for line in _lines(process / "cgroup") if line.startswith("0::")), "")


def own_cgroup(process: Path = Path("/proc/self")) -> Path:
    """Return the folder of this process's cgroup, or the parent folder if `divide` has moved the process.

    Raises `ConfigurationError` if it is not visible.
    """
    inside = cgroup_name(process)
    if not inside:
        raise ConfigurationError("this machine has no cgroups of version 2")
    for line in _lines(process / "mountinfo"):
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            root, mounted = (_unescaped(field) for field in fields.split()[3:5])
            if ".." in Path(inside).parts or not Path(inside).is_relative_to(root):
                continue  # it is outside of the container's view
            folder = Path(mounted, Path(inside).relative_to(root))
            return folder.parent if folder.name == _SERVER else folder
    raise ConfigurationError("no cgroups of version 2 are mounted")


def divide(folder: Path) -> tuple[str, ...]:
    """Move this process and its children into a child of their cgroup; return the controllers for other cgroups.

    Raises `OSError` or `ConfigurationError` if that is impossible; then nothing is changed.
    """
    offered = (folder / "cgroup.controllers").read_text().split()
    wanted = [name for name in _CONTROLLERS if name in offered]
    if not wanted:
        raise ConfigurationError(f"{folder} has none of the controllers {', '.join(_CONTROLLERS)}")
    server = folder / _SERVER
    moved: list[int] = []
    try:
        for _ in range(_MAX_ATTEMPTS):
            found = _own_processes(folder)
            server.mkdir(exist_ok=True)
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    (server / "cgroup.procs").write_text(str(pid))
                    moved.append(pid)
            with contextlib.suppress(_BusyError):  # one of these processes has just started another one
                _give_controllers(folder, wanted)
                return tuple(wanted)
        raise ConfigurationError(f"{folder} keeps getting new processes")
    except (OSError, ConfigurationError):
        _undo(folder, server, moved)
        raise


class _BusyError(Exception):
    """A cgroup that must not have processes has some."""


def _give_controllers(folder: Path, wanted: Iterable[str]) -> None:
    try:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _BusyError from None
        raise


def _undo(folder: Path, server: Path, moved: Iterable[int]) -> None:
    with contextlib.suppress(OSError):
        for pid in moved:
            with contextlib.suppress(ProcessLookupError):
                (folder / "cgroup.procs").write_text(str(pid))
        server.rmdir()


def _own_processes(folder: Path) -> list[int]:
    """Return the processes in a cgroup, if each of them is this one or a descendant of it.

    Raises `ConfigurationError` if there are others.
    """
    here = set(map(int, (folder / "cgroup.procs").read_text().split()))
    ours = {os.getpid(), *descendants()}  # read later, so no other process can have slipped in
    if strangers := sorted(pid for pid in here - ours if start_ticks(pid) is not None):
        raise ConfigurationError(f"{folder} has processes that are not this server's, such as {strangers[0]}")
    return sorted(here & ours)


def enter(folder: str) -> None:
    """Put this process, and all that it will start, into a cgroup, unless it is there already.

    Raises `OSError`, whose `strerror` names the folder: without its limits, no process of a session may start.
    """
    if folder and str(os.getpid()) not in _lines(Path(folder, "cgroup.procs")):
        try:
            Path(folder, "cgroup.procs").write_text("0")
        except OSError as error:
            raise OSError(error.errno, f"cannot enter the cgroup {folder}: {error.strerror}") from error


def enter_that_of(session: int) -> None:
    """Put this process into the cgroup of a session, if it has one. `session`: its process number. Raises `OSError`.

    If the session should have a cgroup but no longer does, `enter` reports that when the engine starts.
    """
    with contextlib.suppress(ConfigurationError):
        folder = own_cgroup() / f"{_SESSION}{session}"
        if folder.is_dir():
            enter(str(folder))


class SessionCgroup:
    """The cgroup of one session. `uid`: the account that owns it, if this process is root and will switch accounts.

    `limits`: the session's, with the folder of the cgroup, or without a folder if there is none; then `problem` says
    why.
    """

    def __init__(self, limits: SessionLimits, uid: int | None = None) -> None:
        self.problem = ""
        self.limits = limits
        self._kills = 0  # number of kills that `take_kill` has reported
        if limits.cgroup:
            folder = Path(limits.cgroup, f"{_SESSION}{os.getpid()}")
            self.limits = replace(limits, cgroup=str(folder))
            try:
                folder.mkdir(exist_ok=True)
                _write_limits(folder, limits)
                if uid is not None and (folder / "cgroup.kill").exists():
                    os.chown(folder / "cgroup.kill", uid, -1)  # the limits stay root's
            except OSError as error:
                self.problem = str(error)
                self.close()
                self.limits = replace(limits, cgroup="")

    def take_kill(self) -> bool:
        """Return whether the kernel has killed a process for lack of memory since the last call."""
        if not self.limits.cgroup:
            return False
        before = self._kills
        for line in _lines(Path(self.limits.cgroup, "memory.events")):
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                self._kills = int(count)
        return self._kills > before

    def close(self) -> None:
        """Kill all remaining processes in it, and remove it."""
        if not self.limits.cgroup:
            return
        folder = Path(self.limits.cgroup)
        deadline = time.monotonic() + _REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                folder.rmdir()
            except FileNotFoundError:
                return
            except PermissionError:  # it belongs to root; the daemon removes it
                _kill_all(folder)
                return
            except OSError:  # it still has processes, or one is just ending
                _kill_all(folder)
                time.sleep(_CHECK_SECONDS)


def _write_limits(folder: Path, limits: SessionLimits) -> None:
    values = {
        "memory.max": str(limits.memory) if limits.memory else "",
        "memory.swap.max": "0" if limits.memory else "",  # otherwise swap would come on top of the limit
        "pids.max": str(limits.processes) if limits.processes else "",
        "cpu.max": _cpu_max(limits.processors) if limits.processors else "",
    }
    for name, value in values.items():
        if value and (folder / name).exists():  # a controller may be missing, or the kernel may have no swap
            (folder / name).write_text(value)


def _cpu_max(processors: float) -> str:
    return f"{max(_LEAST_QUOTA, round(processors * _CPU_PERIOD))} {_CPU_PERIOD}"


def _kill_all(folder: Path) -> None:
    with contextlib.suppress(OSError):
        try:
            (folder / "cgroup.kill").write_text("1")
        except FileNotFoundError:  # before Linux 5.14
            for pid in _lines(folder / "cgroup.procs"):
                os.kill(int(pid), signal.SIGKILL)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def _unescaped(field: str) -> str:
    """Decode a path from mountinfo, where blanks and the like are octal; see proc_pid_mountinfo(5)."""
    for text, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(text, sign)
    return field
