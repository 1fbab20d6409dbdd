"""The engine: the process that holds the workspace and runs the user's code.

It has one thread. Between commands it serves its connections, so that what other nodes send is taken in and what is
left of a half-sent message goes out; during a command it does so whenever the command is inside `psend`, `precv` or
`select_sockets`.

Two ends of the supervisor are held: a socket with commands, and a pipe on which nothing is ever written. When the
supervisor dies, the system signals the end of the pipe with SIGKILL, even if the engine is deep in a library's loop.
"""

import fcntl
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection as PipeEnd
from typing import Any, TextIO

import numpy as np

from pconnect.commands.function_pickling import pickle_value, unpack_service_arguments
from pconnect.errors import ConfigurationError, DeadlockError, UnsupportedValueError
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.network import Mesh, Network
from pconnect.messaging.collective_call import leave
from pconnect.messaging.send_receive import precv, psend
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pconnect.protocol.wait_states import IDLE, Wait
from pconnect.session.deadlock_probe import answer
from pconnect.session.versions import own_versions
from pserver.display import no_input
from pserver.display.mime_bundle import make_bundle
from pserver.display.outbox import Hooks, Outbox
from pserver.engine.forks import Forks
from pserver.engine.links import Links, Setup
from pserver.engine.worker import Terms
from pserver.engine.workspace import Workspace, describe
from pserver.services import files, registry, synced_code
from pserver.services.dask_processes import DaskProcesses
from pserver.services.registry import EngineState
from pserver.system.flush import flush_output
from srp_tools.channel import Channel

_VERSIONS = own_versions()  # read by the fork server, once for all engines


def engine_main(
    pipe: socket.socket,
    handover: socket.socket,
    outputs: Sequence[PipeEnd],
    lifeline: PipeEnd,
    forks: socket.socket,
) -> None:
    """Be one engine; what a forked process does."""
    os.setsid()  # its own group, to be ended with all it started
    _die_with(lifeline)
    for descriptor, end in zip((1, 2), outputs, strict=True):
        os.dup2(end.fileno(), descriptor)
        end.close()
    # New streams: those of the fork server were made for its own files.
    sys.stdout, sys.stderr = _open_text(1), _open_text(2)
    pipe.setblocking(False)
    np.random.seed()  # else all engines, being forked from one process, would draw the same numbers
    _Engine(pipe, handover, forks, lifeline).run()


def _open_text(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _die_with(lifeline: PipeEnd) -> None:
    """Have the system kill this process when the other end of the pipe is closed, that is, when its holder dies."""
    descriptor = lifeline.fileno()
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    if lifeline.poll(0):  # it died before
        os._exit(1)


class _Engine:
    """The engine's loop."""

    def __init__(
        self, pipe: socket.socket, handover: socket.socket, forks: socket.socket, lifeline: PipeEnd
    ) -> None:
        self._handover = handover
        self._lifeline = lifeline
        self._event_loop = EventLoop()
        self._supervisor = Connection(0, "supervisor", Channel(pipe), role=Role.ENGINE)
        self._supervisor.on_message = self._take
        self._supervisor.on_lost = lambda _: os._exit(1)
        self._event_loop.add(self._supervisor)
        self._forks = Forks(forks, self._event_loop)
        self._commands: deque[Message] = deque()
        self._mesh: Mesh | None = None
        self._setup: Setup | None = None
        self._links: Links | None = None
        self._closing = False
        self._in_command = False
        self._signalled = False  # by a SIGINT outside of a command
        self._interrupted = 0  # the last command that the supervisor interrupted
        self._workspace: Workspace | None = None
        self._outbox = Outbox(self._supervisor, self._event_loop)
        self._state: EngineState | None = None  # for services
        self._command = 0  # the number of the last one
        self._has_limit = False  # of time
        signal.signal(signal.SIGINT, self._on_interrupt)

    def run(self) -> None:
        """Make the mesh, then run commands until the end of the session."""
        self._wait(lambda: self._setup is not None)
        self._join_network()
        while True:
            self._event_loop.run_until(
                lambda: bool(self._commands) or self._closing or self._forks.asked,
                math.inf,
                "a command",
                lambda: Wait(IDLE, (0,)),
            )
            if self._closing:
                return
            if self._forks.asked:
                self._forks.fork(self._leave_to_engine, self._terms())
                continue
            self._run_command(self._commands.popleft())

    def _wait(self, condition: Any) -> None:
        self._event_loop.run_until(condition, math.inf, "the supervisor")

    def _on_interrupt(self, *_: object) -> None:
        if self._in_command:
            raise KeyboardInterrupt
        self._signalled = True

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.SETUP:
                self._setup = Setup(**message.value)
            case Kind.COMMAND | Kind.CALL:
                self._commands.append(message)
            case Kind.INTERRUPT:
                self._interrupted = message.tag
            case Kind.RESTART:
                if self._links is not None:  # else the set-up, which is still to come, knows of it
                    self._links.renew(*message.value)
            case Kind.PROBE:
                # Answered where the loop has looked whether its wait is over, see `pconnect.session.deadlock_detector`.
                self._event_loop.attention = lambda: self._attend(message)
            case Kind.CLOSE:
                self._closing = True

    def _attend(self, probe: Message) -> DeadlockError | None:
        assert self._mesh is not None  # noqa: S101 - clients probe networks that have been made
        self._event_loop.attention = None
        # A thread of the user's may interrupt this one; the library has none. At the client, a filter or a handler of
        # the user's may do anything when it gets a note.
        has_limit = self._has_limit or self._outbox.has_left or len(sys._current_frames()) > 1
        said = answer(self._mesh, probe.value, self._command, has_limit=has_limit)
        if isinstance(said, list):
            self._tell(Kind.STATE, said, probe.tag)
            return None
        return said

    def _tell(self, kind: Kind, value: object, tag: int = 0) -> None:
        with self._event_loop.sigint_deferred:
            self._supervisor.post(kind, tag, value)
            self._event_loop.flush(self._supervisor)

    def _join_network(self) -> None:
        setup = self._setup
        assert setup is not None  # noqa: S101 - it was waited for
        os.chdir(setup.directory)
        links = self._links = Links(
            setup, self._handover, self._event_loop, lambda: self._event_loop.take_in(self._supervisor)
        )
        self._wait(lambda: self._closing or not links.unfinished())
        errors = {str(node): text for node, text in links.errors.items()}
        if errors and setup.together is None:
            self._tell(Kind.MESHED, {"errors": errors})
            return
        mesh = Mesh(setup.network, setup.node, links.connections, self._event_loop, Limits(*setup.limits))
        self._mesh = mesh
        self._workspace = Workspace(Network(mesh))
        names = self._workspace.names
        synced_code.begin(setup.session_folder)
        names["session_files"] = files.begin(setup.session_folder, setup.max_file_size)
        self._state = EngineState(
            names, files.this_session(), DaskProcesses(setup.session_folder), setup.client_version
        )
        Hooks(self._outbox, mesh.limits.max_message_bytes).install(names)
        no_input.install()
        self._tell(
            Kind.MESHED,
            ({"errors": errors} if errors else {})
            | {
                "pid": os.getpid(),
                "cores": len(os.sched_getaffinity(0)),
                **_VERSIONS,
                "numpy": np.__version__,
                "directory": setup.directory,
                "directory_is_clients": setup.directory_is_clients,
            },
        )

    # --- workers ---

    def _terms(self) -> Terms:
        assert self._mesh is not None  # noqa: S101 - the supervisor asks for none before
        assert self._workspace is not None  # noqa: S101
        assert self._links is not None  # noqa: S101
        return Terms(
            self._workspace.names,
            self._links.accepting,
            self._mesh.network_id,
            self._mesh.limits,
            self._command,
        )

    def _leave_to_engine(self) -> None:
        """Close what is the engine's, and not that of a worker which was forked from it."""
        error = ConfigurationError(
            "a job has no connections to other nodes: only engines have; `progress` tells the client something"
        )
        self._event_loop.abandon(error)
        if self._mesh is not None:
            for connection in self._mesh.connections:
                connection.abandon(error)
        self._handover.close()
        self._lifeline.close()

    @property
    def _client(self) -> Connection:
        assert self._mesh is not None  # noqa: S101 - no command comes before it
        return self._mesh.connections[0]

    def _run_command(self, message: Message) -> None:
        assert self._mesh is not None  # noqa: S101 - no command comes before it
        number, (_, epoch, options) = message.tag, message.value
        if epoch > self._mesh.epoch:
            self._mesh.begin_epoch(epoch)
        self._command, self._has_limit = number, options.get("seconds") is not None
        outcome: float | dict[str, Any]
        begin = time.perf_counter()
        self._outbox.number = number
        try:
            self._in_command = True
            self._check_interrupted(number)
            self._execute(message)
            _show_figures()
            self._in_command = False
            outcome = time.perf_counter() - begin
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too are the command's failure
            self._in_command = False
            if isinstance(error, Exception):  # else someone has lost patience; they stay open
                _show_figures()
            leave(self._mesh, error)  # whoever waits for us in a collective call does so in vain
            outcome = describe(error) | {"values_sent": self._client.values_sent}
            outcome["seconds"] = time.perf_counter() - begin
        flush_output()
        self._outbox.release()
        self._outbox.number = 0
        self._tell(Kind.DONE, outcome, number)

    def _execute(self, message: Message) -> None:
        assert self._workspace is not None  # noqa: S101 - made with the mesh
        assert self._state is not None  # noqa: S101 - the same
        source, _, options = message.value
        tag = LIBRARY_TAGS + message.tag
        if message.kind is Kind.CALL:
            value = registry.call(self._state, source, unpack_service_arguments(self._receive(tag)))
        elif options.get("call"):
            value = self._workspace.call(self._receive(tag))
        else:
            value = self._workspace.run(source, message.tag, wants_value=bool(options))
        if options.get("value"):
            self._send_value(value, tag, options)

    def _receive(self, tag: int) -> list[Any]:
        """Wait for the arguments of a command."""
        with self._event_loop.sigint_deferred:
            for old in [old for old in self._client.inbox if LIBRARY_TAGS <= old < tag]:
                self._client.take_value(old)  # of a command that was cancelled before it began
        arguments: list[Any] = precv(self._client, tag=tag)
        return arguments

    def _send_value(self, value: object, tag: int, options: dict[str, Any]) -> None:
        if options.get("display") and value is not None:
            value = list(make_bundle(value))
        try:
            psend([False, value], self._client, tag=tag)
        except UnsupportedValueError as error:
            if not options.get("pickle"):
                raise UnsupportedValueError(
                    f"{str(error).replace('value[1]', 'value', 1)}; allow_pickle=True lets it come by pickle"
                ) from None
            psend([True, pickle_value(value)], self._client, tag=tag)

    def _check_interrupted(self, number: int) -> None:
        """Raise if the signal for this command came before it had begun."""
        if self._signalled:
            self._signalled = False
            self._event_loop.poll(0)  # the message which tells that was sent before the signal
            if self._interrupted == number:
                raise KeyboardInterrupt


def _show_figures() -> None:
    """Show what pyplot has open, if the user's code has used it with our backend; an error in it is printed."""
    backend = sys.modules.get("pserver.display.matplotlib_backend")
    if backend is not None:
        try:
            backend.show_open_figures()
        except Exception:  # noqa: BLE001 - drawing runs code of the user's, and his command has done its work
            traceback.print_exc()
