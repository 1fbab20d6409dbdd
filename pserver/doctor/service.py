"""Whether a server here can do its work, and whether it lasts: settings, clock, cgroups, log-out and reboot."""

import ctypes
import getpass
import os
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from pserver.admin.service_command import user_units
from pserver.admin.settings import default_file, resolve
from pserver.config.server_config import ServerConfig
from pserver.doctor.checks import Finding, Level, check_space, ok
from pserver.doctor.machine import free_space
from pserver.limits.cgroup import cgroup_name, own_cgroup
from pserver.system.log_file import default_log
from pserver.system.pidfile import list_servers
from srp_tools.errors import ConfigurationError, ParallelError

_LEAST_DISK = 100 * 2**20
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
_SERVICE = "pserver install-service"
_KILLS = re.compile(r"^\s*KillUserProcesses\s*=\s*(yes|true|on|1)\s*$", re.IGNORECASE | re.MULTILINE)


def check_service(root: Path = Path("/")) -> Iterator[Finding]:
    """Return what is found of a server as a service; `root`: where the system's files are."""
    try:
        settings = resolve({}, os.environ)
    except (ParallelError, OSError) as error:
        yield Finding(Level.WRONG, "the settings of a server cannot be used", str(error))
        yield from _clock()
    else:
        if settings.path is not None:
            yield ok(f"settings {settings.path}")
        elif default_file().exists():
            yield Finding(Level.NOTE, f"the settings {default_file()} are not read", "look at its mode")
        yield from _clock()
        yield from _places(settings.config)
    for name, process in _servers():
        yield _cgroup(name, root / "proc" / process)
    yield from _lasting(root)


def _clock() -> Iterator[Finding]:
    written = Path(__file__).stat().st_mtime
    if time.time() < written - 86400:
        text = (
            "the clock is wrong: it is behind the day on which this package was installed; logins will fail"
        )
        yield Finding(Level.WRONG, text, "set it, or run a time service such as chrony or systemd-timesyncd")
    elif ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == _UNSYNCHRONISED:
        text = "no time service sets the clock (adjtimex)"
        remedy = "run one, such as chrony or systemd-timesyncd; in a container and a virtual machine the host's counts"
        yield Finding(Level.NOTE, text, remedy)
    else:
        yield ok("a time service sets the clock")


def _places(config: ServerConfig) -> Iterator[Finding]:
    for what, path in (
        ("the log", Path(config.log_file or default_log(config.name)).parent),
        ("results of detached networks", config.kept_folder()),
    ):
        place = next(each for each in (path, *path.parents) if each.exists())
        option = "--log-file" if what == "the log" else "--spool-dir"
        remedy = f"make room, or give another place with {option}"
        yield check_space(f"{what}: {path}", free_space(place), _LEAST_DISK, remedy)


def _cgroup(name: str, process: Path) -> Finding:
    """Say whether limits of memory, processes and processors can hold for whole sessions of a server."""
    remedy = f"run it as a service with Delegate=yes: {_SERVICE}"
    try:
        folder = own_cgroup(process)
        offered = (folder / "cgroup.controllers").read_text().split()
    except (ConfigurationError, OSError) as error:
        why = (
            error if isinstance(error, ConfigurationError) else f"its cgroup cannot be read: {error.strerror}"
        )
        return Finding(
            Level.NOTE, f"{name}: limits hold for each process of a session only, because {why}", remedy
        )
    missing = [each for each in ("memory", "pids", "cpu") if each not in offered]
    if not all(os.access(path, os.W_OK) for path in (folder, folder / "cgroup.procs")):
        why = f"its cgroup {folder} is not delegated to this account"
    elif missing:
        why = f"its cgroup {folder} has no {', '.join(missing)}"
    else:
        return ok(f"{name}: limits hold for whole sessions, its cgroup {folder} is delegated")
    return Finding(
        Level.NOTE, f"{name}: limits hold for each process of a session only, because {why}", remedy
    )


def _lasting(root: Path) -> Iterator[Finding]:
    """Say whether a server survives a log-out and a reboot."""
    if not (root / "run/systemd/system").is_dir():
        text = "this machine does not run systemd, so nothing is known that starts a server after a reboot"
        remedy = "in a container: let its manager start it again; else add it to what starts at boot"
        yield Finding(Level.NOTE, text, remedy)
        return
    account = _account()
    lingers = (root / "var/lib/systemd/linger" / account).exists()
    linger = f"loginctl enable-linger {shlex.quote(account)}"
    system, own = _units(root / "etc/systemd/system"), _units(user_units())
    if system:
        yield ok(f"starts at boot: {', '.join(system)}")
    elif own and lingers:
        yield ok(f"starts at boot, because this account lingers: {', '.join(own)}")
    elif own:
        text = f"{', '.join(own)} starts only when this account logs in, and ends when it logs out"
        yield Finding(Level.WRONG, text, f"let it linger: {linger}")
    else:
        yield Finding(Level.NOTE, "no service starts a server after a reboot", f"if it should: {_SERVICE}")
    for name, process in _servers():
        yield _after_log_out(
            name, cgroup_name(root / "proc" / process), lingers, linger, kills=_kills_at_log_out(root)
        )


def _servers() -> list[tuple[str, str]]:
    """Return the servers, or one that would be started from here, with their process numbers."""
    try:
        servers = list_servers()
    except (ConfigurationError, OSError):  # another finding
        return []
    found = [(f"the server {server.name!r}", str(server.pid)) for server in servers]
    return found or [("a server that is started from here", "self")]


def _after_log_out(name: str, cgroup: str, lingers: bool, linger: str, *, kills: bool) -> Finding:
    if "/session-" in cgroup and kills:
        text = f"{name} ends when you log out (KillUserProcesses=yes in logind.conf)"
        remedy = (
            f"run it as a service: {_SERVICE}; or: {linger}, then systemd-run --user --scope pserver start"
        )
        return Finding(Level.WRONG, text, remedy)
    if re.search(r"/user@\d+\.service", cgroup) and not lingers:
        return Finding(Level.WRONG, f"{name} ends when this account logs out", f"let it linger: {linger}")
    return ok(f"{name} goes on after a log-out")


def _kills_at_log_out(root: Path) -> bool:
    folder = root / "etc/systemd"
    paths = [folder / "logind.conf", *sorted((folder / "logind.conf.d").glob("*.conf"))]
    return any(_KILLS.search(path.read_text(errors="replace")) for path in paths if os.access(path, os.R_OK))


def _units(folder: Path) -> list[str]:
    return sorted({path.name for path in folder.glob("*.wants/pserver*.service")})


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
