"""One program in its own process group: its start, its signals, and the meaning of its exit status."""

import contextlib
import errno
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pserver.programs.login import through_login_shell
from pserver.system.own_variables import environment_of_programs

# The exit statuses that env(1), timeout(1) and shells use for programs that could not be run.
NOT_FOUND, NOT_EXECUTABLE, OUR_FAILURE = 127, 126, 125

_NOT_EXECUTABLE = {
    errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.EISDIR, errno.ETXTBSY, errno.ELOOP, errno.E2BIG, errno.ENAMETOOLONG,
}  # fmt: skip
_SHORT_PATH = 80  # characters
# The capacity of a pipe, if the system allows it. A larger one moves more bytes with each read and write.
_PIPE_BYTES = 2**20


class StartError(Exception):
    """The program could not be started.

    `status`: the exit status that a shell would give. `number`: the error number. `name`: the file concerned.
    """

    def __init__(self, status: int, error: OSError, name: bytes, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.number = error.errno or 0
        self.name = os.fsdecode(name)


class Program:
    """A running program.

    `stdin`, `stdout`, `stderr`: the worker's ends of its streams, non-blocking; -1 if there is none. With a
    pseudo-terminal, the first two are the same and the third does not exist. It does not exist either if both outputs
    are merged.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", ends: Sequence[int], *, is_terminal: bool) -> None:
        self.stdin, self.stdout, self.stderr = ends
        self.is_terminal = is_terminal
        self._terminal = self.stdin if is_terminal else -1
        self._process = process
        self.pidfd = os.pidfd_open(process.pid)

    def signal(self, number: int) -> None:
        """Send a signal to the process group, unless the program has ended.

        SIGTSTP becomes SIGSTOP for a program that does not handle it: the system ignores SIGTSTP in a group whose
        parent is in another session (General Terminal Interface of POSIX, 11.1.4).
        """
        if number == signal.SIGTSTP and not self._handles(number):
            number = signal.SIGSTOP
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _handles(self, number: int) -> bool:
        """Whether the program catches or ignores a signal."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self._process.pid}/status").read_text()
            masks = re.findall(r"^Sig(?:Ign|Cgt):\s*([0-9a-f]+)$", status, re.MULTILINE)
            return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)
        return False

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the terminal; the program receives SIGWINCH."""
        if self.is_terminal and self.stdin >= 0:
            set_size(self.stdin, rows, columns)

    def wait(self) -> int:
        """Wait for the end; return the exit status, or the negative number of the signal that ended the program."""
        return self._process.wait()

    def close(self, end: str) -> None:
        """Close one of the worker's ends, by name.

        A terminal stays open until the program has ended. Otherwise a program that has closed its streams and is about
        to end would get SIGHUP.
        """
        descriptor = getattr(self, end)
        setattr(self, end, -1)
        if descriptor >= 0 and not self.is_terminal:
            os.close(descriptor)

    def hang_up(self) -> None:
        """Close the terminal, which sends SIGHUP to the program."""
        if self._terminal >= 0:
            self.stdin = self.stdout = -1
            os.close(self._terminal)
            self._terminal = -1

    def end(self) -> None:
        """Kill the rest of the group if the program itself is still running, and close everything."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()
        for end in ("stdin", "stdout", "stderr"):
            self.close(end)
        self.hang_up()
        os.close(self.pidfd)


def start(request: Mapping[str, Any]) -> Program:
    """Start a program; raise `StartError` if that fails.

    `request`: ``args``, a list of bytes; ``cwd``, bytes; ``env``, variables added to this process's environment;
    ``stdin``, whether it gets input or finds an empty one; ``merged``, whether its standard error goes to its standard
    output; ``terminal``, rows and columns, or ``None``; ``nice``, by how much its priority is lower than that of this
    process; ``login``, the account whose login shell runs the single line in ``args``, see `through_login_shell`.
    """
    if "login" in request:
        try:
            request = through_login_shell(request)
        except PermissionError as error:
            raise StartError(OUR_FAILURE, error, request["login"], str(error.strerror)) from error
    if request.get("nice"):
        return _start_lowered(request)
    return _start(request)


def _start_lowered(request: Mapping[str, Any]) -> Program:
    """Start a program with a lower priority, which it has from its start, as do all its child processes.

    A thread has its own priority, which its child processes inherit. This process could not raise its own priority
    again.
    """
    outcome: list[Program | BaseException] = []

    def run() -> None:
        try:
            os.nice(request["nice"])
            outcome.append(_start(request))
        except BaseException as error:  # noqa: BLE001 - pass any error to the caller
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        thread.join()
    except BaseException:  # an interrupt; the thread is quick, and its program must not stay
        thread.join()
        for made in outcome:
            if isinstance(made, Program):
                made.end()
        raise
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


def _start(request: Mapping[str, Any]) -> Program:
    arguments, folder = request["args"], request["cwd"]
    environment = {**environment_of_programs(), b"PWD": folder, **request["env"]}
    _check_folder(folder)
    terminal = request.get("terminal")
    if terminal:
        return _start_on_terminal(arguments, folder, environment, *terminal)
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        is_merged = request.get("merged", False)
        wants = [request.get("stdin", True), True, not is_merged]
        pairs = [
            _pipe(ours, theirs, is_input=not index) if wanted else (-1, -1)
            for index, wanted in enumerate(wants)
        ]
        streams = [end if end >= 0 else subprocess.DEVNULL for _, end in pairs]
        if is_merged:
            streams[2] = streams[1]
        process = _run(arguments, folder, environment, streams, process_group=0)
        ours.pop_all()
        return Program(process, [end for end, _ in pairs], is_terminal=False)


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Set the size of a terminal in rows and columns."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _check_folder(folder: bytes) -> None:
    try:
        os.stat(folder + b"/.")  # noqa: PTH116 - a Path would lose "/.", which checks that it may be entered
    except OSError as error:
        text = f"cannot use the folder {os.fsdecode(folder)}, where the program was to run: {error.strerror}"
        raise StartError(OUR_FAILURE, error, folder, text) from error


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack, *, is_input: bool) -> tuple[int, int]:
    """Return the worker's end of a pipe, which is non-blocking, and the program's end."""
    read, write = os.pipe()
    mine, other = (write, read) if is_input else (read, write)
    ours.callback(os.close, mine)
    theirs.callback(os.close, other)
    os.set_blocking(mine, False)
    with contextlib.suppress(OSError):  # the user's memory limit for pipes is used up
        fcntl.fcntl(mine, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return mine, other


def _run(
    arguments: Sequence[bytes],
    folder: bytes,
    environment: Mapping[bytes, bytes],
    streams: Sequence[int],
    **options: Any,
) -> "subprocess.Popen[bytes]":
    """Start a program as execvp(3) does.

    `subprocess` differs where it searches ``PATH``: after a file that it cannot execute, it tries the next folder.
    """

    def popen(path: Path, words: Sequence[bytes]) -> "subprocess.Popen[bytes]":
        stdin, stdout, stderr = streams
        return subprocess.Popen(
            words,
            executable=path,
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            **options,
        )

    try:
        path = _find(arguments[0], folder, environment)
        try:
            return popen(path, arguments)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # A script without a first line that names its interpreter.
            return popen(Path("/bin/sh"), [b"/bin/sh", bytes(path), *arguments[1:]])
    except OSError as error:
        raise _start_error(arguments[0], folder, environment, error) from error


def _find(name: bytes, folder: bytes, environment: Mapping[bytes, bytes]) -> Path:
    """Return the path of a program; raise `OSError` if there is no executable file."""
    here, text = Path(os.fsdecode(folder)), os.fsdecode(name)
    number = errno.ENOENT
    places = [""] if "/" in text else os.get_exec_path(environment)  # type: ignore[arg-type] # it takes bytes as well
    for place in places:
        path = here / os.fsdecode(place) / text
        if path.is_file() and os.access(path, os.X_OK):
            return path
        if path.exists():
            number = errno.EACCES
    raise OSError(number, os.strerror(number))


def _start_error(
    name: bytes, folder: bytes, environment: Mapping[bytes, bytes], error: OSError
) -> StartError:
    text = os.fsdecode(name)
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        if b"/" in name and Path(os.fsdecode(folder), text).exists():
            why = "its interpreter or loader is missing"
            return StartError(NOT_EXECUTABLE, error, name, f"{text} cannot be run: {why}")
        where = "" if b"/" in name else f" in {_shown_path(environment)}"
        return StartError(NOT_FOUND, error, name, f"there is no program {text}{where}")
    status = NOT_EXECUTABLE if error.errno in _NOT_EXECUTABLE else OUR_FAILURE
    return StartError(status, error, name, f"{text} cannot be run: {error.strerror}")


def _shown_path(environment: Mapping[bytes, bytes]) -> str:
    """Return a text about ``PATH`` for errors; it has the whole value if that is short."""
    path = os.fsdecode(environment.get(b"PATH", b""))
    return (
        f"PATH, which is {path}" if len(path) <= _SHORT_PATH else "its PATH, which sh -c 'echo $PATH' shows"
    )


# Makes the terminal its controlling terminal, and becomes the program. A fork of this process must run no code before
# exec: a thread of the user's code may hold any lock.
_LEAD = b"""
import errno, fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
path, words = sys.argv[1], sys.argv[2:]
try:
    try:
        os.execv(path, words)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execv("/bin/sh", ["/bin/sh", path, *words[1:]])
except OSError as error:
    why = "its interpreter or loader is missing" if error.errno == errno.ENOENT else error.strerror
    os.write(2, os.fsencode(f"{words[0]} cannot be run: {why}\\r\\n"))
    os._exit(126)
"""


def _start_on_terminal(
    arguments: Sequence[bytes], folder: bytes, environment: Mapping[bytes, bytes], rows: int, columns: int
) -> Program:
    ours, theirs = pty.openpty()
    try:
        set_size(ours, rows, columns)
        try:
            path = _find(arguments[0], folder, environment)
        except OSError as error:
            raise _start_error(arguments[0], folder, environment, error) from error
        words = [os.fsencode(sys.executable), b"-I", b"-S", b"-c", _LEAD, bytes(path), *arguments]
        process = _run(words, folder, environment, [theirs] * 3, start_new_session=True)
        os.set_blocking(ours, False)
        return Program(process, [ours, ours, -1], is_terminal=True)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
