"""Whether a server on this machine works and persists: settings, clock, cgroups, logout and reboot."""

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
    """Return the findings about a server as a service; `root`: the root of the system's files."""
    try:
        settings = resolve({}, os.environ)
    except (ParallelError, OSError) as error:
        yield Finding(Level.WRONG, "the settings of a server are invalid", str(error))
        yield from _clock()
    else:
        if settings.path is not None:
            yield ok(f"settings {settings.path}")
        elif default_file().exists():
            yield Finding(
                Level.NOTE,
                f"the settings {default_file()} cannot be read",
                "check its permissions",
            )
        yield from _clock()
        yield from _places(settings.config)
    for name, process in _servers():
        yield _cgroup(name, root / "proc" / process)
    yield from _lasting(root)


def _clock() -> Iterator[Finding]:
    written = Path(__file__).stat().st_mtime
    if time.time() < written - 86400:
        text = "the clock is wrong: it shows a time before this package was installed, so logins will fail"
        yield Finding(
            Level.WRONG, text, "set the clock, or run a time service such as chrony or systemd-timesyncd"
        )
    elif ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == _UNSYNCHRONISED:
        text = "no time service sets the clock (adjtimex)"
        remedy = (
            "run one, such as chrony or systemd-timesyncd; in a container or virtual machine, check its host"
        )
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
        remedy = f"free some space, or choose another folder with {option}"
        yield check_space(f"{what}: {path}", free_space(place), _LEAST_DISK, remedy)


def _cgroup(name: str, process: Path) -> Finding:
    """Report whether limits on memory, processes and CPU can apply to whole sessions of a server."""
    remedy = f"run the server as a service with Delegate=yes: {_SERVICE}"
    try:
        folder = own_cgroup(process)
        offered = (folder / "cgroup.controllers").read_text().split()
    except (ConfigurationError, OSError) as error:
        why = (
            error if isinstance(error, ConfigurationError) else f"its cgroup is unreadable: {error.strerror}"
        )
        return Finding(
            Level.NOTE, f"{name}: limits apply to each process of a session only, because {why}", remedy
        )
    missing = [each for each in ("memory", "pids", "cpu") if each not in offered]
    if not all(os.access(path, os.W_OK) for path in (folder, folder / "cgroup.procs")):
        why = f"its cgroup {folder} is not delegated to this account"
    elif missing:
        why = f"its cgroup {folder} has no {', '.join(missing)}"
    else:
        return ok(f"{name}: limits apply to whole sessions; its cgroup {folder} is delegated")
    return Finding(
        Level.NOTE, f"{name}: limits apply to each process of a session only, because {why}", remedy
    )


def _lasting(root: Path) -> Iterator[Finding]:
    """Report whether a server survives a logout and a reboot."""
    if not (root / "run/systemd/system").is_dir():
        text = "this machine does not run systemd, so it is unknown whether a server starts after a reboot"
        remedy = (
            "in a container, let its manager restart it; otherwise, add it to the programs that start at boot"
        )
        yield Finding(Level.NOTE, text, remedy)
        return
    account = _account()
    lingers = (root / "var/lib/systemd/linger" / account).exists()
    linger = f"loginctl enable-linger {shlex.quote(account)}"
    system, own = _units(root / "etc/systemd/system"), _units(user_units())
    if system:
        yield ok(f"starts at boot: {', '.join(system)}")
    elif own and lingers:
        yield ok(f"starts at boot, because lingering is enabled for this account: {', '.join(own)}")
    elif own:
        text = f"{', '.join(own)} starts only when this account logs in, and stops when it logs out"
        yield Finding(Level.WRONG, text, f"enable lingering: {linger}")
    else:
        yield Finding(Level.NOTE, "no service starts a server after a reboot", f"to set one up: {_SERVICE}")
    for name, process in _servers():
        yield _after_log_out(
            name, cgroup_name(root / "proc" / process), lingers, linger, kills=_kills_at_log_out(root)
        )


def _servers() -> list[tuple[str, str]]:
    """Return the names and process ids of the running servers; without any, of a server started from this process."""
    try:
        servers = list_servers()
    except (ConfigurationError, OSError):  # another check reports this
        return []
    found = [(f"the server {server.name!r}", str(server.pid)) for server in servers]
    return found or [("a server started from here", "self")]


def _after_log_out(name: str, cgroup: str, lingers: bool, linger: str, *, kills: bool) -> Finding:
    if "/session-" in cgroup and kills:
        text = f"{name} is killed when you log out (KillUserProcesses=yes in logind.conf)"
        remedy = (
            f"run it as a service: {_SERVICE}; or: {linger}, then systemd-run --user --scope pserver start"
        )
        return Finding(Level.WRONG, text, remedy)
    if re.search(r"/user@\d+\.service", cgroup) and not lingers:
        return Finding(Level.WRONG, f"{name} stops when this account logs out", f"enable lingering: {linger}")
    return ok(f"{name} keeps running after a logout")


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
