"""Collect the facts about this machine, and check each."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pserver.admin.left_sessions import left_sessions
from pserver.admin.settings import resolve
from pserver.config.listen_options import DEFAULT_DATA_PORT
from pserver.config.server_config import ServerConfig
from pserver.ctl.live_status import live_servers
from pserver.doctor.checks import (
    Finding,
    Level,
    check_descriptors,
    check_memory,
    check_package,
    check_port,
    check_processes,
    check_space,
    check_tls,
    ok,
)
from pserver.system.interfaces import listener_at
from pserver.system.pidfile import RunningServer
from pserver.system.processes import available_memory
from pserver.system.runtime_dir import run_time_folder
from srp_tools.errors import ConfigurationError, ParallelError
from srp_tools.packages import distribution_version

_MIB = 2**20
# Free space in folders for temporary files: enough for the client's key, a plot, and the modules that a client sends.
_LEAST_DISK = 100 * _MIB
_LEAST_SHARED_MEMORY = 16 * _MIB  # used by libraries such as multiprocessing and OpenMP


def check_machine() -> Iterator[Finding]:
    """Return all findings for this machine."""
    yield from _versions()
    yield from _servers()
    yield from _limits()
    yield from _places()


def _versions() -> Iterator[Finding]:
    yield ok(f"Python {platform.python_version()} at {sys.executable}")
    yield ok(f"pserver {distribution_version()} at {Path(__file__).parent.parent}")
    for name in _required():
        yield check_package(name, _version(name))
    yield check_tls(ssl.OPENSSL_VERSION, has_tls13=ssl.HAS_TLSv1_3)


def _required() -> list[str]:
    """Return the required packages of this package, without extras."""
    lines = importlib.metadata.requires("pserver") or []
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines if ";" not in line)
    return [found[0] for found in names if found]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _servers() -> Iterator[Finding]:
    """Check the ports of running servers; without any, the ports that a server would use."""
    try:
        servers, left = live_servers(), left_sessions()
    except (ConfigurationError, OSError) as error:
        yield Finding(Level.WRONG, "cannot start or find servers", str(error))
        return
    for server in servers:
        for what, key in (("command port", "cmd_port"), ("data port", "data_port")):
            if server.status.get(key):
                yield check_port(what, int(str(server.status[key])), None, server.name)
        yield from _of_server(server)
    for name, sessions in left.items():
        text = f"the server {name!r} was killed, but its sessions are still alive: {'; '.join(map(str, sessions))}"
        remedy = f"keep using them: pserver start --name {name}; or end them: pserver stop --name {name}"
        yield Finding(Level.WRONG, text, remedy)
    yield from _default_ports(servers)


def _of_server(server: RunningServer) -> Iterator[Finding]:
    status, here = server.status, distribution_version()
    if status.get("answers") is False:
        text = f"the server {server.name!r} (pid {server.pid}) does not answer: it is stopped (SIGSTOP), or overloaded"
        yield Finding(Level.WRONG, text, f"resume it: kill -CONT {server.pid}")
    if status.get("version", here) != here:
        text = f"the server {server.name!r} runs version {status['version']}, but {here} is installed"
        yield Finding(Level.NOTE, text, f"restart it: pserver stop --name {server.name}, then pserver start")
    if status.get("log_error"):
        text = f"the server {server.name!r} cannot write its log {status.get('log_file')}"
        yield Finding(Level.WRONG, text, f"{status['log_error']}: free some space, or check the permissions")
    match server.status.get("users"):
        case {"file": file, "fingerprint": str(fingerprint)}:
            yield ok(f"the users of the server {server.name!r}: {file}, fingerprint {fingerprint}")
        case {"file": file}:
            text = f"the users of the server {server.name!r} cannot log in: {file} is invalid"
            yield Finding(Level.WRONG, text, f"see the reason in its log: {server.status.get('log_file')}")


def _default_ports(servers: list[RunningServer]) -> Iterator[Finding]:
    taken = {server.status.get(key) for server in servers for key in ("cmd_port", "data_port")}
    if not servers:
        yield Finding(Level.NOTE, "no server is running", "to let this machine compute: pserver start")
    for what, port in zip(("command port", "data port"), _configured_ports(), strict=True):
        if port and port not in taken and (not servers or listener_at(port)):
            yield check_port(what, port, listener_at(port), None)


def _configured_ports() -> tuple[int, int]:
    try:
        config = resolve({}, os.environ).config
    except (ParallelError, OSError):  # another check reports this
        return ServerConfig.cmd_port, DEFAULT_DATA_PORT
    return config.cmd_port, config.data_port


def _limits() -> Iterator[Finding]:
    yield check_descriptors(_hard(resource.RLIMIT_NOFILE))
    yield check_processes(_hard(resource.RLIMIT_NPROC))
    yield check_memory(available_memory())


def _hard(kind: int) -> int | None:
    limit = resource.getrlimit(kind)[1]
    return None if limit == resource.RLIM_INFINITY else limit


def _places() -> Iterator[Finding]:
    yield check_space(
        "shared memory /dev/shm",
        free_space(Path("/dev/shm")),  # noqa: S108 - only inspected, never written
        _LEAST_SHARED_MEMORY,
        "remove files that other programs left there, or enlarge it (in a container: --shm-size=1g)",
    )
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        remedy = "set TMPDIR to a folder that you can write, on a disk with free space"
        yield Finding(Level.WRONG, f"temporary files: {error.strerror}", remedy)
    else:
        remedy = "free some space there, or set TMPDIR to a folder on a disk with more space"
        yield check_space(f"temporary files {folder}", free_space(Path(folder)), _LEAST_DISK, remedy)
    try:
        yield ok(f"run-time folder {run_time_folder()}")
    except (ConfigurationError, OSError) as error:
        yield Finding(Level.WRONG, "the run-time folder is unusable", str(error))


def free_space(folder: Path) -> int | None:
    """Return the free bytes on a folder's disk; ``None`` if this process cannot write there."""
    try:
        return shutil.disk_usage(folder).free if os.access(folder, os.W_OK | os.X_OK) else None
    except OSError:
        return None
