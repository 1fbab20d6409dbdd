"""Start a server in the background, end it, ask for its status.

`start_server` runs ``python -m pserver start --foreground --detach`` and hands it one end of a socket pair.
On it the new daemon writes one line: that both ports listen, or why it could not start. If the line is
missing, its log tells more. A parent that gave up has closed its end; then the daemon cannot tell that it is
ready, and ends, so no server is left behind that somebody was told does not exist.

The daemon must live on when its parent ends, and a parent that lives long, such as a notebook, must not have
to wait for it. So the process that is started here is not the daemon: it forks and ends at once
(``--detach``), and the system's first process inherits the daemon. Forking in the parent itself would be
shorter, but copies its threads' locks without its threads.
"""

import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Literal, overload

from pserver.config import DEFAULT_CMD_PORT, DEFAULT_DATA_PORT, ServerConfig
from pserver.system.pidfile import find_server, stop_server
from pserver.system.runtime_dir import run_time_folder
from srp_tools.credentials import server_file
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.verifiers import VerifierFile

# Importing numpy from a busy network file system can take most of it.
_START_TIMEOUT = 30.0

# A status has some hundred bytes; a fresh daemon has no sessions that would make it longer.
_MAX_ANSWER_BYTES = 65536

# Enough for a traceback.
_LOG_TAIL_BYTES = 2048


@overload
def pserver(
    action: None = None,
    /,
    *,
    name: str = "default",
    cmd_port: int = DEFAULT_CMD_PORT,
    data_port: int = DEFAULT_DATA_PORT,
    bind: str | None = None,
    auth_file: str | os.PathLike[str] | None = None,
    use_tls: bool = True,
    log_file: str | os.PathLike[str] | None = None,
    allow_root: bool = False,
    slots: int | None = None,
    max_file_size: int = 0,
    spool_dir: str | os.PathLike[str] | None = None,
    keep_results: float = ServerConfig.keep_results,
) -> dict[str, object]: ...
@overload
def pserver(action: Literal["kill"], /, *, name: str = "default") -> bool: ...
@overload
def pserver(action: Literal["status"], /, *, name: str = "default") -> dict[str, object] | None: ...
def pserver(
    action: str | None = None,
    /,
    *,
    name: str = "default",
    cmd_port: int = DEFAULT_CMD_PORT,
    data_port: int = DEFAULT_DATA_PORT,
    bind: str | None = None,
    auth_file: str | os.PathLike[str] | None = None,
    use_tls: bool = True,
    log_file: str | os.PathLike[str] | None = None,
    allow_root: bool = False,
    slots: int | None = None,
    max_file_size: int = 0,
    spool_dir: str | os.PathLike[str] | None = None,
    keep_results: float = ServerConfig.keep_results,
) -> dict[str, object] | bool | None:
    """Start a server on this machine, end it, or tell its status.

    Parameters
    ----------
    action
        ``None`` starts a server in the background, which lives on when this process ends. ``"kill"`` ends it,
        in order if that takes no longer than 10 s. ``"status"`` changes nothing. Of the options, only `name`
        goes with the last two.
    name
        One machine may run several servers, with names and ports of their own.
    cmd_port, data_port
        Where clients log in, and where nodes exchange data; 0 takes any free port.
    bind
        Address to listen at. By default all with TLS, the loopback address without.
    auth_file
        The verifiers of the users who may log in. By default those that ``generate-srp-data`` makes.
    use_tls
        If false: no encryption and no login, everybody who can reach the ports may run any program.
    log_file
        By default ``NAME.log`` in the user's run-time folder.
    allow_root
        Start the server even if this process runs as root.
    slots
        How many processes for jobs there may be at once. By default as many as there are processors that this process
        may use; a negative number leaves so many of them free; 0 offers none.
    max_file_size
        The most bytes that one file may have which a client puts there or gets from there; 0 sets no limit.
    spool_dir
        Where the results of detached networks are kept. By default in the user's folder for state.
    keep_results
        Days until they are removed if nobody recovers them.

    Returns
    -------
    dict, bool or None
        After a start: the status of the server, whose ports listen now. After ``"kill"``: whether there was
        one. After ``"status"``: the status, or None if no server of that name runs.

    Raises
    ------
    ConfigurationError
        The server could not start; the text has the reason. No server was left behind. Or an action or an
        option cannot be used; then nothing was done.
    CredentialError
        The file of verifiers is missing, open to others, or without users. Nothing was done.

    Warns
    -----
    RuntimeWarning
        After ``"kill"``: the server did not end in time and was ended by force, its sessions without order.

    Notes
    -----
    Counterpart of ``pserver`` in GNU Octave's parallel package 4.0.2.
    """
    config = ServerConfig(
        name=name,
        cmd_port=cmd_port,
        data_port=data_port,
        bind=bind,
        auth_file=None if auth_file is None else Path(auth_file),
        use_tls=use_tls,
        log_file=None if log_file is None else Path(log_file),
        allow_root=allow_root,
        slots=slots,
        max_file_size=max_file_size,
        spool_dir=None if spool_dir is None else Path(spool_dir),
        keep_results=keep_results,
    )
    if action is None:
        return start_server(config)
    if action not in ("kill", "status"):
        raise ConfigurationError(
            f'pserver({action!r}): the actions are "kill" and "status", and none to start'
        )
    if config != ServerConfig(name=name):
        raise ConfigurationError(f"pserver({action!r}): the only option of this action is name")
    return _kill(name) if action == "kill" else _status(name)


def _kill(name: str) -> bool:
    stopped = stop_server(name)
    if stopped is not None and stopped.killed:
        message = f"the server {name!r} (pid {stopped.pid}) did not end in time and was killed"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return stopped is not None


def _status(name: str) -> dict[str, object] | None:
    server = find_server(name)
    return None if server is None else dict(server.status)


def check_start(config: ServerConfig) -> None:
    """Refuse to start a server that should not, or that nobody could log in to.

    Raises
    ------
    ConfigurationError
        This process runs as root, and `config` does not allow it.
    CredentialError
        The file of verifiers is missing, open to others, malformed, or without users.
    """
    if os.geteuid() == 0 and not config.allow_root:
        raise ConfigurationError(
            "this is root, and whoever logs in to the server could do everything on this machine; start it "
            "from an ordinary account, or, if that is what you want, with --allow-root (allow_root=True)"
        )
    if config.use_tls:
        path = config.auth_file or server_file()
        verifiers = VerifierFile(path)
        if not verifiers.users():
            raise CredentialError(f"{path} has no users; the command generate-srp-data makes them")
        # No user has this name. It has the companions of the file read, which every login needs.
        verifiers.lookup("")


def start_server(config: ServerConfig) -> dict[str, object]:
    """Start a server in the background; return its status when both ports listen.

    Raises
    ------
    ConfigurationError
        It could not start, the text has the reason, or the last lines of its log if it ended without one.
        Also if it was not ready within 30 s; it then ends by itself.
    CredentialError
        As by `check_start`.
    OSError
        The log file cannot be written.
    """
    check_start(config)
    config = _with_absolute_paths(config)
    assert config.log_file is not None  # noqa: S101
    deadline = time.monotonic() + _START_TIMEOUT
    with open_log(config.log_file) as log:
        log_size = log.seek(0, io.SEEK_END)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = _spawn(config, theirs, log)
            try:
                answer = _read_answer(ours, deadline)
            except TimeoutError:
                raise ConfigurationError(
                    f"the server {config.name!r} was not ready within {_START_TIMEOUT:g} s; "
                    f"its log is {config.log_file}"
                ) from None
            finally:
                # It has long ended, except where something hangs before it can detach.
                process.kill()
                process.wait()
    if answer is None:
        raise ConfigurationError(
            f"the server {config.name!r} ended while it started{_tail(config.log_file, log_size)}"
        )
    status = answer.get("ready")
    if not isinstance(status, dict):
        raise ConfigurationError(f"the server could not start: {answer.get('error')}")
    return status


def start_options(config: ServerConfig) -> list[str]:
    """Return the options of ``pserver start`` that mean `config`."""
    options: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = field.name.replace("_", "-")
        if field.name == "use_tls":
            options += [] if value else ["--no-tls"]
        elif isinstance(value, bool):
            options += [f"--{name}"] if value else []
        elif value is not None:
            options.append(f"--{name}={value}")
    return options


def open_log(path: Path) -> io.FileIO:
    """Open a log file to append to it; make it, for its owner only, and its folder, if they are missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return io.FileIO(
        path, "a", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    )


def _with_absolute_paths(config: ServerConfig) -> ServerConfig:
    """Return the same settings for a process in another folder."""
    log_file = config.log_file or run_time_folder() / f"{config.name}.log"
    auth_file = config.auth_file
    return dataclasses.replace(
        config,
        log_file=log_file.absolute(),
        auth_file=None if auth_file is None else auth_file.absolute(),
        spool_dir=None if config.spool_dir is None else config.spool_dir.absolute(),
    )


def _spawn(config: ServerConfig, announcements: socket.socket, log: io.FileIO) -> subprocess.Popen[bytes]:
    # -P: the folder that somebody starts a server from may have a file select.py.
    command = [sys.executable, "-P", "-m", "pserver", "start", *start_options(config)]
    return subprocess.Popen(
        [*command, "--foreground", "--detach", f"--parent-fd={announcements.fileno()}"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[announcements.fileno()],
        start_new_session=True,
    )


def _read_answer(sock: socket.socket, deadline: float) -> dict[str, object] | None:
    """Return what the daemon says, or None if it ended without a word."""
    data = b""
    while not data.endswith(b"\n") and len(data) < _MAX_ANSWER_BYTES:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        sock.settimeout(remaining)
        part = sock.recv(4096)
        if not part:
            return None
        data += part
    answer = json.loads(data)
    return answer if isinstance(answer, dict) else None


def _tail(path: Path, start: int) -> str:
    """Return the last lines that were added to a log since it had `start` bytes."""
    with path.open("rb") as log:
        end = log.seek(0, io.SEEK_END)
        log.seek(max(start, end - _LOG_TAIL_BYTES))
        text = log.read(_LOG_TAIL_BYTES).decode(errors="replace").strip()
    return f"; the end of its log {path}:\n{text}" if text else f" and wrote nothing to its log {path}"
