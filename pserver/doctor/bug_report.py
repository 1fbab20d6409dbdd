"""``pserver bug-report``: one text with all facts that help to explain a problem, and no secrets.

Each part is independent: a part that fails contains its error instead. Values of environment variables are left out,
because they may contain anything. Files with secrets are read only to remove those secrets from the other parts.
"""

import argparse
import contextlib
import functools
import getpass
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pserver.accounts.account import read_map
from pserver.admin.config_commands import shown_settings
from pserver.admin.settings import Settings, resolve
from pserver.ctl.live_status import live_servers
from pserver.doctor.anonymous import Anonymous
from pserver.doctor.command import check_all
from pserver.system.log_file import default_log
from pserver.system.pidfile import RunningServer
from srp_tools.credentials import load_credentials
from srp_tools.errors import ConfigurationError, ParallelError
from srp_tools.packages import distribution_version
from srp_tools.private_files import client_file, server_file
from srp_tools.verifier_file import VerifierFile

DEFAULT_FILE = "pserver-bug-report.txt"
_LOG_LINES = 200
_LOG_BYTES = 65536
_MAX_SECRETS = 2**20  # bytes to read of a file with secrets
_VARIABLES = (
    "PSERVER_",
    "PCONNECT_",
    "PRUN_",
    "PYTHON",
    "XDG_",
    "LC_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "NUMBA_",
    "SLURM_",
)
_SECRET_VARIABLES = ("PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL")
_HEAD = """\
A report of pserver. Users, machines and addresses are replaced, each by the same word everywhere. Passwords, verifiers,
keys and values of environment variables are left out. Read the report before you send it: programs may have written
anything to the log.
"""


def run_bug_report(options: argparse.Namespace) -> int:
    """Write the report to a new file that only this account can read, or to standard output; return 0."""
    path = options.file or DEFAULT_FILE
    text = bug_report()
    if path == "-":
        print(text, end="")
        return 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"the file {path} already exists; give another name") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    print(f"Wrote {path}. Read it before you send it.")
    return 0


def bug_report() -> str:
    """Return the text of the report."""
    seen = _Seen()
    parts: dict[str, Callable[[], Iterable[str]]] = {
        "Versions": _versions,
        "Settings": lambda: shown_settings(seen.settings).splitlines(),
        "Findings of pserver doctor": lambda: map(str, check_all()),
        "Servers": lambda: (json.dumps(dict(server.status), indent=2) for server in seen.servers),
        "Variables that are set": _variables,
        "Logs": lambda: _logs(seen),
    }
    anonymous = Anonymous(_users(seen), _hosts(), _secrets(seen), str(Path.home()))
    made = [(title, "\n".join(_lines(part))) for title, part in parts.items()]
    return _HEAD + "".join(f"\n== {title} ==\n\n{anonymous.text(text)}\n" for title, text in made)


class _Seen:
    """Facts that several parts need. Each is read once, and raises the error that prevents reading it."""

    @functools.cached_property
    def settings(self) -> Settings:
        return resolve({}, os.environ)

    @functools.cached_property
    def servers(self) -> list[RunningServer]:
        return live_servers()

    @functools.cached_property
    def users_files(self) -> list[Path]:
        paths = [server_file()]
        with contextlib.suppress(ParallelError, OSError):
            paths += [Path(path) for path in [self.settings.config.auth_file] if path]
        with contextlib.suppress(ParallelError, OSError):
            for server in self.servers:
                match server.status.get("users"):
                    case {"file": str(path)}:
                        paths.append(Path(path))
        return list(dict.fromkeys(paths))


def _lines(part: Callable[[], Iterable[str]]) -> Iterator[str]:
    try:
        yield from part()
    except Exception as error:  # noqa: BLE001 - a failed part must not prevent the other parts
        yield f"(this part failed with {type(error).__name__}: {error})"


def _versions() -> Iterator[str]:
    yield f"pserver {distribution_version()}, Python {sys.version}, {platform.platform()}"
    yield f"created at {time.strftime('%Y-%m-%d %H:%M:%S %z')}"


def _variables() -> Iterator[str]:
    yield from sorted(name for name in os.environ if name.startswith(_VARIABLES))


def _logs(seen: _Seen) -> Iterator[str]:
    found = {str(path) for server in seen.servers if (path := server.status.get("log_file"))}
    with contextlib.suppress(ParallelError, OSError):
        config = seen.settings.config
        found.add(str(config.log_file or default_log(config.name)))
    for path in sorted(found):
        yield f"-- the end of {path}:"
        try:
            with Path(path).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
                yield from log.read(_LOG_BYTES).decode(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError as error:
            yield f"(cannot be read: {error.strerror})"


def _users(seen: _Seen) -> list[str]:
    """Return all user names known on this machine."""
    found = []
    with contextlib.suppress(KeyError, OSError):
        found.append(getpass.getuser())
    found += [os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER", "PCONNECT_USER")]
    with contextlib.suppress(ParallelError, OSError):
        found.append(load_credentials().user)
    with contextlib.suppress(ParallelError, OSError):
        config = seen.settings.config
        found += config.allow_users
        found += [name for pair in read_map(config.account_map).items() for name in pair]
    for path in seen.users_files:
        with contextlib.suppress(ParallelError, OSError):
            found += VerifierFile(path).users()
    return [name for name in found if name]


def _hosts() -> list[str]:
    name = socket.gethostname()
    return [each for each in (socket.getfqdn(), name, name.partition(".")[0]) if each and each != "localhost"]


def _secrets(seen: _Seen) -> list[str]:
    """Return the strings that must not appear in the report, whatever their source."""
    found = [
        value for name, value in os.environ.items() if any(word in name.upper() for word in _SECRET_VARIABLES)
    ]
    with contextlib.suppress(OSError):
        found.append(client_file().read_text(errors="replace").partition(":")[2].strip())
    for path in seen.users_files:
        for name in (path, path.with_name(f"{path.name}.seed")):
            with contextlib.suppress(OSError), name.open(errors="replace") as file:
                for line in file.read(_MAX_SECRETS).splitlines():
                    found += line.split(":")[1:3] if ":" in line else [line.strip()]
    return found
