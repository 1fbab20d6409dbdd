"""A program on a node: the job that runs it, and a handle like that of `subprocess`."""

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
#: Of each stream of a program whose output is kept as a whole.
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

    `words`: its name and arguments. `on_begin`: called before it is sent to a node, by whichever thread does that.
    `conclude`: returns its result, or raises its error, by what the worker tells of the program's end; ``None``: that
    is the result.
    """

    conclude: Callable[[object], object] | None = None

    def __init__(self, words: list[str], options: JobOptions, scheduler: Scheduler) -> None:
        super().__init__(scheduler.next_number(), words[0], (), options, scheduler)
        self.words = words
        self._scheduler = scheduler
        self.on_begin: Callable[[], object] | None = None
        self.input: _Input | None = None
        self.outputs_by_stream: dict[int, _Output] = {}
        # Durations of programs of one name are estimated together; the text is never run.
        name = (Path(words[0]).name or words[0]).encode(errors="replace").decode()
        self.function = scheduler.functions.get(name)

    def start(self) -> None:
        """Have it done, as soon as a worker is free. What commands have left in a workspace is nothing to it."""
        self._scheduler.submit(self)

    def begin(self) -> bool:
        """See `LightFuture.begin`."""
        begins = super().begin()
        if begins and self.on_begin is not None:
            self.on_begin()
        return begins

    def hear(self, message: Message) -> None:
        """Take what the program writes, and how much more it reads."""
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
        """Let the program write more to a stream; 0: nobody reads it any more."""
        self._scheduler.tell(self, Kind.CREDIT, [stream, count])

    def signal(self, number: int, *size: int) -> None:
        """Send the program a signal."""
        self._scheduler.tell(self, Kind.SIGNAL, [int(number), *size])

    def begin_again(self) -> None:
        """Forget what has come of it; its input begins anew."""
        super().begin_again()
        for stream in (self.input, *self.outputs_by_stream.values()):
            if stream is not None:
                stream.begin_again()

    def judge(self, value: object) -> tuple[Any, BaseException | None]:
        """Return what `conclude` does."""
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
        """Return how the program has ended, once the job has; raise why it has not run, or was ended from outside."""
        return self.read_end(self.result(0))

    def read_end(self, told: Any) -> int:
        """Return or raise the same, by what the worker has told."""
        if not isinstance(told, dict) or type(told.get("status")) is not int:
            raise ProtocolError(f"node {self.node} ({self.host}): not the end of a program")
        if "why" in told:
            where = f"node {self.node} ({self.host})"
            raise OSError(told.get("errno"), f"{where}: {told['why']}", told.get("filename"))
        if told.get("timed_out"):
            raise ProgramTimeoutError(
                f"{self.words[0]} at node {self.node} ({self.host}) was ended at its time limit"
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
    """Return the job that runs a program; raise `ConfigurationError` if there can be none.

    `seconds`: after which it is ended. `terminal`: rows and columns of the terminal that it is to have. `merged`: its
    standard error is its standard output. `folder`: it runs in a private folder of the job, and what it leaves there is
    in the job's `outputs`. `files`: permissions and contents, by name, of what is in that folder before. `outputs`:
    names or patterns of what comes back; ``None``: all that is new or changed. `nice`: by how much its priority is
    lowered. `login`: the account that the node must have, empty for any; `words` is one line for its login shell in its
    home, empty for the shell itself.
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
        raise ConfigurationError(f"cwd={cwd!r}: give an absolute path of the node")
    if seconds is not None:
        request["seconds"] = float(seconds)
    if terminal is not None:
        request["terminal"] = list(terminal)
    elif merged:
        request["merged"] = True
    if not 0 <= nice <= MAX_NICE:
        raise ConfigurationError(f"nice={nice}: it is from 0 to {MAX_NICE}, and lowers the priority")
    if nice:
        request["nice"] = nice
    request |= folder_request(folder, files, outputs)
    shown = [os.fsdecode(word) for word in arguments]
    job = ProgramJob(shown if login is None else ["login shell", *shown], options, scheduler)
    assert job.function is not None  # noqa: S101 - it has one from the beginning
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
        The job that runs it, with its number, its node, why it waits.
    stdin
        To be written: ``write()`` sends all, and waits where the program is slower. ``close()`` is the end of the
        stream.
    stdout, stderr
        To be read: what nobody reads slows the program down, and nothing of it is lost.
    returncode
        ``None`` before the program has ended; negative for a signal, as of `subprocess.Popen`.
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

        What it writes must be read meanwhile, by other threads, if it is much.

        Raises
        ------
        OSError
            It could not be started: there is no such program, or it cannot be executed, or its folder does not exist.
        TimeoutError
            The limit passed; the program runs on.
        ProgramTimeoutError
            The time limit that `popen` was given has passed, and the program was ended.
        JobLostError, JobCancelledError
            Its node is gone, or it was cancelled.
        """
        self.job.result(timeout)
        return self.job.returncode()

    def send_signal(self, number: int) -> None:
        """Send a signal to the program and all in its process group."""
        self.job.signal(number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal, of which it hears by SIGWINCH."""
        self.job.signal(signal.SIGWINCH, rows, columns)


class CapturedProgram:
    """A program whose input is known and whose output is kept; `outcome` is what `subprocess.run` returns."""

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
        """Wait for the end, and return how it was; raise as `Program.wait`."""
        return self.completed(self.job.result(), check=check)

    def completed(self, told: object, *, check: bool) -> CompletedProgram:
        """Return how the program has ended, by what its worker has told; raise as `Program.wait`."""
        stdout, stderr = (self._shown(stream.data()) for stream in self._streams)
        try:
            code = self.job.read_end(told)
        except ProgramTimeoutError as error:
            error.stdout, error.stderr = stdout, stderr
            raise
        if any(stream.is_too_much for stream in self._streams):
            raise ConfigurationError(
                f"{self.job.words[0]} at node {self.job.node} ({self.job.host}) has written more than "
                f"{MAX_CAPTURED_BYTES} bytes, and was ended by that; use popen(), and read them as they come"
            )
        job = self.job
        facts = vars(job)  # for one whose result is just being made, the attributes would wait for that
        completed = CompletedProgram(
            job.words, code, stdout, stderr, job.node, job.host, facts.get("duration")
        )
        completed.outputs = facts.get("outputs", NO_OUTPUTS)
        if check:
            completed.check_returncode()
        return completed

    def _shown(self, data: bytes) -> bytes | str:
        return data.decode("utf-8", "replace") if self._is_text else data
