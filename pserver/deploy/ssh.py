"""One call to a host through the user's ssh program, which applies the user's configuration, agents and jump hosts.

ssh never prompts: a missing key or an unknown host key is an error that suggests a remedy. Files travel in the same
stream as the request, not by scp or sftp, which fail if startup files of the login shell print text.
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

# The user's own options come first, and ssh uses the first value of each option.
_OPTIONS = (
    "-T", "-x", "-oLogLevel=ERROR",
    "-oBatchMode=yes", "-oConnectTimeout=15", "-oServerAliveInterval=15", "-oServerAliveCountMax=4",
    "-oClearAllForwardings=yes", "-oRemoteCommand=none",
)  # fmt: skip
_FAILED = 255  # status of ssh's own failures (ssh(1)); any other status comes from the command

# Messages of ssh and their remedies; `{host}` is the host as the user named it.
_REMEDIES = (
    ("Host key verification failed", "run ssh {host} once, and compare and accept its key"),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "find out why, then run ssh-keygen -R {host} and ssh {host}"),
    (
        "Permission denied",
        "ssh {host} must work without asking for anything: run ssh-copy-id {host}, or ssh-add for a key",
    ),
    (
        "Too many authentication failures",
        "name the key in ~/.ssh/config: IdentityFile, with IdentitiesOnly yes",
    ),
    ("Could not resolve hostname", "correct the name, or describe the host in ~/.ssh/config"),
    ("Connection refused", "no ssh server is listening there: start one, or give its port in ~/.ssh/config"),
    ("timed out", "the machine is off, or a firewall blocks the connection: try ssh {host}"),
    ("No route to host", "the machine is off, or not on this network: try ssh {host}"),
)

_MAX_LINE_BYTES = 2**20
_SHOWN_LINES = 5  # how much of a host's other output to quote


class DeployError(ParallelError):
    """A step failed on a host; the message says what failed, why, and what to do."""


@dataclass(frozen=True)
class Target:
    """A host, and how to find Python on it."""

    host: str  #: the host's name for ssh
    python: str | None = None  #: path or name of Python on the host
    setup: str | None = None  #: shell lines to run first


@dataclass
class _Said:
    """The output of a host."""

    done: dict[str, Any] | None = None
    error: str | None = None
    tried: list[str] = field(default_factory=list)  # Pythons that were tried
    no_python: bool = False
    setup: str | None = None  # how the setup lines failed
    noise: deque[str] = field(default_factory=lambda: deque(maxlen=_SHOWN_LINES))


class Ssh:
    """Calls hosts with a command such as ``ssh`` or ``ssh -F FILE``."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)

    def address_of(self, host: str) -> str:
        """Return the name that ssh would connect to: the host itself, or the name from the ssh configuration.

        Raises `DeployError` if ssh cannot be run, or rejects the name.
        """
        try:
            answer = subprocess.run(
                [*self._command, "-G", "--", host],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=15, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeployError(
                f"cannot run {self._command[0]} ({error}): install the OpenSSH client"
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
        """Run a request on a host, and return the answer.

        `files`: names, relative to the folder of the request, and contents. `on_step` gets the name of each long step.
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
                    f"timed out after {timeout:g} s waiting for the host; increase the limit with --timeout"
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
    """Run a program to its end; return its exit status. Raises `TimeoutError` after killing the program."""
    with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            if process.stdout is not None:  # always true here; for the type checker
                for line in _lines(process.stdout, timeout):
                    on_line(line)
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        finally:
            process.kill()


def _lines(output: IO[bytes], timeout: float) -> Iterator[str]:
    """Yield the lines that a process prints, until it closes its output.

    Raises `TimeoutError` at the time limit, and `DeployError` for a line that is too long.
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
            raise DeployError(f"the host printed a line of more than {_MAX_LINE_BYTES} bytes")
    if rest:
        yield rest.decode(errors="replace")


def _take(said: _Said, mark: str, line: str, on_step: Callable[[str], None]) -> None:
    answer = None
    with contextlib.suppress(ValueError):  # the connection ended in the middle of a line
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
    """Explain why there is no result, from the output and the exit status of ssh."""
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
        reason = tail[-1].removeprefix("ssh: ") if tail else "ssh failed without a message"
        return f"ssh: {reason}; {remedy.format(host=target.host)}"
    printed = "; ".join([*said.noise, *tail]) or "nothing"
    return (
        f"the login shell did not run the given command (status {status}; it printed: {printed}): without a terminal, "
        "its startup files must not start another shell, read standard input, or exit; try: "
        f"ssh {target.host} /bin/sh -c id"
    )
