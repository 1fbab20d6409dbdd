"""A program on a node: its job, and a handle similar to `subprocess.Popen`."""

import io
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from pconnect.errors import ConfigurationError, ParallelError, ProtocolError
from pconnect.jobs.job import Job, JobCancelledError, JobOptions
from pconnect.jobs.output_files import NO_OUTPUTS
from pconnect.programs.completed import CompletedProgram, ProgramTimeoutError
from pconnect.programs.request import MAX_NICE, folder_request, to_bytes
from pconnect.programs.streams import (
    STDERR,
    STDIN,
    STDOUT,
    CapturedOutput,
    GivenInput,
    ProgramInput,
    ProgramOutput,
)
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, encode_message
from pconnect.scheduler.scheduler import Scheduler

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]
#: The limit for each stream of a program whose complete output is kept.
MAX_CAPTURED_BYTES = 2**30


class _Output(Protocol):
    def take(self, data: bytes) -> None: ...

    def fail(self, error: BaseException | None) -> None: ...

    def begin_again(self) -> None: ...


class _Input(Protocol):
    def grant(self, count: int) -> None: ...

    def begin_again(self) -> None: ...


class ProgramJob(Job):
    """The job that runs a program.

    `words`: its name and arguments. `on_begin`: called before it is sent to a node, in the thread that sends it.
    `conclude`: converts the worker's report into the result of the job, or raises its error; ``None``: the report is
    the result.
    """

    conclude: Callable[[object], object] | None = None

    def __init__(self, words: list[str], options: JobOptions, scheduler: Scheduler) -> None:
        super().__init__(scheduler.next_number(), words[0], (), options, scheduler)
        self.words = words
        self._scheduler = scheduler
        self.on_begin: Callable[[], object] | None = None
        self.input: _Input | None = None
        self.outputs_by_stream: dict[int, _Output] = {}
        # The scheduler estimates durations by function. Here the text is just a key, and never runs.
        name = (Path(words[0]).name or words[0]).encode(errors="replace").decode()
        self.function = scheduler.functions.get(name)

    def start(self) -> None:
        """Submit the job. It runs as soon as a worker is free, independent of commands and workspaces."""
        self._scheduler.submit(self)

    def begin(self) -> bool:
        """See `LightFuture.begin`."""
        begins = super().begin()
        if begins and self.on_begin is not None:
            self.on_begin()
        return begins

    def hear(self, message: Message) -> None:
        """Handle a message with output of the program, or with a grant for its input."""
        match message.kind:
            case Kind.STREAM:
                self.is_started = True
                stream, data = message.value
                self.outputs_by_stream[stream].take(data)
            case Kind.CREDIT:
                self.is_started = True
                if self.input is not None:
                    self.input.grant(message.value[1])
            case _:
                super().hear(message)

    def send(self, data: bytes) -> None:
        """Send a piece of standard input."""
        self._scheduler.tell(self, Kind.STREAM, [STDIN, data])

    def grant(self, stream: int, count: int) -> None:
        """Let the program write `count` more bytes to a stream; 0 means that the reader is gone."""
        self._scheduler.tell(self, Kind.CREDIT, [stream, count])

    def signal(self, number: int, *size: int) -> None:
        """Send the program a signal."""
        self._scheduler.tell(self, Kind.SIGNAL, [int(number), *size])

    def begin_again(self) -> None:
        """Discard all output, and start the input again."""
        super().begin_again()
        for stream in (self.input, *self.outputs_by_stream.values()):
            if stream is not None:
                stream.begin_again()

    def judge(self, value: object) -> tuple[Any, BaseException | None]:
        """Return the result or the error of `conclude`."""
        if self.conclude is None:
            return value, None
        try:
            return self.conclude(value), None
        except (ParallelError, OSError) as error:
            return None, error

    def _leave(self) -> None:
        super()._leave()
        error = self._exception
        if error is None and self.cancelled():
            error = JobCancelledError(f"{self.name} was cancelled before it ran")
        for output in self.outputs_by_stream.values():
            output.fail(error)
        if self.input is not None:
            self.input.grant(0)

    def returncode(self) -> int:
        """Return the exit status after the job has ended; raise an error if the program did not run or was ended."""
        return self.read_end(self.result(0))

    def read_end(self, told: Any) -> int:
        """Do the same with the worker's report."""
        if not isinstance(told, dict) or type(told.get("status")) is not int:
            raise ProtocolError(f"node {self.node} ({self.host}): invalid report about the end of a program")
        if "why" in told:
            where = f"node {self.node} ({self.host})"
            raise OSError(told.get("errno"), f"{where}: {told['why']}", told.get("filename"))
        if told.get("timed_out"):
            raise ProgramTimeoutError(
                f"{self.words[0]} on node {self.node} ({self.host}) timed out at its time limit"
            )
        return int(told["status"])


def prepare(
    scheduler: Scheduler,
    words: Sequence[PathLike],
    options: JobOptions,
    max_message_bytes: int,
    *,
    cwd: PathLike | None = None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    seconds: float | None = None,
    terminal: tuple[int, int] | None = None,
    has_input: bool = True,
    merged: bool = False,
    folder: bool = False,
    files: Mapping[str, tuple[int, bytes]] | None = None,
    outputs: Sequence[str] | None = None,
    nice: int = 0,
    login: str | None = None,
) -> ProgramJob:
    """Return the job for a program; raise `ConfigurationError` if the arguments are invalid.

    `seconds`: its time limit. `terminal`: rows and columns of its terminal. `merged`: whether standard error goes to
    standard output. `folder`: whether it runs in a private folder of the job; the files left there become the job's
    `outputs`. `files`: permissions and contents, by name, of the files in that folder at the start. `outputs`: names or
    patterns of the files that come back; ``None`` for all new and changed ones. `nice`: the number of steps by which to
    lower its priority. `login`: the account that the node must run as, empty for any; then `words` is one line for its
    login shell, run in its home folder, and empty for the shell itself.
    """
    if isinstance(words, str | bytes) or not words:
        raise ConfigurationError(f"{words!r}: give a program and its arguments as a list, as in ['ls', '-l']")
    arguments = [to_bytes("an argument", word) for word in words]
    request: dict[str, Any] = {
        "args": arguments,
        "cwd": to_bytes(
            "cwd", cwd if cwd is not None else "/" if folder or login is not None else Path.cwd()
        ),
        "env": {to_bytes("env", name): to_bytes("env", value) for name, value in (env or {}).items()},
        "stdin": has_input,
    }
    if login is not None:
        request["login"] = to_bytes("login", login)
    elif not arguments[0]:
        raise ConfigurationError("the name of the program is empty")
    if not Path(os.fsdecode(request["cwd"])).is_absolute():
        raise ConfigurationError(f"cwd={cwd!r}: give an absolute path on the node")
    if seconds is not None:
        request["seconds"] = float(seconds)
    if terminal is not None:
        request["terminal"] = list(terminal)
    elif merged:
        request["merged"] = True
    if not 0 <= nice <= MAX_NICE:
        raise ConfigurationError(
            f"nice={nice}: give a number from 0 to {MAX_NICE}, which lowers the priority"
        )
    if nice:
        request["nice"] = nice
    request |= folder_request(folder, files, outputs)
    shown = [os.fsdecode(word) for word in arguments]
    job = ProgramJob(shown if login is None else ["login shell", *shown], options, scheduler)
    assert job.function is not None  # noqa: S101 - the constructor sets it
    contents = [job.function.number, [], {}, {**(options.wire(pickled=False) or {}), "program": request}]
    job.buffers = tuple(encode_message(Kind.JOB, job.number, contents, max_message_bytes))
    return job


class Program:
    """A program that runs on a node; ``net.popen()`` starts one.

    Attributes
    ----------
    args
        Its name and arguments.
    job
        The job that runs it. It has a number, a node, and the reason for waiting.
    stdin
        A writable file. ``write()`` sends all bytes, and blocks while the program is slower. ``close()`` ends the
        stream.
    stdout, stderr
        Readable files. Unread output slows the program down, and is never lost.
    returncode
        ``None`` until the program has ended; negative for a signal, as in `subprocess.Popen`.
    """

    def __init__(self, job: ProgramJob, *, is_terminal: bool) -> None:
        self.args = job.words
        self.job = job
        job.input = self.stdin = ProgramInput(job.send)
        self.stdout, self.stderr = self._output(STDOUT), None if is_terminal else self._output(STDERR)

    def _output(self, stream: int) -> io.BufferedReader:
        job = self.job
        raw = job.outputs_by_stream[stream] = ProgramOutput(lambda count: job.grant(stream, count))
        return io.BufferedReader(raw, buffer_size=2**16)

    def __repr__(self) -> str:
        return f"<program {self.args[0]}, {self.job!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()

    @property
    def returncode(self) -> int | None:
        """See the class."""
        return self.job.returncode() if self.job.done() else None

    def poll(self) -> int | None:
        """Return `returncode`, without waiting."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit status, negative for a signal.

        If the program writes much output, other threads must read it meanwhile.

        Raises
        ------
        OSError
            The program could not be started: it or its folder does not exist, or it cannot be executed.
        TimeoutError
            `timeout` expired. The program continues.
        ProgramTimeoutError
            The program reached the time limit given to `popen`, and was ended.
        JobLostError, JobCancelledError
            Its node is gone, or it was cancelled.
        """
        self.job.result(timeout)
        return self.job.returncode()

    def send_signal(self, number: int) -> None:
        """Send a signal to the program and all processes in its process group."""
        self.job.signal(number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal. The program receives SIGWINCH."""
        self.job.signal(signal.SIGWINCH, rows, columns)


class CapturedProgram:
    """A program with known input and captured output. `outcome` returns a result like `subprocess.run`."""

    def __init__(self, job: ProgramJob, data: bytes, *, is_text: bool) -> None:
        self.job = job
        self._is_text = is_text
        self._streams = [self._capture(stream) for stream in (STDOUT, STDERR)]
        job.input = GivenInput(job.send, data)

    def _capture(self, stream: int) -> CapturedOutput:
        job = self.job
        captured = job.outputs_by_stream[stream] = CapturedOutput(
            lambda count: job.grant(stream, count), MAX_CAPTURED_BYTES
        )
        return captured

    def outcome(self, *, check: bool) -> CompletedProgram:
        """Wait for the end and return the result. Raises the same errors as `Program.wait`."""
        return self.completed(self.job.result(), check=check)

    def completed(self, told: object, *, check: bool) -> CompletedProgram:
        """Return the result from the worker's report. Raises the same errors as `Program.wait`."""
        stdout, stderr = (self._shown(stream.data()) for stream in self._streams)
        try:
            code = self.job.read_end(told)
        except ProgramTimeoutError as error:
            error.stdout, error.stderr = stdout, stderr
            raise
        if any(stream.is_too_much for stream in self._streams):
            raise ConfigurationError(
                f"{self.job.words[0]} on node {self.job.node} ({self.job.host}) was ended because it wrote more than "
                f"{MAX_CAPTURED_BYTES} bytes; use popen(), and read the output while it runs"
            )
        job = self.job
        facts = vars(job)  # the job's properties would wait for the result that is being made here
        completed = CompletedProgram(
            job.words, code, stdout, stderr, job.node, job.host, facts.get("duration")
        )
        completed.outputs = facts.get("outputs", NO_OUTPUTS)
        if check:
            completed.check_returncode()
        return completed

    def _shown(self, data: bytes) -> bytes | str:
        return data.decode("utf-8", "replace") if self._is_text else data
