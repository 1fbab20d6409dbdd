"""Cgroups (version 2): limits that count for all processes of a session together.

A server can use them where its own cgroup was delegated to it: by a systemd unit with ``Delegate=yes``, or in a
container that may write there. Whether that is so shows when one tries, for each session again until it works. A cgroup
whose children have controllers must have no processes itself (cgroups(7), "no internal processes"), so the daemon moves
what is its own into a child, and gives each session another one. What it cannot move, such as the shell that started
it, makes all this impossible, and then everything stays as it is.

The spawner of a session enters the session's cgroup before it starts an engine; the session itself stays with the
server, where the memory of its user's code does not touch it.
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
_LEAST_QUOTA = 1000  # microseconds; the kernel takes no less
_REMOVE_SECONDS = 1.0  # killed processes are gone within milliseconds
_LOOK = 0.005
_MOST_LOOKS = 20  # for processes of the server, which starts few


class Cgroups:
    """The cgroups of one server, once a session needs one.

    `why_not`: why there were none when one was needed last; ``""``: there are, or none was needed yet. `controllers`:
    which there are.
    """

    def __init__(self) -> None:
        self.why_not = ""
        self.controllers: tuple[str, ...] = ()
        self._folder: Path | None = None

    def folder(self, limits: SessionLimits) -> str:
        """Return where the cgroups of sessions are; ``""`` if these limits need none, or there can be none."""
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
        """Remove what killed sessions have left; that of a session which lives may be empty for a moment."""
        for left in folder.glob(f"{_SESSION}*"):
            number = left.name.removeprefix(_SESSION)
            if number.isdecimal() and start_ticks(int(number)) is None:
                with contextlib.suppress(OSError):
                    left.rmdir()


def cgroup_name(process: Path) -> str:
    """Return the name that the kernel has for a process's cgroup; ``""`` if there is none of version 2."""
    return next((line[3:] for line in _lines(process / "cgroup") if line.startswith("0::")), "")


def own_cgroup(process: Path = Path("/proc/self")) -> Path:
    """Return the folder of this process's cgroup, or of that in which `divide` has put it.

    Raises `ConfigurationError` if it cannot be seen.
    """
    inside = cgroup_name(process)
    if not inside:
        raise ConfigurationError("this machine has no cgroups of version 2")
    for line in _lines(process / "mountinfo"):
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            root, mounted = (_unescaped(field) for field in fields.split()[3:5])
            if ".." in Path(inside).parts or not Path(inside).is_relative_to(root):
                continue  # it is outside of what a container sees
            folder = Path(mounted, Path(inside).relative_to(root))
            return folder.parent if folder.name == _SERVER else folder
    raise ConfigurationError("no cgroups of version 2 are mounted")


def divide(folder: Path) -> tuple[str, ...]:
    """Move this process, and those that it has started, into a child of their cgroup; return the controllers of others.

    Raises `OSError` or `ConfigurationError` if that is impossible; then all is as it was.
    """
    offered = (folder / "cgroup.controllers").read_text().split()
    wanted = [name for name in _CONTROLLERS if name in offered]
    if not wanted:
        raise ConfigurationError(f"{folder} was given none of the controllers {', '.join(_CONTROLLERS)}")
    server = folder / _SERVER
    moved: list[int] = []
    try:
        for _ in range(_MOST_LOOKS):
            found = _own_processes(folder)
            server.mkdir(exist_ok=True)
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    (server / "cgroup.procs").write_text(str(pid))
                    moved.append(pid)
            with contextlib.suppress(_BusyError):  # meanwhile one of ours has started another one
                _give_controllers(folder, wanted)
                return tuple(wanted)
        raise ConfigurationError(f"{folder} has new processes again and again")
    except (OSError, ConfigurationError):
        _undo(folder, server, moved)
        raise


class _BusyError(Exception):
    """There are processes in a cgroup that is to have none."""


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
    """Return the processes in a cgroup, if each of them is this one, or has been started by it.

    Raises `ConfigurationError` if there are others.
    """
    here = set(map(int, (folder / "cgroup.procs").read_text().split()))
    ours = {os.getpid(), *descendants()}  # later: none of these can have come from elsewhere meanwhile
    if strangers := sorted(pid for pid in here - ours if start_ticks(pid) is not None):
        raise ConfigurationError(f"{folder} has processes that are not this server's, such as {strangers[0]}")
    return sorted(here & ours)


def enter(folder: str) -> None:
    """Put this process into a cgroup, unless it is there, and with it all that it will start.

    Raises `OSError`, whose `strerror` has the folder: without its limits, nothing of a session may begin.
    """
    if folder and str(os.getpid()) not in _lines(Path(folder, "cgroup.procs")):
        try:
            Path(folder, "cgroup.procs").write_text("0")
        except OSError as error:
            raise OSError(error.errno, f"the cgroup {folder} cannot be entered: {error.strerror}") from error


def enter_that_of(session: int) -> None:
    """Put this process into the cgroup of a session, if it has one; `session`: its process. Raises `OSError`.

    If it should have one, and has none any more, `enter` says so at the start of the engine.
    """
    with contextlib.suppress(ConfigurationError):
        folder = own_cgroup() / f"{_SESSION}{session}"
        if folder.is_dir():
            enter(str(folder))


class SessionCgroup:
    """The cgroup of one session; `uid`: whose it is, if this process is root and will not be.

    `limits`: those of the session, with the folder of the cgroup, or without one if there is none. `problem`: why.
    """

    def __init__(self, limits: SessionLimits, uid: int | None = None) -> None:
        self.problem = ""
        self.limits = limits
        self._kills = 0  # of which `take_kill` has told
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
        """Whether the kernel has ended a process for want of memory since the last call."""
        if not self.limits.cgroup:
            return False
        before = self._kills
        for line in _lines(Path(self.limits.cgroup, "memory.events")):
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                self._kills = int(count)
        return self._kills > before

    def close(self) -> None:
        """End all that is left in it, and remove it."""
        if not self.limits.cgroup:
            return
        folder = Path(self.limits.cgroup)
        deadline = time.monotonic() + _REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                folder.rmdir()
            except FileNotFoundError:
                return
            except PermissionError:  # it is root's, whose daemon removes it
                _kill_all(folder)
                return
            except OSError:  # something is in it, or is just ending
                _kill_all(folder)
                time.sleep(_LOOK)


def _write_limits(folder: Path, limits: SessionLimits) -> None:
    values = {
        "memory.max": str(limits.memory) if limits.memory else "",
        "memory.swap.max": "0"
        if limits.memory
        else "",  # else the limit would be that of memory and swap together
        "pids.max": str(limits.processes) if limits.processes else "",
        "cpu.max": _cpu_max(limits.processors) if limits.processors else "",
    }
    for name, value in values.items():
        if value and (folder / name).exists():  # a controller may be missing, or the kernel have no swap
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
    """Return a path of mountinfo, where blanks and the like are octal; see proc_pid_mountinfo(5)."""
    for text, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(text, sign)
    return field
