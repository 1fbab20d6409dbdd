"""One program in a process group of its own: starting it, its signals, and what its exit status means."""

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

# The exit statuses that env(1), timeout(1) and shells have for programs that could not be run.
NOT_FOUND, NOT_EXECUTABLE, OUR_FAILURE = 127, 126, 125

_NOT_EXECUTABLE = {
    errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.EISDIR, errno.ETXTBSY, errno.ELOOP, errno.E2BIG, errno.ENAMETOOLONG,
}  # fmt: skip
_SHORT_PATH = 80  # characters
# So much a pipe takes, where the system allows it: each read and write moves more at once.
_PIPE_BYTES = 2**20


class StartError(Exception):
    """The program could not be started.

    `status`: what a shell would give as its exit status. `number`: the error's. `name`: of the file that it is about.
    """

    def __init__(self, status: int, error: OSError, name: bytes, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.number = error.errno or 0
        self.name = os.fsdecode(name)


class Program:
    """A program that runs.

    `stdin`, `stdout`, `stderr`: our ends of its streams, not blocking; -1 where it has none. On a pseudo-terminal the
    first two are the same, and there is no third; nor is there one where its output is one stream.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", ends: Sequence[int], *, is_terminal: bool) -> None:
        self.stdin, self.stdout, self.stderr = ends
        self.is_terminal = is_terminal
        self._terminal = self.stdin if is_terminal else -1
        self._process = process
        self.pidfd = os.pidfd_open(process.pid)

    def signal(self, number: int) -> None:
        """Send a signal to the process group, unless it has ended.

        SIGTSTP is SIGSTOP to a program that does not handle it: the system ignores it in a group whose parent is in
        another session (General Terminal Interface of POSIX, 11.1.4).
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
        """Set the size of the terminal, of which the program hears by SIGWINCH."""
        if self.is_terminal and self.stdin >= 0:
            set_size(self.stdin, rows, columns)

    def wait(self) -> int:
        """Wait for the end; return the exit status, or the negative number of the signal that ended it."""
        return self._process.wait()

    def close(self, end: str) -> None:
        """Close one of our ends, by name.

        A terminal stays open until the program has ended: one that has closed its streams and is about to end would
        get SIGHUP.
        """
        descriptor = getattr(self, end)
        setattr(self, end, -1)
        if descriptor >= 0 and not self.is_terminal:
            os.close(descriptor)

    def hang_up(self) -> None:
        """Close the terminal, which sends the program SIGHUP."""
        if self._terminal >= 0:
            self.stdin = self.stdout = -1
            os.close(self._terminal)
            self._terminal = -1

    def end(self) -> None:
        """Kill what is left of the group, if the program itself still runs, and close everything."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
            self._process.wait()
        for end in ("stdin", "stdout", "stderr"):
            self.close(end)
        self.hang_up()
        os.close(self.pidfd)


def start(request: Mapping[str, Any]) -> Program:
    """Start a program; raise `StartError` if it cannot be.

    `request`: ``args``, a list of bytes; ``cwd``, bytes; ``env``, what is added to this process's environment;
    ``stdin``, whether it gets bytes or finds its end at once; ``merged``, whether its standard error is its standard
    output; ``terminal``, rows and columns, or ``None``; ``nice``, by how much its priority is lower than that of this
    process; ``login``, the account whose login shell runs the one line that ``args`` then is, see
    `through_login_shell`.
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
    """Start a program with a lower priority, which it has from its beginning, and so do all that it starts.

    A thread has a priority of its own, and what it starts inherits that. Ours cannot be raised again.
    """
    outcome: list[Program | BaseException] = []

    def run() -> None:
        try:
            os.nice(request["nice"])
            outcome.append(_start(request))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        thread.join()
    except BaseException:  # an interrupt; the thread is quick, and what it has started is not to stay
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
    """Set the size of a terminal."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _check_folder(folder: bytes) -> None:
    try:
        os.stat(folder + b"/.")  # noqa: PTH116 - a path would lose the end, which asks for a folder that may be entered
    except OSError as error:
        text = f"the folder {os.fsdecode(folder)}, where it is to run: {error.strerror}"
        raise StartError(OUR_FAILURE, error, folder, text) from error


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack, *, is_input: bool) -> tuple[int, int]:
    """Return our end of a pipe, which does not block, and the program's."""
    read, write = os.pipe()
    mine, other = (write, read) if is_input else (read, write)
    ours.callback(os.close, mine)
    theirs.callback(os.close, other)
    os.set_blocking(mine, False)
    with contextlib.suppress(OSError):  # the user has used up the memory that all pipes of one may take
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

    Not as `subprocess` does where it looks through ``PATH``: that goes on behind a file which it cannot execute.
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
            # A script without a first line that says by what it is run.
            return popen(Path("/bin/sh"), [b"/bin/sh", bytes(path), *arguments[1:]])
    except OSError as error:
        raise _start_error(arguments[0], folder, environment, error) from error


def _find(name: bytes, folder: bytes, environment: Mapping[bytes, bytes]) -> Path:
    """Return the path of a program; raise `OSError` if there is none that can be executed."""
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
            return StartError(NOT_EXECUTABLE, error, name, f"{text}: its interpreter or loader is missing")
        where = "" if b"/" in name else f" in {_shown_path(environment)}"
        return StartError(NOT_FOUND, error, name, f"there is no program {text}{where}")
    status = NOT_EXECUTABLE if error.errno in _NOT_EXECUTABLE else OUR_FAILURE
    return StartError(status, error, name, f"{text} cannot be run: {error.strerror}")


def _shown_path(environment: Mapping[bytes, bytes]) -> str:
    """Return what errors say of ``PATH``: all of it if it is short."""
    path = os.fsdecode(environment.get(b"PATH", b""))
    return (
        f"PATH, which is {path}" if len(path) <= _SHORT_PATH else "its PATH, which sh -c 'echo $PATH' shows"
    )


# It makes the terminal its own, and becomes the program. Nothing may be done in a copy of this process before exec: a
# thread of the user's may hold any lock.
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
