"""One call of a host through the user's ssh: the program is run, so that its configuration, agents and jump hosts hold.

Nothing is asked: a password or an unknown host key is an error, which says what to do. No file is copied by scp or
sftp, which fail where a start file of the login shell prints: files travel in the same stream as the request.
"""

import contextlib
import os
import secrets
import select
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pserver.deploy.shell import command_and_input, read_answer, why_no_python
from srp_tools.errors import ParallelError
from srp_tools.printable import printable_text

# The user's own options come first, and ssh takes the first value that it meets.
_OPTIONS = (
    "-T", "-x", "-oLogLevel=ERROR",
    "-oBatchMode=yes", "-oConnectTimeout=15", "-oServerAliveInterval=15", "-oServerAliveCountMax=4",
    "-oClearAllForwardings=yes", "-oRemoteCommand=none",
)  # fmt: skip
_FAILED = 255  # ssh itself, by ssh(1); another status is that of the command

# What ssh says, and what to do then; `{host}` is as the user has named it.
_REMEDIES = (
    ("Host key verification failed", "run ssh {host} once, and compare and accept its key"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "find out why, then run ssh-keygen -R {host} and ssh {host}"),
    (
        "Permission denied",
        "ssh {host} has to work without a question: ssh-copy-id {host}, or ssh-add for a key",
    ),
    (
        "Too many authentication failures",
        "name the key in ~/.ssh/config: IdentityFile, with IdentitiesOnly yes",
    ),
    ("Could not resolve hostname", "correct the name, or describe the host in ~/.ssh/config"),
    ("Connection refused", "no ssh server listens there: start one, or name its port in ~/.ssh/config"),
    ("timed out", "the machine is off, or a firewall is in between: try ssh {host}"),
    ("No route to host", "the machine is off, or not in this network: try ssh {host}"),
)

_MAX_LINE_BYTES = 2**20
_SHOWN_LINES = 5  # of what a host printed besides its answer


class DeployError(ParallelError):
    """Something could not be done on a host; the text says what, why, and what to do."""


@dataclass(frozen=True)
class Target:
    """A host, and how to come to a Python there."""

    host: str  #: as ssh knows it
    python: str | None = None  #: a path or a name there
    setup: str | None = None  #: lines for a shell


@dataclass
class _Said:
    """What a host has said."""

    done: dict[str, Any] | None = None
    error: str | None = None
    tried: list[str] = field(default_factory=list)  # Pythons
    no_python: bool = False
    setup: str | None = None  # how it failed
    noise: deque[str] = field(default_factory=lambda: deque(maxlen=_SHOWN_LINES))


class Ssh:
    """Calls hosts by a command such as ``ssh`` or ``ssh -F FILE``."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)

    def address_of(self, host: str) -> str:
        """Return the name under which ssh would connect to a host: its own, or what the configuration says.

        Raises `DeployError` if ssh cannot be run, or does not understand the name.
        """
        try:
            answer = subprocess.run(
                [*self._command, "-G", "--", host],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=15, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeployError(
                f"{self._command[0]} cannot be run ({error}): install the OpenSSH client"
            ) from error
        words = (line.partition(" ") for line in answer.stdout.splitlines())
        name = next((rest for word, _, rest in words if word == "hostname"), None)
        if answer.returncode or name is None:
            raise DeployError(f"ssh -G: {printable_text(answer.stderr.strip())}")
        return name

    def call(
        self,
        target: Target,
        request: dict[str, Any],
        *,
        files: Sequence[tuple[str, Path | bytes]] = (),
        timeout: float,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Have a host do something, and return what it answers.

        `files`: names, relative to what the request is about, and contents. `on_step` gets each step that takes long.
        Raises `DeployError`.
        """
        mark = f"@{secrets.token_hex(8)}@"
        sizes = [(name, _size(content)) for name, content in files]
        line, begin = command_and_input(mark, request | {"files": sizes}, target.python, target.setup)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
            given.write(begin)
            for _, content in files:
                _copy(content, given)
            given.seek(0)
            command = [*self._command, *_OPTIONS, "--", target.host, line]
            said = _Said()
            try:
                status = _run(command, given, errors, timeout, lambda each: _take(said, mark, each, on_step))
            except TimeoutError:
                raise DeployError(
                    f"it has not answered within {timeout:g} s; --timeout gives it more"
                ) from None
            errors.seek(0, os.SEEK_END)
            errors.seek(max(0, errors.tell() - 4096))
            printed = errors.read().decode(errors="replace").splitlines()
        if said.done is None:
            raise DeployError(printable_text(_why(said, status, printed, target)))
        return said.done


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _copy(content: Path | bytes, stream: IO[bytes]) -> None:
    if isinstance(content, bytes):
        stream.write(content)
    else:
        with content.open("rb") as file:
            shutil.copyfileobj(file, stream)


def _run(
    command: Sequence[str],
    given: IO[bytes],
    errors: IO[bytes],
    timeout: float,
    on_line: Callable[[str], None],
) -> int:
    """Run a program to its end, and return its exit status. Raises `TimeoutError`; then it has been killed."""
    with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            if process.stdout is not None:  # it is a pipe, as was asked for
                for line in _lines(process.stdout, timeout):
                    on_line(line)
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            process.kill()


def _lines(output: IO[bytes], timeout: float) -> Iterator[str]:
    """Return the lines that a process prints, until it closes its output.

    Raises `TimeoutError` when the time has passed, and `DeployError` for a line without end.
    """
    deadline = time.monotonic() + timeout
    rest = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([output], [], [], left)[0]:
            raise TimeoutError
        data = os.read(output.fileno(), 65536)
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if not data:
            break
        if len(rest) > _MAX_LINE_BYTES:
            raise DeployError(f"it printed a line of more than {_MAX_LINE_BYTES} bytes")
    if rest:
        yield rest.decode(errors="replace")


def _take(said: _Said, mark: str, line: str, on_step: Callable[[str], None]) -> None:
    answer = None
    with contextlib.suppress(ValueError):  # cut off with the connection
        answer = read_answer(mark, line)
    match answer:
        case {"step": str() as step}:
            on_step(step)
        case {"done": dict() as done}:
            said.done = done
        case {"error": str() as error}:
            said.error = error
        case {"tried": str() as tried}:
            said.tried.append(tried)
        case {"no": _}:
            said.no_python = True
        case {"setup": str() as failed}:
            said.setup = failed
        case _ if line.strip():
            said.noise.append(line.strip())


def _why(said: _Said, status: int, stderr: Sequence[str], target: Target) -> str:
    """Return why there is no result, from what came and how ssh ended."""
    tail = [line.strip() for line in stderr if line.strip()][-_SHOWN_LINES:]
    if said.error is not None:
        return said.error
    if said.no_python:
        return why_no_python(said.tried, target.python, target.host)
    if said.setup is not None:
        return f"--setup {said.setup}: {'; '.join(tail) or 'it printed nothing'}"
    if status == _FAILED:
        whole = "\n".join(stderr)
        remedy = next((what for words, what in _REMEDIES if words in whole), "try ssh {host}")
        reason = tail[-1].removeprefix("ssh: ") if tail else "it failed without a word"
        return f"ssh: {reason}; {remedy.format(host=target.host)}"
    printed = "; ".join([*said.noise, *tail]) or "nothing"
    return (
        f"the login shell there has not run what it was given (status {status}; it printed: {printed}): without a "
        "terminal, its start files must not start another shell, read standard input, or end; try: "
        f"ssh {target.host} /bin/sh -c id"
    )
