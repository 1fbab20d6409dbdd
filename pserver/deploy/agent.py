"""The part of ``pserver deploy`` that runs on a host, under a Python that was found there.

It is sent as text and needs only the standard library. It reads one request from standard input: a line of JSON,
followed by the contents of the files that the request names. It answers with lines of JSON, each after a mark.

All files that it creates are in one folder for each machine and server name, because machines may share home folders:

    env-KEY/       an environment; contains a file `complete` when the installation is finished
    server/        the servers' login files
    log            log of the server
    record.json    record of the deployment: the environment, and the options of the server
"""

import contextlib
import fcntl
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

_TAIL = 1500  # characters of output to quote when a program fails
_REACH_SECONDS = 5.0
_CHUNK = 2**20
Say = Callable[..., None]

# Asks the environment that runs the server for the server's state, and for the addresses where others may reach it.
_ASK = """
import json, sys
from pserver.system.interfaces import own_addresses
try:
    from pserver.ctl.live_status import live_server as find_server
except ImportError:  # an older version is installed there
    from pserver.system.pidfile import find_server
server = find_server(sys.argv[1])
status = None if server is None else dict(server.status)
print(json.dumps([status, own_addresses(status["bind"] if status else [])]))
"""

# Checks whether a running server accepts all users of a new users' file.
_CHECK = """
import argparse, pathlib, sys
from pserver.admin.config_commands import add_settings, settings_of
from pserver.daemon.user_file import check_users
from srp_tools.errors import ParallelError
from srp_tools.verifier_file import VerifierFile
parser = argparse.ArgumentParser()
add_settings(parser)
config = settings_of(parser.parse_args(sys.argv[1:])).config
try:
    check_users(config, VerifierFile(pathlib.Path(config.auth_file)).users())
except ParallelError as error:
    sys.exit(str(error))
"""


class RefusedError(Exception):
    """The request cannot be carried out; the message says why."""


def main(stream: BinaryIO, say: Say) -> int:
    """Carry out the request; return the exit status."""
    request = json.loads(stream.readline())
    try:
        say(done=_OPERATIONS[request["do"]](request, stream, say))
    except (RefusedError, OSError) as error:
        say(error=str(error))
        return 1
    return 0


def place_of(name: str) -> Path:
    """Return the folder for a server of this name on this machine."""
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return base / "pserver/deploy" / (platform.node() or "localhost") / name


def look(request: dict[str, Any], _: BinaryIO, __: Say) -> dict[str, Any]:
    """Return the state of this host; change nothing."""
    if sys.platform != "linux":
        raise RefusedError(f"servers need Linux, but this host runs {platform.system()}")
    place = place_of(request["name"])
    record = _read_record(place)
    return {
        "python": sys.executable,
        "version": platform.python_version(),
        "machine": platform.node(),
        "environments": [path.parent.name for path in place.glob("env-*/complete")],
        "record": record,
        **_ask(place, record, request["name"]),
    }


def deploy(request: dict[str, Any], stream: BinaryIO, say: Say) -> dict[str, Any]:
    """Install the package, copy the files, and start the server; skip steps that are already done."""
    name, wanted = request["name"], request["record"]
    place = place_of(name)
    with _locked(place), _received(request["files"], stream, place) as received:
        record = _read_record(place)
        status = _ask(place, record, name)["status"]
        fits = status is not None and record is not None and _start_of(record) == _start_of(wanted)
        if not fits:
            _refuse_if_used(status, force=request["force"])
        environment = place / wanted["environment"]
        if not (environment / "complete").exists():
            say(step=f"installing with Python {platform.python_version()} ({sys.executable})")
            _install(environment, received, request["packages"])
        if fits:
            _check_users(place, wanted, received)
        _keep_files(place / "server", received / "server")
        if not fits:
            say(step="starting the server")
            # An installation takes long; a client may have connected in the meantime.
            _refuse_if_used(_ask(place, record, name)["status"], force=request["force"])
            _restart(place, record, wanted, name)
        _write_record(place, wanted)
        for old in place.glob("env-*"):
            if old != environment:
                shutil.rmtree(old)
        return _ask(place, wanted, name)


def remove(request: dict[str, Any], _: BinaryIO, __: Say) -> dict[str, Any]:
    """Stop the server, and remove everything that `deploy` created."""
    name = request["name"]
    place = place_of(name)
    if not place.exists():
        return {"removed": None, "cmd_port": None}
    with _locked(place):
        record = _read_record(place)
        _refuse_if_used(_ask(place, record, name)["status"], force=request["force"])
        if record is not None:
            _pserver(place, record, "stop", "--force", "--name", name, also=(3,))
        shutil.rmtree(place)
    for folder in list(place.parents)[:3]:  # the folders of this machine, of deploy, and of pserver
        with contextlib.suppress(OSError):  # the folder is not empty
            folder.rmdir()
    return {"removed": str(place), "cmd_port": _cmd_port(record)}


def reach(request: dict[str, Any], _: BinaryIO, __: Say) -> dict[str, Any]:
    """Try to connect to other hosts; return the reason for each host that cannot be reached."""
    with ThreadPoolExecutor(32) as pool:
        failures = dict(pool.map(_try_to_reach, request["targets"]))
    return {"failures": {host: why for host, why in failures.items() if why}}


def _try_to_reach(target: tuple[str, list[str], int]) -> tuple[str, str]:
    host, addresses, port = target
    reasons = []
    for address in addresses:
        try:
            socket.create_connection((address, port), _REACH_SECONDS).close()
        except OSError as error:
            reasons.append(f"{address} port {port}: {error.strerror or error}")
        else:
            return host, ""
    return host, "; ".join(reasons) or "it has no address"


_OPERATIONS = {"look": look, "deploy": deploy, "remove": remove, "reach": reach}


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Create the folder, and lock it against other deployments."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.chmod(0o700)
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                "another pserver deploy is running on this host; try again when it is done"
            ) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _received(files: list[tuple[str, int]], stream: BinaryIO, place: Path) -> Iterator[Path]:
    """Write the files that follow the request into a folder that lasts as long as the block."""
    with tempfile.TemporaryDirectory(prefix="incoming-", dir=place) as folder:
        for name, size in files:
            path = Path(folder, name)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            with path.open("wb") as file:
                left = size
                while left:
                    data = stream.read(min(left, _CHUNK))
                    if not data:
                        raise RefusedError("the connection ended before all files had arrived")
                    file.write(data)
                    left -= len(data)
        yield Path(folder)


def _install(environment: Path, received: Path, packages: list[str]) -> None:
    """Create an environment with the wheel that was sent, and its dependencies."""
    if environment.exists():  # left by an earlier attempt that failed
        shutil.rmtree(environment)
    _run("cannot create the environment", [sys.executable, "-I", "-m", "venv", str(environment)])
    wheels = received / "wheels"
    source = ["--no-index", "--find-links", str(wheels)] if wheels.exists() else []
    settings = {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    settings |= {"PIP_REQUIRE_VIRTUALENV": "0"}
    variables = {key: text for key, text in os.environ.items() if key not in {"PIP_TARGET", "PIP_PREFIX"}}
    pip = [str(environment / "bin/python"), "-I", "-m", "pip", "--quiet", "install", *source]
    _run(
        "cannot install the packages (for machines without internet access, use --wheels DIR)",
        [*pip, *map(str, received.glob("*.whl")), *packages],
        variables | settings,
    )
    (environment / "complete").touch()


def _check_users(place: Path, record: dict[str, Any], received: Path) -> None:
    """Refuse users whom the running server would not let in; a start checks them itself."""
    if (received / "server").exists():
        options = _options(place, record, received / "server")
        python = place / record["environment"] / "bin/python"
        _run("cannot copy the users", [str(python), "-P", "-c", _CHECK, *options])


def _keep_files(folder: Path, received: Path) -> None:
    """Move the servers' login files into place. Each file is replaced as a whole."""
    if not received.exists():
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    for path in received.iterdir():
        path.replace(folder / path.name)


def _restart(place: Path, before: dict[str, Any] | None, wanted: dict[str, Any], name: str) -> None:
    """Stop the running server and start the new one; if that fails, start the old one again."""
    if before is not None:
        _pserver(place, before, "stop", "--force", "--name", name, also=(3,))
    try:
        _start(place, wanted)
    except RefusedError:
        if before is not None and (place / before["environment"] / "complete").exists():
            with contextlib.suppress(RefusedError):  # report the first reason only
                _start(place, before)
        raise


def _start(place: Path, record: dict[str, Any]) -> None:
    _pserver(place, record, "start", *_options(place, record, place / "server"))


def _options(place: Path, record: dict[str, Any], login_files: Path) -> list[str]:
    """Return the options of the server, with the folder of its login files."""
    return [
        option.replace("{place}/server", str(login_files)).replace("{place}", str(place))
        for option in record["options"]
    ]


def _pserver(place: Path, record: dict[str, Any], *arguments: str, also: tuple[int, ...] = ()) -> None:
    """Run the pserver command of an environment; `also`: exit statuses to accept besides 0."""
    python = place / record["environment"] / "bin/python"
    _run(f"pserver {arguments[0]}", [str(python), "-P", "-m", "pserver", *arguments], also=also)


def _ask(place: Path, record: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """Return the state of the server (``None`` if it is not running) and the addresses of this machine."""
    python = place / (record or {}).get("environment", "none") / "bin/python"
    if not python.exists():
        return {"status": None, "addresses": []}
    try:
        said = _run("cannot get the state of the server", [str(python), "-P", "-c", _ASK, name])
    except RefusedError as error:
        raise RefusedError(
            f"{error}; if the environment is broken, stop the server and remove {place}"
        ) from None
    status, addresses = json.loads(said.splitlines()[-1])
    return {"status": status, "addresses": addresses}


def _refuse_if_used(status: dict[str, Any] | None, *, force: bool) -> None:
    sessions = [] if status is None or force else status.get("sessions", [])
    if sessions:
        users = ", ".join(sorted({str(session.get("user")) for session in sessions}))
        count = "a network uses" if len(sessions) == 1 else f"{len(sessions)} networks use"
        raise RefusedError(
            f"{count} the server (users: {users}); wait until they end, or end them with --force"
        )


def _start_of(record: dict[str, Any]) -> tuple[Any, Any]:
    """Return the part of a record that takes effect when the server starts; it rereads its users at each login."""
    return record["environment"], record["options"]


def _cmd_port(record: dict[str, Any] | None) -> int | None:
    """Return the command port of a deployed server."""
    options = [] if record is None else record["options"]
    return next(
        (int(option.partition("=")[2]) for option in options if option.startswith("--cmd-port=")), None
    )


def _read_record(place: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads((place / "record.json").read_text())
    except FileNotFoundError:
        return None
    return record


def _write_record(place: Path, record: dict[str, Any]) -> None:
    new = place / "record.json.new"
    new.write_text(json.dumps(record))
    new.replace(place / "record.json")


def _run(
    what: str, command: list[str], variables: dict[str, str] | None = None, also: tuple[int, ...] = ()
) -> str:
    """Run a program and return its output. Raises `RefusedError`, which quotes the end of the output, if it fails."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        env=variables, cwd=Path.home(), check=False,
    )  # fmt: skip
    if done.returncode not in (0, *also):
        said = (done.stderr.strip() or done.stdout.strip()).removeprefix("pserver: ")[-_TAIL:]
        raise RefusedError(f"{what}: {said or f'exit status {done.returncode}'}")
    return done.stdout


def answer_behind(mark: str) -> Say:
    """Return a function that writes the lines of an answer."""

    def say(**facts: Any) -> None:
        # Start on a new line, whatever was written before.
        sys.stdout.write(f"\n{mark}{json.dumps(facts)}\n")
        sys.stdout.flush()

    return say


if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, answer_behind(sys.argv[2])))
