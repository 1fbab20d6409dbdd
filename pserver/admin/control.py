"""Start a server in the background, stop it, return its status.

`start_server` runs ``python -m pserver start --foreground --detach`` and gives it one end of a socket pair. The new
daemon writes one line to that socket: its status once both ports are open, or the reason why it could not start. If
the line is missing, `start_server` quotes the daemon's log. A parent that gives up closes its end. The daemon then
cannot report that it is ready and exits: it never keeps running after its parent has reported a failure.

The daemon must outlive its parent, and a long-lived parent, such as a notebook, must not have to reap it. The process
started here is therefore not the daemon: it forks and exits (``--detach``), and the init process adopts the daemon.
Forking in the parent itself would be shorter, but it would copy the locks of the parent's threads without the threads.
"""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, ParamSpec, Protocol, overload

from pserver.accounts.account import read_map, without_account
from pserver.accounts.session_account import make_way
from pserver.admin.given_settings import hand_over, whole_variables
from pserver.admin.left_sessions import detached_sessions, end_left_sessions
from pserver.admin.options import check_keywords, document_options
from pserver.admin.settings import resolve, server_name
from pserver.config.page_options import PACKAGES, read_token
from pserver.config.server_config import ServerConfig
from pserver.ctl.live_status import live_server
from pserver.daemon.missing_users import no_users
from pserver.daemon.user_file import check_users, missing_users
from pserver.system.log_file import default_log, make_log
from pserver.system.pidfile import check_is_first, stop_server
from pserver.system.processes import check_descriptor_limit
from srp_tools.credentials import load_member
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.packages import missing_packages
from srp_tools.private_files import server_file
from srp_tools.verifier_file import VerifierFile

# Importing numpy from a busy network file system can take most of this time.
_START_TIMEOUT = 30.0

_STOP_TIMEOUT = 10.0  # seconds for the sessions of a killed server

# A status has a few hundred bytes; a fresh daemon has no sessions that would make it longer.
_MAX_ANSWER_BYTES = 65536

# Enough for a traceback.
_LOG_TAIL_BYTES = 2048


_Options = ParamSpec("_Options")


class _Pserver(Protocol[_Options]):
    """The call signature of `pserver`: either the keywords of `ServerConfig`, or an action."""

    @overload
    def __call__(
        self, action: None = None, /, *args: _Options.args, **options: _Options.kwargs
    ) -> dict[str, object]: ...
    @overload
    def __call__(self, action: Literal["kill"], /, *, name: str = ...) -> bool: ...
    @overload
    def __call__(self, action: Literal["status"], /, *, name: str = ...) -> dict[str, object] | None: ...


def _with_options_of(
    config: Callable[_Options, ServerConfig],  # noqa: ARG001 - provides the keywords for the type
) -> Callable[[Callable[..., Any]], _Pserver[_Options]]:
    """Give a function the options of a server as its signature, for callers, type checkers and ``help``."""

    def decorate(function: Callable[..., Any]) -> _Pserver[_Options]:
        document_options(function)
        return function

    return decorate


@_with_options_of(ServerConfig)
def pserver(action: str | None = None, /, **options: Any) -> dict[str, object] | bool | None:
    """Start a server on this machine, stop it, or return its status.

    Parameters
    ----------
    action
        ``None`` starts a server in the background. The server keeps running when this process ends. ``"kill"`` stops
        the server, or kills it if it has not stopped after 10 s; it also ends the sessions of a server that was killed
        earlier. ``"status"`` changes nothing. The last two actions accept only the option `name`.
    {options}

    Returns
    -------
    dict, bool or None
        After a start: the status of the server, whose ports are now open. After ``"kill"``: whether there was a
        server. After ``"status"``: the status, or None if no server of that name is running.

    Raises
    ------
    ConfigurationError
        The server could not start; the message gives the reason. No server was left behind. Or an action or an
        option is invalid; then nothing was done.
    CredentialError
        The users' file is missing, accessible to other accounts, or has no users. Nothing was done.

    Warns
    -----
    RuntimeWarning
        After ``"kill"``: the server did not stop in time and was killed, with its sessions; or it was running
        detached jobs, which are lost. After a start: the server cannot write its log, or the users' file lacks some
        users of `allow_users`.

    Notes
    -----
    Counterpart of ``pserver`` in GNU Octave's parallel package 4.0.2.
    """
    check_keywords("pserver", options)
    if action is None:
        config = resolve(options, os.environ).config
        status = start_server(config, options)
        for text in warnings_of(status, config):
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return status
    if action not in ("kill", "status"):
        raise ConfigurationError(
            f'pserver({action!r}): unknown action; use "kill" or "status", or no action to start a server'
        )
    if options.keys() - {"name"}:
        raise ConfigurationError(f"pserver({action!r}): this action accepts only the option name")
    name = server_name(options.get("name"))
    return _kill(name) if action == "kill" else _status(name)


def _kill(name: str) -> bool:
    if detached := detached_sessions(name):
        ended = "; ".join(map(str, detached))
        warnings.warn(f"the detached jobs of {ended} are lost", RuntimeWarning, stacklevel=3)
    stopped = stop_server(name)
    sessions = end_left_sessions(name, _STOP_TIMEOUT)
    if stopped is not None and stopped.killed:
        message = f"the server {name!r} (pid {stopped.pid}) did not stop in time and was killed"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return stopped is not None or bool(sessions)


def _status(name: str) -> dict[str, object] | None:
    server = live_server(name)
    return None if server is None else dict(server.status)


def check_start(config: ServerConfig) -> None:
    """Raise an error if a server with this configuration must not start, has no users, or conflicts with another.

    Raises `ConfigurationError` if users have no accounts, or would share one, and `config` does not allow it; if the
    status page would run as root, its packages are missing, or its token is easy to guess; if this process may not open
    enough descriptors; if a server with this name or log file is already running; if the folder for results cannot be
    created. Raises `CredentialError` if the users' file is missing, accessible to other accounts, malformed or empty,
    or if other accounts can read the token of the status page.
    """
    if config.has_accounts and not config.use_tls:
        raise ConfigurationError(
            "this account is root, and without logins the server cannot run sessions under the accounts of users; "
            "leave out --no-tls, or start the server from an ordinary account; --allow-root (allow_root=True) starts "
            "it anyway: then everyone who can reach the ports has full control of this machine"
        )
    if config.has_accounts and config.status_page is not None:
        raise ConfigurationError(
            "--status-page: not available on a server that runs sessions under several accounts, because the page "
            "would run as root; leave the option out, and run pstat --serve in your own account"
        )
    if config.status_page is not None and (missing := missing_packages(PACKAGES)):
        raise ConfigurationError(
            f"--status-page: {', '.join(missing)} is not installed; run pip install 'pserver[page]', or leave it out"
        )
    if config.status_page is not None and config.status_page_token:
        read_token(Path(config.status_page_token))
    check_descriptor_limit()
    check_is_first(config.name, Path(config.log_file) if config.log_file else None)
    if config.has_accounts:
        make_way(config.kept_folder())
    elif config.spool_dir is not None:
        try:
            Path(config.spool_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"--spool-dir {config.spool_dir}: cannot create this folder ({error.strerror}); give another one"
            ) from error
    if config.use_tls:
        path = Path(config.auth_file or server_file())
        verifiers = VerifierFile(path, config.seed_folder())
        users = verifiers.users() if path.exists() else []
        if not users:
            faults = verifiers.faults()[:1] if path.exists() else []
            raise CredentialError("; ".join([no_users(path), *faults]))
        check_users(config, users)
        if config.join:
            load_member(config.member_path())
        # No user has this name. The lookup reads the files that every login needs, and creates the seed.
        verifiers.lookup("")


def warnings_of(status: Mapping[str, object], config: ServerConfig) -> list[str]:
    """Return the problems of a server that has started: with its log, or with the users of `allow_users`."""
    found = []
    if status.get("log_error"):
        log = status["log_file"] or "on standard error"
        found.append(f"cannot write the log {log} ({status['log_error']}); lines of it are lost")
    if config.has_accounts or config.allow_users:
        with contextlib.suppress(
            CredentialError
        ):  # the file has changed since the check; the log reports that
            users = VerifierFile(Path(config.auth_file or server_file())).users()
            if config.has_accounts:
                found += without_account(read_map(config.account_map), users).values()
            if missing := missing_users(users, config.allow_users):
                found.append(missing)
    return found


def start_server(
    config: ServerConfig, given: Mapping[str, Any] | None = None, path: Path | None = None
) -> dict[str, object]:
    """Start a server in the background; return its status when both ports are open.

    `config`: its settings. `given`, `path`: the settings that were given, and the configuration file; with them the
    server can read the other settings again. Without `given`, all settings count as given.

    Raises `ConfigurationError` if the server could not start. The message gives the reason, or the last lines of the
    log if the server exited without one. Also raised if the server was not ready within 30 s; it then exits by itself.
    Raises `CredentialError` under the conditions of `check_start`.
    """
    check_start(config)
    log_file = Path(config.log_file or default_log(config.name)).absolute()
    deadline = time.monotonic() + _START_TIMEOUT
    make_log(log_file)
    with log_file.open("ab", buffering=0) as log:
        log_size = log.seek(0, io.SEEK_END)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                settings = hand_over(vars(config) if given is None else given, path, log_file)
                process = _spawn(settings, theirs, log)
            try:
                answer = _read_answer(ours, deadline)
            except TimeoutError:
                raise ConfigurationError(
                    f"timed out after {_START_TIMEOUT:g} s waiting for the server {config.name!r} to start; "
                    f"its log is {log_file}"
                ) from None
            finally:
                # It exited long ago, unless something blocks before it can detach.
                process.kill()
                process.wait()
    if answer is None:
        raise ConfigurationError(
            f"the server {config.name!r} exited while starting{_tail(log_file, log_size)}"
        )
    status = answer.get("ready")
    if not isinstance(status, dict):
        raise ConfigurationError(f"the server could not start: {answer.get('error')}")
    return status


def _spawn(settings: int, announcements: socket.socket, log: io.FileIO) -> subprocess.Popen[bytes]:
    # -P: the current folder may contain a file such as select.py.
    command = [sys.executable, "-P", "-m", "pserver", "start", "--foreground", "--detach"]
    try:
        return subprocess.Popen(
            [*command, f"--parent-fd={announcements.fileno()}", f"--settings-fd={settings}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[announcements.fileno(), settings],
            start_new_session=True,
            env=whole_variables(os.environ),
        )
    finally:
        os.close(settings)


def _read_answer(sock: socket.socket, deadline: float) -> dict[str, object] | None:
    """Return the daemon's line, or None if it exited without writing one."""
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
    """Return the last lines of a log, as far as they were added after `start` bytes."""
    with path.open("rb") as log:
        end = log.seek(0, io.SEEK_END)
        log.seek(max(start, end - _LOG_TAIL_BYTES))
        text = log.read(_LOG_TAIL_BYTES).decode(errors="replace").strip()
    return f"; the end of its log {path}:\n{text}" if text else f" and wrote nothing to its log {path}"
