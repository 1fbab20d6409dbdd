"""Run one job in a worker: call its function, and turn the outcome into a RESULT."""

import contextlib
import contextvars
import functools
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pconnect.commands.function_pickling import pickle_value, unpack_arguments, unpack_function
from pconnect.commands.remote_errors import blame_limit
from pconnect.errors import UnsupportedValueError
from pconnect.jobs import random_streams
from pconnect.jobs.job import FAILED, PICKLED, PLAIN
from pconnect.jobs.read_only import explain
from pconnect.jobs.worker_api import side
from pconnect.protocol.forms import check_form
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Unfinished
from pconnect.remote_entry import keep_sources
from pserver.config.limit_options import SessionLimits
from pserver.config.option import duration_text
from pserver.engine.failure import describe
from pserver.engine.job_folders import JobFolders
from pserver.engine.result_sender import ResultSender
from pserver.engine.unsent_value import keep_unsent
from pserver.jobs.job_output import JobOutput
from pserver.jobs.job_trace import name_of
from pserver.jobs.shared_status import SharedStatus
from pserver.limits.limit_words import add_hint, set_by
from pserver.statistics.work_page import label_of
from pserver.system.flush import flush_output
from pserver.system.processes import address_space_bytes


class JobRunner:
    """Runs the jobs of one worker.

    `page`: where the worker records its state. `functions`: the functions of jobs, by number; each in its received form
    until the first call. `ended_at`: when the last job ended, by `time.monotonic`. `network_id`: seeds the random
    numbers of jobs that have no seed. `run_program`: runs a job that is a program, given its number and request.
    `interrupt`: what interrupting a job does. `limits`: the server's.
    """

    def __init__(
        self,
        names: dict[str, Any],
        page: SharedStatus,
        folders: JobFolders,
        sender: ResultSender,
        network_id: bytes,
        *,
        limits: SessionLimits | None = None,
    ) -> None:
        self.output = JobOutput()
        self.functions: dict[int, Any] = {}
        self.run_program: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda *_: {}
        self.interrupt: Callable[[], object] = raise_interrupt
        self.ended_at = 0.0
        self._names = names
        self._page = page
        self._folders = folders
        self._sender = sender
        self._limits = limits or SessionLimits()
        self._process = os.getpid()
        self._entropy = int.from_bytes(network_id, "big")
        self._count, self._seconds = 0, 0.0
        self._interruptible = 0  # the job whose function is running
        side.report = lambda value: sender.report(side.number, value)
        side.make_folder = folders.make

    def forget(self, function_number: int) -> None:
        """Forget a function that no job needs any more."""
        self.functions.pop(function_number, None)
        self._page.work.labels.pop(function_number, None)

    def on_interrupt(self, *_: object) -> None:
        """Interrupt the running job if the signal is for it."""
        if self._interruptible and self._page.interrupted() == self._interruptible:
            self.interrupt()

    def run(self, number: int, contents: Any, came_at: float = 0.0) -> bool:
        """Run a job and send its result; return whether the jobs queued behind it are recalled.

        `came_at`: when it arrived here, by `time.monotonic`; 0: now.
        """
        began = time.time()
        begin = time.monotonic()
        options: dict[str, Any] | None = None
        kind, has_failed = PLAIN, False
        value: object = None
        try:
            # If the value cannot be unpacked here, the job fails. The same is true if unpacking kills this process.
            self._page.begin(number, begin, 0.0)
            if type(contents) is Unfinished:
                contents = contents.finish()
            check_form(Kind.JOB, contents)
            function_number, args, kwargs, options = contents
            if options:
                self._page.begin(number, begin, options.get("seconds", 0.0))
            try:
                self._interruptible = side.number = number
                if options and (stream := options.get("stream")):
                    random_streams.begin(stream[0], tuple(stream[1:]), is_seeded=True)
                else:
                    random_streams.begin(self._entropy, (number,), is_seeded=False)
                if options and options.get("pickled"):
                    # Unpack here, not where they are used: even if freeing them fails, the result has been sent.
                    args, kwargs = unpack_arguments(args, pickled=True)
                if options and (program := options.get("program")):
                    self._page.work.begin(number, began, _label_of_program(program), is_program=True)
                    value = ended = self.run_program(number, program)
                    has_failed = ended.get("status") != 0
                else:
                    value = self._call((number, began), (function_number, args, kwargs, options))
            finally:
                self._interruptible = side.number = 0
        except BaseException as error:  # noqa: BLE001 - also SystemExit and Ctrl-C end the job only
            own = (options or {}).get("memory")
            add_hint(error, self._limits, is_job=not own or own >= self._limits.job_memory)
            kind, value = FAILED, _describe_failure(error, options or {})
            self._blame_server(value, begin, options or {})
        self._end_copy()
        self.ended_at = end = time.monotonic()
        self._count += 1
        self._seconds += end - begin
        has_failed |= self._send_result(number, [kind, value, began, end - begin], options or {})
        queued = begin - came_at if came_at else 0.0
        self._page.work.end(began, end - begin, queued, has_failed=has_failed)
        return self._page.end(self._count, self._seconds)

    def _blame_server(self, account: dict[str, Any], begin: float, options: dict[str, Any]) -> None:
        """Attribute an interrupt to the server's time limit, if that expired; the client knows its own limit."""
        limit = self._limits.job_time
        is_shorter = limit and not 0 < options.get("seconds", 0.0) < limit
        if is_shorter and account["type"] == "KeyboardInterrupt" and time.monotonic() - begin >= limit:
            blame_limit(account, limit, f"; {set_by('--job-time', duration_text(limit))}")

    def _end_copy(self) -> None:
        """End this process if the job forked it from the worker: the copy would also run jobs and send results."""
        if os.getpid() != self._process:
            flush_output()
            os._exit(0)

    def _call(self, job: tuple[int, float], contents: Any) -> object:
        """Call the function of a job. `job`: its number and its start time."""
        function_number, args, kwargs, options = contents
        function = self.functions[function_number]
        if type(function) is list:
            data, sources, *memory = function
            keep_sources(sources)
            # An expression in the workspace. Running the user's code is the purpose here.
            is_text = isinstance(data, str)
            function = eval(data, self._names) if is_text else unpack_function(data, self._names, memory)  # noqa: S307
            self.functions[function_number] = function
            self._page.work.labels[function_number] = label_of(name_of(function))
        work = self._page.work
        work.begin(*job, work.labels.get(function_number, b""), is_program=False)
        side.keep_imported()
        # Changes to numpy's error state, the context of `decimal` and the like stay inside the job.
        call = contextvars.copy_context().run
        if not options:
            return call(function, *args, **kwargs)
        with memory_limit(options.get("memory")):
            return call(function, *args, **kwargs)

    def _send_result(self, number: int, result: list[Any], options: dict[str, Any]) -> bool:
        """Send a result, or the reason why it cannot be sent; return whether it is a failure."""
        output = self.output.take()
        try:
            files = self._folders.take_outputs()
        except Exception as error:  # noqa: BLE001 - report any error to the client
            files, result[:2] = None, [FAILED, _describe_failure(error, options)]
        if output or files:
            result += [output, files] if files else [output]
        # Encoding a result may run the user's code, which may raise anything, even SystemExit.
        try:
            self._sender.send(number, result, by_name=not options.get("pickle"))
            return bool(result[0] == FAILED)
        except UnsupportedValueError as error:
            if not options.get("pickle"):
                keep = functools.partial(self._sender.keep, number)
                error = keep_unsent(error, result[1], "job", keep)
            problem = _describe_failure(error, options)
        except BaseException as error:  # noqa: BLE001
            problem = _describe_failure(error, options)
            options = {}
            del result[5:]  # the files, which may have exceeded the limit
        if options.get("pickle"):
            try:
                self._sender.send(number, [PICKLED, pickle_value(result[1]), *result[2:]])
                return False
            except BaseException as error:  # noqa: BLE001
                problem = _describe_failure(error, options)
        self._sender.send(number, [FAILED, problem, *result[2:]])
        return True


def raise_interrupt() -> None:
    """Raise the exception that ends a function of the user's code."""
    raise KeyboardInterrupt


def _describe_failure(error: BaseException, options: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a failure, with the pickled exception if the caller allows pickle and it succeeds."""
    explain(error)
    account = describe(error)
    if options.get("pickle"):
        with contextlib.suppress(BaseException):  # the user's __reduce__ may raise anything
            account["pickle"] = pickle_value(error)
    return account


def _label_of_program(request: dict[str, Any]) -> bytes:
    args = request["args"]
    return label_of(Path(os.fsdecode(args[0])).name if args else "login")


@contextlib.contextmanager
def memory_limit(size: int | None) -> Any:
    """Let this process allocate at most `size` more bytes; beyond that, allocations raise MemoryError."""
    if size is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = address_space_bytes() + size
    hard = before[1]
    resource.setrlimit(
        resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
