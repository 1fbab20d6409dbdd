"""A worker: a process forked from the engine, which runs jobs for the client, one after the other.

It has the engine's workspace as it was at the fork, and a data connection of its own to the client. What it does stands
in a page that the supervisor can read, see `pserver.jobs.shared_status`. Results of short jobs are sent together:
those of a thousandth of a second, or what there is when no job waits.
"""

import contextlib
import os
import random
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pconnect.commands.function_pickling import pickle_value, unpack_arguments, unpack_function
from pconnect.errors import ParallelError, UnsupportedValueError
from pconnect.jobs.shared_arrays import keep_array
from pconnect.jobs.wire import DROPPED, FAILED, PICKLED, PLAIN
from pconnect.jobs.worker_api import side
from pconnect.link.connection import Connection
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, prepare
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, Unfinished, encode_message
from pconnect.remote_entry import keep_sources
from pserver.engine.failure import describe
from pserver.engine.job_folders import JobFolders
from pserver.engine.job_sandbox import memory_limit, take_output
from pserver.engine.links import greet
from pserver.jobs.detached_worker import CONNECTION, await_spool, decode, keep_results, orders
from pserver.jobs.job_store import JobStore
from pserver.jobs.recall import Intake
from pserver.jobs.shared_status import RESULT_BYTES, SharedStatus
from pserver.services.files import SessionFiles
from pserver.system.prctl import die_with_parent
from srp_tools.steps import deadline_after, run

_HANDSHAKE_TIMEOUT = 30.0
_FLUSH_SECONDS = 0.001  # results are sent, and the client is listened to, about so often
# What numerical libraries read when they are loaded.
_THREAD_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")]


@dataclass(frozen=True)
class Terms:
    """What a worker takes over from its engine.

    Attributes
    ----------
    names
        The workspace.
    files
        Of the session.
    accepting
        For TLS as this node; ``None`` without encryption.
    network_id, limits
        Of the network.
    command
        Number of the last command before the fork.
    """

    names: dict[str, Any]
    files: SessionFiles
    accepting: ssl.SSLContext | None
    network_id: bytes
    limits: Limits
    command: int


def worker_main(ends: Sequence[int], threads: int, terms: Terms) -> None:
    """Be one worker, until the client or the supervisor is gone; what a forked process does.

    Parameters
    ----------
    ends
        Descriptors: the pipe to the supervisor, the page, and files for standard output and standard error.
    threads
        How many threads numerical libraries may use.
    terms
        What comes from the engine.
    """
    os.setsid()  # its own group, to be ended with all it started
    die_with_parent()
    pipe, page, *outputs = ends
    for descriptor, end in zip((1, 2), outputs, strict=True):
        os.dup2(end, descriptor)
        os.close(end)
    np.random.seed()  # else all workers would draw the same numbers
    random.seed()
    _limit_threads(threads)
    worker = _Worker(socket.socket(fileno=pipe), SharedStatus(page), terms)
    os.close(page)
    worker.run()
    os._exit(0)


def _limit_threads(count: int) -> None:
    """Have numerical libraries share the processors with the other workers, also those that are imported later."""
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, str(count))
    with contextlib.suppress(ImportError):
        import threadpoolctl  # noqa: PLC0415 - takes a moment, and only workers need it

        threadpoolctl.threadpool_limits(count)


class _Worker:
    """The worker's loop."""

    def __init__(self, pipe: socket.socket, page: SharedStatus, terms: Terms) -> None:
        self._pipe = pipe
        self._page = page
        self._terms = terms
        self._connection: Connection = Connection(0, "client", None)
        self._functions: dict[int, Any] = {}
        self._intake = Intake()
        self._waiting = self._intake.jobs
        self._dropped: set[int] = set()
        self._retiring = False
        self._unsent = 0  # bytes in the page
        self._looked_at = 0.0
        self._jobs, self._seconds, self._transfer = 0, 0.0, 0.0
        self._job = 0  # that can be interrupted
        self._store: JobStore | None = None  # where results go once the client has left
        self._lock = threading.Lock()  # a job may report from threads of its own
        signal.signal(signal.SIGINT, self._on_interrupt)
        side.report = self._report
        self._folders = JobFolders(terms.files, terms.limits.max_message_bytes)
        side.make_folder = self._folders.make

    def run(self) -> None:
        """Do jobs for the client, and after it has left those that are kept."""
        self._pipe.send(f"{os.getpid()} {self._terms.command}".encode())
        if not self._page.is_detached():
            self._serve_client()
        if self._page.is_detached():
            self._work_off_spool()

    def _serve_client(self) -> None:
        """Make the data connection, then do jobs."""
        sock = self._take_connection()
        if sock is None:
            return
        steps = greet(sock, self._terms.accepting, self._terms.network_id, 0)
        channel = run(steps, deadline_after(_HANDSHAKE_TIMEOUT))
        self._connection = Connection(0, "client", channel, role=Role.WORKER, limits=self._terms.limits)
        self._connection.on_message = self._take
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        poll.register(self._pipe, select.POLLIN)
        self._looked_at = time.monotonic()
        while self._is_wanted():
            if not self._waiting:
                self._flush()
                if self._retiring:
                    return
                for descriptor, _ in poll.poll():
                    if descriptor == self._pipe.fileno():
                        return  # the supervisor is gone, or done with us, or wants us to work for it
            begin = time.monotonic()
            if not self._waiting or begin - self._looked_at > _FLUSH_SECONDS:
                self._flush()
                while self._connection.fill():
                    pass
                self._looked_at = time.monotonic()
                self._transfer += self._looked_at - begin
                self._page.spend(self._transfer)
            if self._waiting:
                self._run_job(*self._waiting.popleft())
        self._flush()

    def _is_wanted(self) -> bool:
        is_retired = self._retiring and not self._waiting
        return self._connection.error is None and not (is_retired or self._page.is_detached())

    def _work_off_spool(self) -> None:
        """Do what is kept, as the supervisor says."""
        self._intake.clear()  # it gives us these again, or another worker
        self._flush()
        store = self._kept()
        loaded = {f"f{number}" for number in self._functions}
        for number in orders(self._pipe):
            try:
                for message in decode(store.read(number, loaded)):
                    self._take(message)
            except (OSError, ParallelError) as error:
                self._send(number, [FAILED, describe(error)])
            while self._waiting:
                self._run_job(*self._waiting.popleft())
            self._flush()

    def _kept(self) -> JobStore:
        if self._store is None:
            self._store = await_spool(self._pipe)
        return self._store

    def _take_connection(self) -> socket.socket | None:
        self._pipe.settimeout(_HANDSHAKE_TIMEOUT)
        data, descriptors, _, _ = socket.recv_fds(self._pipe, 5000, 1, socket.MSG_CMSG_CLOEXEC)
        if data != CONNECTION:
            if not data:
                sys.exit()  # the supervisor is gone
            self._store = await_spool(self._pipe, data)
            return None
        sock = socket.socket(fileno=descriptors[0])
        prepare(sock, DEFAULT_PEER_TIMEOUT)
        return sock

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.JOB:
                self._intake.add(message.tag, message.value)
            case Kind.RECALL:
                self._intake.mark(message.tag)
            case Kind.FUNCTION if message.value is None:
                self._functions.pop(message.tag, None)
            case Kind.FUNCTION:
                self._functions[message.tag] = message.value
            case Kind.SHARED:
                keep_array(message.tag, message.value)
            case Kind.DROP:
                self._dropped.add(message.tag)
            case Kind.RETIRE:
                self._retiring = True
                self._waiting.clear()

    def _on_interrupt(self, *_: object) -> None:
        if self._job and self._page.interrupted() == self._job:
            raise KeyboardInterrupt

    # --- one job ---

    def _run_job(self, number: int, contents: Any) -> None:
        if number in self._dropped:
            self._dropped.discard(number)
            self._send(number, [DROPPED])
            return
        began = time.time()
        begin = time.monotonic()
        options: dict[str, Any] | None = None
        kind, value = PLAIN, None
        try:
            # A value that cannot be made here is a failure of the job; so is one that kills us.
            self._page.begin(number, begin, 0.0)
            if type(contents) is Unfinished:
                contents = contents.finish()
            function_number, args, kwargs, options = contents
            if options:
                self._page.begin(number, begin, options.get("seconds", 0.0))
            try:
                self._job = side.number = number
                if options and options.get("pickled"):
                    # Here, not where they are used: whatever happens when they are freed, the result is out.
                    args, kwargs = unpack_arguments(args, pickled=True)
                value = self._call(function_number, args, kwargs, options)
            finally:
                self._job = side.number = 0
        except BaseException as error:  # noqa: BLE001 - also SystemExit and Ctrl-C end the job only
            kind, value = FAILED, _account(error, options or {})
        end = time.monotonic()
        self._jobs += 1
        self._seconds += end - begin
        result = [kind, value, began, end - begin]
        self._send_result(number, result, options or {})
        if self._page.end(self._jobs, self._seconds):
            self._intake.recall(number)
        if end - self._looked_at > _FLUSH_SECONDS:
            self._flush()

    def _call(self, function_number: int, args: Any, kwargs: Any, options: dict[str, Any] | None) -> object:
        function = self._functions[function_number]
        if type(function) is list:
            data, sources = function
            keep_sources(sources)
            if isinstance(data, str):
                function = eval(data, self._terms.names)  # noqa: S307 - to run a user's code is what this is for
            else:
                function = unpack_function(data, self._terms.names)
            self._functions[function_number] = function
        if not options:
            return function(*args, **kwargs)
        with memory_limit(options.get("memory")):
            return function(*args, **kwargs)

    def _send_result(self, number: int, result: list[Any], options: dict[str, Any]) -> None:
        output = take_output()
        try:
            files = self._folders.take_outputs()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client has to know
            files, result[:2] = None, [FAILED, _account(error, options)]
        if output or files:
            result += [output, files] if files else [output]
        # Turning a result into bytes may run code of the user's, which may raise anything, SystemExit too.
        try:
            self._send(number, result)
            return
        except UnsupportedValueError as error:
            if not options.get("pickle"):
                text = str(error).replace("value[1]", "value", 1)
                error = UnsupportedValueError(f"{text}; allow_pickle=True lets it come by pickle")
            problem = _account(error, options)
        except BaseException as error:  # noqa: BLE001
            problem = _account(error, options)
            options = {}
            del result[5:]  # files, which may be what was too much
        if options.get("pickle"):
            try:
                self._send(number, [PICKLED, pickle_value(result[1]), *result[2:]])
                return
            except BaseException as error:  # noqa: BLE001
                problem = _account(error, options)
        self._send(number, [FAILED, problem, *result[2:]])

    def _report(self, value: object) -> None:
        buffers = encode_message(Kind.REPORT, side.number, value, self._terms.limits.max_message_bytes)
        with self._lock:
            self._flush_now()
            self._deliver(buffers)

    # --- sending ---

    def _send(self, number: int, result: list[Any]) -> None:
        buffers = encode_message(Kind.RESULT, number, result, self._terms.limits.max_message_bytes)
        with self._lock:
            if len(buffers) == 1 and len(buffers[0]) <= RESULT_BYTES // 4:
                if self._unsent + len(buffers[0]) > RESULT_BYTES:
                    self._flush_now()
                self._unsent = self._page.keep(bytes(buffers[0]), self._unsent)
                return
            self._flush_now()
            self._deliver(buffers)

    def _flush(self) -> None:
        with self._lock:
            self._flush_now()

    def _flush_now(self) -> None:
        if self._unsent:
            self._deliver([self._page.results(self._unsent)])
            self._unsent = 0
            self._page.clear()

    def _deliver(self, buffers: Sequence[bytes | memoryview]) -> None:
        # In this order: the supervisor, which tells us first and then looks, knows by it when nothing more is sent.
        self._page.set_sending(True)
        try:
            if self._page.is_detached():
                keep_results(self._kept(), buffers)
                return
            for buffer in buffers:
                self._write(memoryview(buffer))
        finally:
            self._page.set_sending(False)

    def _write(self, data: memoryview) -> None:
        """Send to the client, however long it takes; a client that is gone is noticed."""
        if self._connection.error is not None:
            return
        self._connection.post_encoded([data])
        self._connection.flush()
        while self._connection.has_unsent and self._connection.error is None:
            poll = select.poll()
            poll.register(self._connection.fileno(), select.POLLOUT)
            poll.register(self._pipe, 0)
            for descriptor, _ in poll.poll():
                if descriptor == self._pipe.fileno():
                    os._exit(0)  # the supervisor is gone
            self._connection.flush()


def _account(error: BaseException, options: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of a failure: with the exception itself, for who allows pickle and if it can be pickled."""
    account = describe(error)
    if options.get("pickle"):
        with contextlib.suppress(BaseException):  # whatever the user's __reduce__ raises, the account must do
            account["pickle"] = pickle_value(error)
    return account
