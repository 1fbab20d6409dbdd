"""Start a server in the background, end it, return its status.

`start_server` runs ``python -m pserver start --foreground --detach`` and hands it one end of a socket pair.
On it the new daemon writes one line: that both ports listen, or why it could not start. If the line is
missing, its log tells more. A parent that gave up has closed its end; then the daemon cannot tell that it is
ready, and ends, so no server is left behind that somebody was told does not exist.

The daemon must live on when its parent ends, and a parent that lives long, such as a notebook, must not have
to wait for it. So the process that is started here is not the daemon: it forks and ends at once
(``--detach``), and the system's first process inherits the daemon. Forking in the parent itself would be
shorter, but copies its threads' locks without its threads.
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

# Importing numpy from a busy network file system can take most of it.
_START_TIMEOUT = 30.0

_STOP_TIMEOUT = 10.0  # seconds for sessions whose server was killed

# A status has some hundred bytes; a fresh daemon has no sessions that would make it longer.
_MAX_ANSWER_BYTES = 65536

# Enough for a traceback.
_LOG_TAIL_BYTES = 2048


_Options = ParamSpec("_Options")


class _Pserver(Protocol[_Options]):
    """How `pserver` is called: with the keywords that `ServerConfig` takes, or with an action."""

    @overload
    def __call__(
        self, action: None = None, /, *args: _Options.args, **options: _Options.kwargs
    ) -> dict[str, object]: ...
    @overload
    def __call__(self, action: Literal["kill"], /, *, name: str = ...) -> bool: ...
    @overload
    def __call__(self, action: Literal["status"], /, *, name: str = ...) -> dict[str, object] | None: ...


def _with_options_of(
    config: Callable[_Options, ServerConfig],  # noqa: ARG001 - lends its keywords to the type
) -> Callable[[Callable[..., Any]], _Pserver[_Options]]:
    """Let a function show the options of a server, to callers, type checkers and ``help``."""

    def decorate(function: Callable[..., Any]) -> _Pserver[_Options]:
        document_options(function)
        return function

    return decorate


@_with_options_of(ServerConfig)
def pserver(action: str | None = None, /, **options: Any) -> dict[str, object] | bool | None:
    """Start a server on this machine, end it, or return its status.

    Parameters
    ----------
    action
        ``None`` starts a server in the background, which lives on when this process ends. ``"kill"`` ends it, and kills
        it after 10 s; it also ends the sessions of a server that was killed before. ``"status"`` changes nothing. Of
        the options, only `name` goes with the last two.
    {options}

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
        After ``"kill"``: the server did not end in time and was ended by force, its sessions without order; or it ran
        detached jobs, which are lost. After a start: its log cannot be written, or users of `allow_users` are not in
        the file of verifiers.

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
            f'pserver({action!r}): the actions are "kill" and "status"; without one, a server starts'
        )
    if options.keys() - {"name"}:
        raise ConfigurationError(f"pserver({action!r}): the only option of this action is name")
    name = server_name(options.get("name"))
    return _kill(name) if action == "kill" else _status(name)


def _kill(name: str) -> bool:
    if detached := detached_sessions(name):
        ended = "; ".join(map(str, detached))
        warnings.warn(f"the detached jobs of {ended} are lost", RuntimeWarning, stacklevel=3)
    stopped = stop_server(name)
    sessions = end_left_sessions(name, _STOP_TIMEOUT)
    if stopped is not None and stopped.killed:
        message = f"the server {name!r} (pid {stopped.pid}) did not end in time and was killed"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return stopped is not None or bool(sessions)


def _status(name: str) -> dict[str, object] | None:
    server = live_server(name)
    return None if server is None else dict(server.status)


def check_start(config: ServerConfig) -> None:
    """Refuse to start a server that should not, that nobody could log in to, or that is in the way of another.

    Raises `ConfigurationError` if users have no accounts, or would share one, and `config` does not allow it; if root
    would run its page, packages for it are missing, or its token can be guessed; if this process may have too few
    descriptors; if a server of this name, or with this log, is running; if there can be no folder for results. Raises
    `CredentialError` if the file of verifiers is missing, open to others, malformed, or without users, or if others can
    read the token of the page.
    """
    if config.has_accounts and not config.use_tls:
        raise ConfigurationError(
            "this is root, and without a login there are no users whose accounts sessions could have; leave out "
            "--no-tls, start the server from an ordinary account, or, if that is what you want, with --allow-root "
            "(allow_root=True): then everyone who reaches the ports can do everything on this machine"
        )
    if config.has_accounts and config.status_page is not None:
        raise ConfigurationError(
            "--status-page: a server whose sessions have several accounts has none, because the page would run as "
            "root; leave it out, and use pstat --serve in your account"
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
                f"--spool-dir {config.spool_dir}: it cannot be made ({error.strerror}); give a folder"
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
        # No user has this name. It has the companions of the file read, which every login needs, and the seed made.
        verifiers.lookup("")


def warnings_of(status: Mapping[str, object], config: ServerConfig) -> list[str]:
    """Return what is wrong with a server that has started: with its log, or with the users of `allow_users`."""
    found = []
    if status.get("log_error"):
        log = status["log_file"] or "on standard error"
        found.append(f"the log {log} cannot be written ({status['log_error']}); lines of it are lost")
    if config.has_accounts or config.allow_users:
        with contextlib.suppress(CredentialError):  # it has changed since it was checked; the log says that
            users = VerifierFile(Path(config.auth_file or server_file())).users()
            if config.has_accounts:
                found += without_account(read_map(config.account_map), users).values()
            if missing := missing_users(users, config.allow_users):
                found.append(missing)
    return found


def start_server(
    config: ServerConfig, given: Mapping[str, Any] | None = None, path: Path | None = None
) -> dict[str, object]:
    """Start a server in the background; return its status when both ports listen.

    `config`: its settings. `given`, `path`: those of them that were given, and the configuration file, so that the
    server can read the others again; without, all were given.

    Raises `ConfigurationError` if it could not start, the text has the reason, or the last lines of its log if it ended
    without one. Also if it was not ready within 30 s; it then ends by itself. Raises `CredentialError` as by
    `check_start`.
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
                    f"the server {config.name!r} was not ready within {_START_TIMEOUT:g} s; "
                    f"its log is {log_file}"
                ) from None
            finally:
                # It has long ended, except where something hangs before it can detach.
                process.kill()
                process.wait()
    if answer is None:
        raise ConfigurationError(
            f"the server {config.name!r} ended while it started{_tail(log_file, log_size)}"
        )
    status = answer.get("ready")
    if not isinstance(status, dict):
        raise ConfigurationError(f"the server could not start: {answer.get('error')}")
    return status


def _spawn(settings: int, announcements: socket.socket, log: io.FileIO) -> subprocess.Popen[bytes]:
    # -P: the folder that somebody starts a server from may have a file select.py.
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
