"""A worker: a process forked from the engine, which runs jobs for the client, one at a time.

It has a copy of the engine's workspace from the time of the fork, and its own data connection to the client. It records
its state in a page that the supervisor can read, see `pserver.jobs.shared_status`. It sends results of short jobs
together: about every millisecond, or when no job is waiting.
"""

import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pconnect.errors import ParallelError, ProtocolError
from pconnect.jobs.job import DROPPED, FAILED
from pconnect.jobs.shared_arrays import keep_array
from pconnect.jobs.worker_api import side
from pconnect.link.connection import Connection
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, prepare
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, refuse_nonsense
from pconnect.values.receive_buffers import IDLE_SECONDS, RECEIVE_BUFFERS
from pserver.config.limit_options import SessionLimits
from pserver.engine.failure import describe
from pserver.engine.greeting import greet
from pserver.engine.inherited_generators import renew_generators
from pserver.engine.job_folders import JobFolders
from pserver.engine.job_runner import JobRunner, raise_interrupt
from pserver.engine.numeric_threads import limit_threads
from pserver.engine.result_sender import ResultSender
from pserver.jobs.detached_worker import CONNECTION, UNFIT, decode, orders, read_job
from pserver.jobs.job_trace import JobTrace
from pserver.jobs.process_state import ProcessState
from pserver.jobs.recall import Intake
from pserver.jobs.shared_status import SharedStatus
from pserver.limits.resource_limits import limit_growth
from pserver.programs.relay import Relay, run_program
from pserver.services.files import SessionFiles
from pserver.services.kept_results import KeptResults
from pserver.system.descriptors import receive_descriptors
from pserver.system.flush import flush_output
from pserver.system.process_marks import wear_worker_mark
from pserver.system.processes import die_with_parent, name_process
from srp_tools.steps import deadline_after, run
from srp_tools.tls import TlsContexts

_HANDSHAKE_TIMEOUT = 30.0
_FIRST_ENDS = 4
_MOST_EARLY = 1000  # messages for programs that have not begun: signals, and closed readers of their output
_FLUSH_SECONDS = 0.001  # about how often results are sent and messages from the client read


@dataclass(frozen=True)
class Terms:
    """The state that a worker inherits from its engine."""

    names: dict[str, Any]  #: the workspace
    files: SessionFiles  #: the session's files
    tls: TlsContexts | None  #: the TLS contexts of this node; ``None`` without encryption
    #: The network's id and limits.
    network_id: bytes
    limits: Limits
    command: int  #: number of the last command before the fork
    token: bytes | None  #: for local links from the client; ``None``: there are none
    server_limits: SessionLimits = field(default_factory=SessionLimits)


def worker_main(ends: Sequence[int], threads: int, terms: Terms) -> None:
    """Run a worker until the client or the supervisor is gone; the main function of a forked process.

    `ends`: descriptors: the pipe to the supervisor, the page, the files for standard output and standard error, and the
    socket for the trace of jobs if jobs are logged. `threads`: number of threads for numerical libraries. `terms`: the
    state inherited from the engine.
    """
    os.setsid()  # its own group, so that it ends together with its children
    die_with_parent()
    name_process("worker", of_session=True)
    wear_worker_mark()
    pipe, page, *outputs = ends[:_FIRST_ENDS]
    for descriptor, end in zip((1, 2), outputs, strict=True):
        os.dup2(end, descriptor)
        os.close(end)
    random.seed()  # otherwise all workers would draw the same numbers
    renew_generators(terms.names)  # including numpy's global one
    limit_threads(threads, is_new=False)
    limit_growth(terms.server_limits.job_memory)
    worker = _Worker(socket.socket(fileno=pipe), SharedStatus(page), terms)
    for end in ends[_FIRST_ENDS:]:
        worker.trace(socket.socket(fileno=end))
    os.close(page)
    worker.run()
    os._exit(0)


class _Worker:
    """The worker's loop: it receives jobs and runs them."""

    def __init__(self, pipe: socket.socket, page: SharedStatus, terms: Terms) -> None:
        self._pipe = pipe
        self._page = page
        self._terms = terms
        limit = terms.limits.max_message_bytes
        self._sender = ResultSender(pipe, page, limit, KeptResults(terms.files))
        self._runner = JobRunner(
            terms.names,
            page,
            JobFolders(terms.files, limit),
            self._sender,
            terms.network_id,
            limits=terms.server_limits,
        )
        self._intake = Intake()
        self._dropped: set[int] = set()
        self._retiring = False
        self._looked_at = 0.0
        self._transfer = 0.0  # seconds
        self._relay: Relay | None = None
        self._held: list[Message] = []  # messages for later, while a program is running
        self._early: list[Message] = []  # messages for programs that are waiting for their turn
        self._runner.run_program = self._run_program
        signal.signal(signal.SIGINT, self._runner.on_interrupt)
        self._state = ProcessState()
        side.keep_imported = self._state.keep_imported
        self._trace: JobTrace | None = None

    def trace(self, sock: socket.socket) -> None:
        """Report each job that ends to the supervisor."""
        self._trace = JobTrace(sock, self._runner.functions)
        self._sender.on_result = self._trace.end

    def run(self) -> None:
        """Run the client's jobs and, after the client has detached, those in the store."""
        self._pipe.send(str(self._terms.command).encode())
        if not self._page.is_detached():
            self._serve_client()
        if self._page.is_detached():
            self._serve_store()

    def _serve_client(self) -> None:
        """Open the data connection, then run jobs."""
        sock = self._take_connection()
        if sock is None:
            return
        steps = greet(sock, self._terms.tls, self._terms.network_id, 0, self._terms.token)
        channel = run(steps, deadline_after(_HANDSHAKE_TIMEOUT))
        connection = Connection(0, "client", channel, role=Role.WORKER, limits=self._terms.limits)
        connection.on_message = self._take
        self._sender.connection = connection
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        poll.register(self._pipe, select.POLLIN)
        self._looked_at = time.monotonic()
        jobs = self._intake.jobs
        while self._is_wanted():
            if not jobs:
                self._sender.flush()
                if self._retiring:
                    return
                # An idle worker wakes up once more to release memory.
                idle = RECEIVE_BUFFERS.free_bytes and 1000 * IDLE_SECONDS
                for descriptor, _ in poll.poll(idle or None):
                    if descriptor == self._pipe.fileno():
                        return  # the supervisor is gone, has finished with this worker, or takes over its jobs
            begin = time.monotonic()
            if not jobs or begin - self._looked_at > _FLUSH_SECONDS:
                self._receive(connection, begin)
            if jobs:
                self._run_next()
        if isinstance(connection.error, ProtocolError):
            sys.stderr.write(f"{connection.error}\n")
            flush_output()
            os._exit(1)
        self._sender.flush()

    def _is_wanted(self) -> bool:
        is_retired = self._retiring and not self._intake.jobs
        return self._sender.connection.error is None and not (is_retired or self._page.is_detached())

    def _receive(self, connection: Connection, begin: float) -> None:
        """Send the waiting results, and read new messages."""
        self._sender.flush()
        self._intake.now = begin
        while connection.fill():
            pass
        self._looked_at = time.monotonic()
        RECEIVE_BUFFERS.release_idle(self._looked_at)
        self._transfer += self._looked_at - begin
        self._page.spend(self._transfer)
        self._page.count_bytes(connection.received_bytes, connection.sent_bytes)

    def _run_next(self) -> None:
        number, contents, came_at = self._intake.jobs.popleft()
        if number in self._dropped:
            self._dropped.discard(number)
            self._sender.send(number, [DROPPED])
            return
        if self._trace is not None:
            self._trace.begin(contents)
        if self._runner.run(number, contents, came_at):
            self._intake.recall(number)
        held, self._held = self._held, []
        for message in held:
            self._take(message)
        # The client need not wait for the following steps.
        if not self._intake.jobs or self._runner.ended_at - self._looked_at > _FLUSH_SECONDS:
            self._sender.flush()
        try:
            self._state.restore()
        except RuntimeError as error:
            self._runner.output.say(str(error))
            os._exit(UNFIT)

    def _run_program(self, number: int, request: dict[str, Any]) -> dict[str, Any]:
        return run_program(number, request, self._sender, self._pipe.fileno(), self._listen)

    def _listen(self, relay: Relay | None) -> None:
        self._runner.interrupt = raise_interrupt if relay is None else relay.interrupt
        self._relay = relay
        early, self._early = self._early, [message for message in self._early if self._waits(message.tag)]
        for message in early:
            if relay is not None and message.tag == relay.number:
                relay.hear(message)

    def _waits(self, number: int) -> bool:
        """Whether a job has arrived but not begun."""
        return any(number == waiting for waiting, *_ in self._intake.jobs)

    def _serve_store(self) -> None:
        """Run the jobs in the store, in the supervisor's order."""
        self._intake.clear()  # the supervisor reassigns these jobs
        self._sender.flush()
        store = self._sender.store()
        loaded = {f"f{number}" for number in self._runner.functions}
        for number in orders(self._pipe):
            self._intake.now = time.monotonic()
            try:
                for message in decode(read_job(self._pipe, self._sender.spare, store, number, loaded)):
                    self._take(message)
            except (OSError, ParallelError) as error:
                self._sender.send(number, [FAILED, describe(error)])
            while self._intake.jobs:
                self._run_next()
            self._sender.flush()

    def _take_connection(self) -> socket.socket | None:
        self._pipe.settimeout(_HANDSHAKE_TIMEOUT)
        data, descriptors = receive_descriptors(self._pipe, 5000, 1)
        if data != CONNECTION:
            if not data:
                sys.exit()  # the supervisor is gone
            self._sender.store(data)
            return None
        sock = socket.socket(fileno=descriptors[0])
        prepare(sock, DEFAULT_PEER_TIMEOUT)
        return sock

    @refuse_nonsense
    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.STREAM | Kind.CREDIT | Kind.SIGNAL:
                self._take_for_program(message)
            case _ if self._relay is not None:
                self._held.append(message)
            case Kind.JOB:
                self._intake.add(message.tag, message.value)
            case Kind.RECALL:
                self._intake.mark(message.tag)
            case Kind.FUNCTION if message.value is None:
                self._runner.forget(message.tag)
            case Kind.FUNCTION:
                self._runner.functions[message.tag] = message.value
            case Kind.SHARED:
                keep_array(message.tag, message.value)
            case Kind.DROP:
                self._dropped.add(message.tag)
            case Kind.RETIRE:
                self._retiring = True
                self._intake.jobs.clear()

    def _take_for_program(self, message: Message) -> None:
        relay = self._relay
        if relay is not None and relay.number == message.tag:
            relay.hear(message)
        elif relay is not None:
            self._held.append(message)
        elif self._waits(message.tag) and len(self._early) < _MOST_EARLY:
            self._early.append(message)
