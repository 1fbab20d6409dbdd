"""The engine: the process that holds the workspace and runs the user's code.

It has one thread. Between commands it serves its connections, so that what other nodes send is taken in and what is
left of a half-sent message goes out; during a command it does so whenever the command is inside `psend`, `precv` or
`select_sockets`.

Commands come from the client, on its data connection. The supervisor says the rest, on a socket, and holds the other
end of a pipe on which nothing is ever written. When it dies, the system signals the end of the pipe with SIGKILL, even
if the engine is deep in a library's loop.
"""

import fcntl
import math
import os
import signal
import socket
import sys
import warnings
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection as PipeEnd
from typing import Any

import numpy as np
import numpy.random  # which numpy loads when it is first used: here once in the starter, for all engines

from pconnect.errors import ConfigurationError, DeadlockError, ProtocolError
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.network import Mesh, Network
from pconnect.protocol.forms import check_form
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pconnect.protocol.wait_states import IDLE, Wait
from pconnect.session.deadlock_probe import answer
from pconnect.session.versions import own_versions
from pserver.config.limit_options import SessionLimits
from pserver.display import no_input
from pserver.display.hooks import Hooks
from pserver.display.outbox import Outbox
from pserver.engine.command_page import CommandPage, GivenOutput
from pserver.engine.command_runner import CommandRunner, Interrupts, keeps_value
from pserver.engine.forks import Forks
from pserver.engine.links import Links
from pserver.engine.numeric_threads import limit_threads
from pserver.engine.worker import Terms
from pserver.engine.workspace import Workspace
from pserver.jobs.process_state import open_text
from pserver.orphans.client_link import ClientLink
from pserver.orphans.command_history import CommandHistory
from pserver.routes.setup import Setup
from pserver.services.dask_processes import DaskProcesses
from pserver.services.files import SessionFiles, is_open_to_others, publish
from pserver.services.registry import EngineState
from pserver.services.synced_code import SyncedCode
from pserver.system.clean_start import give_warnings_back
from pserver.system.processes import set_title
from pserver.system.session_folder import require_folder
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after

# While so much waits for the supervisor, no command begins.
_MAX_UNSENT_BYTES = 2**22
# So long the supervisor may take to send the numbers of commands that it has counted as cancelled.
_CANCEL_SECONDS = 10.0

_VERSIONS = own_versions()  # read by the starter, once for all engines


def engine_main(  # noqa: PLR0917 - all that a new process is given
    pipe: socket.socket,
    handover: socket.socket,
    outputs: Sequence[PipeEnd],
    lifeline: PipeEnd,
    forks: socket.socket,
    memory: int,
) -> None:
    """Be one engine; what a forked process does."""
    os.setsid()  # its own group, to be ended with all it started
    _die_with(lifeline)
    for descriptor, end in zip((1, 2), outputs, strict=True):
        os.dup2(end.fileno(), descriptor)
    page = CommandPage(memory)
    os.close(memory)
    # New streams: those of the starter were made for its own files.
    sys.stdout, sys.stderr = open_text(1), open_text(2)
    pipe.setblocking(False)
    np.random.seed()  # else all engines, being forked from one process, would draw the same numbers
    _Engine(pipe, handover, forks, lifeline, page, outputs).run()


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

    def __init__(  # noqa: PLR0917 - all that a new process is given
        self,
        pipe: socket.socket,
        handover: socket.socket,
        forks: socket.socket,
        lifeline: PipeEnd,
        page: CommandPage,
        outputs: Sequence[PipeEnd],
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
        self._setup: Setup | None = None
        self._kept_bytes = 0  # for a client that vanishes and comes back; 0: none does
        self._links: Links | None = None
        self._closing = False
        self._outbox = Outbox(self._supervisor, self._event_loop)
        self._page = page
        self._outputs = outputs
        self._interrupts = Interrupts(page, self._await_cancels)
        self._runner: CommandRunner | None = None  # once the network is joined

    def run(self) -> None:
        """Make the mesh, then run commands until the end of the session."""
        self._wait(lambda: self._setup is not None)
        try:
            self._join_network()
        except OSError as error:  # a full disk, or no room for descriptors
            place = f" ({error.filename})" if error.filename else ""
            why = f"the engine cannot join the network: {error.strerror or error}{place}"
            self._tell(Kind.MESHED, {"errors": {"0": why}})
            return
        after_command = False
        while True:
            self._event_loop.run_until(self._has_work, math.inf, "a command", lambda: Wait(IDLE, (0,)))
            if self._closing:
                if self._runner is not None:
                    self._runner.count_bytes()
                return
            # A fork goes between two commands. If the engine was idle, a command may have come before it.
            if self._forks.asked and (after_command or not self._can_begin):
                after_command = False
                self._forks.fork(self._leave_to_engine, self._terms())
            else:
                after_command = True
                self._run(self._commands.popleft())

    @property
    def _can_begin(self) -> bool:
        # The front end may be slow to take what earlier commands have told it; there is a limit to what waits.
        return bool(self._commands) and self._supervisor.unsent_bytes < _MAX_UNSENT_BYTES

    def _has_work(self) -> bool:
        client = self._links and self._links.connections[0]
        if client and not self._commands and not client.wants_to_read:
            client.limit_inbox(is_limited=False)  # a command that empties it may come behind what fills it
        return self._can_begin or self._closing or self._forks.asked

    def _run(self, command: Message) -> None:
        assert self._runner is not None  # noqa: S101 - no command comes before it
        self._runner.mesh.connections[0].limit_inbox(is_limited=True)
        if self._page.is_closing:
            return
        try:
            check_form(command.kind, command.value)
        except ProtocolError as error:
            self._runner.refuse(command.tag, error)
            return
        if "seconds" in command.value[2]:
            self._tell(Kind.TIMED)
        self._runner.run(command)

    def _wait(self, condition: Any) -> None:
        self._event_loop.run_until(condition, math.inf, "the supervisor")

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.SETUP:
                set_title(message.value.pop("title"))  # what `ps` shows
                self._kept_bytes = message.value.pop("kept_bytes")
                self._setup = Setup(**message.value)
            case Kind.CANCEL:
                self._interrupts.cancel(message.tag)
            case Kind.RESTART | Kind.MEMBERS:
                self._change_mesh(message)
            case Kind.ROUTE if self._links is not None:
                self._links.route(message.tag, message.value)
            case Kind.RENEW:
                if self._links is not None and self._links.tls is not None:
                    self._links.tls.renew(message.value)
                elif self._setup is not None and self._setup.identity is not None:
                    self._setup.identity[1] = message.value
            case Kind.BACK if self._links is not None:
                self._links.expect_client(*message.value)
            case Kind.PROBE if self._runner is not None:
                # Answered where the loop has looked whether its wait is over, see `pconnect.session.deadlock_detector`.
                self._event_loop.attention = lambda: self._attend(message)
            case Kind.CLOSE:
                self._closing = True

    def _change_mesh(self, message: Message) -> None:
        """Take in nodes that are added or begin anew, and leave out those that are removed."""
        links, value = self._links, message.value
        if links is None:
            return  # the set-up, which is still to come, knows of it
        if message.kind is Kind.RESTART:
            links.renew(*value)
            return
        added = links.change(value["nodes"], value["links"], value["timeout"])
        removed = links.remove(value["removed"])
        if self._runner is not None:  # else the mesh, which is still to be made, has them
            self._runner.mesh.change_members(added, removed, value["change"])

    def _attend(self, probe: Message) -> DeadlockError | None:
        runner = self._runner
        assert runner is not None  # noqa: S101 - else no PROBE was taken
        self._event_loop.attention = None
        # A thread of the user's may interrupt this one; the library has none. On the client, a filter or a handler of
        # the user's may do anything when it gets a note.
        has_limit = runner.has_limit or self._outbox.has_left or len(sys._current_frames()) > 1
        said = answer(runner.mesh, probe.value, runner.number, has_limit=has_limit)
        if isinstance(said, list):
            self._tell(Kind.STATE, said, probe.tag)
            return None
        return said

    def _await_cancels(self, count: int) -> None:
        self._event_loop.run_until(
            lambda: self._interrupts.received >= count, deadline_after(_CANCEL_SECONDS), "cancelled commands"
        )

    def _tell(self, kind: Kind, value: object = None, tag: int = 0) -> None:
        with self._event_loop.sigint_deferred:
            self._supervisor.post(kind, tag, value)
            self._event_loop.flush(self._supervisor)

    def _join_network(self) -> None:
        setup = self._setup
        assert setup is not None  # noqa: S101 - it was waited for
        folder = require_folder(setup.session_folder)
        os.chdir(setup.directory)
        links = self._links = Links(
            setup,
            self._handover,
            self._event_loop,
            lambda: self._event_loop.take_in(self._supervisor),
            self._tell,
            kept_bytes=self._kept_bytes,
        )
        links.client.on_message = self._commands.append
        links.on_client = self._tell_history
        self._wait(lambda: self._closing or not links.unfinished())
        errors = {str(node): text for node, text in links.errors.items()}
        if errors and setup.together is None:
            self._tell(Kind.MESHED, {"errors": errors})
            return
        limits = Limits(*setup.limits)
        mesh = Mesh(
            setup.network, setup.node, links.connections, self._event_loop, limits, removed=links.removed
        )
        workspace = Workspace(Network(mesh))
        names = workspace.names
        server_limits = SessionLimits.from_json(setup.server_limits)
        files = SessionFiles(folder, server_limits.file_size)
        publish(files)
        names["session_files"] = files.folder
        code = SyncedCode(files, list(sys.modules))
        dask = DaskProcesses(files)
        services = EngineState(names, files, code, dask, setup.client_version, setup.node)
        self._runner = CommandRunner(
            mesh,
            workspace,
            services,
            self._outbox,
            self._interrupts,
            self._page,
            GivenOutput(self._page, [end.fileno() for end in self._outputs]),
            server_limits,
        )
        if self._kept_bytes:
            self._runner.history = CommandHistory(self._kept_bytes)
        give_warnings_back()
        Hooks(self._outbox, mesh.limits.max_message_bytes).install(names)
        no_input.install()
        self._tell(
            Kind.MESHED,
            ({"errors": errors} if errors else {})
            | links.ways.facts()
            | {
                "pid": os.getpid(),
                "cores": len(os.sched_getaffinity(0)),
                **_VERSIONS,
                "numpy": np.__version__,
                "directory": setup.directory,
                "directory_is_clients": setup.directory_is_clients,
            },
        )
        # Now, when the client need not wait for it: it takes a while, in each engine.
        limit_threads(max(1, len(os.sched_getaffinity(0)) // links.count_beside()), is_new=True)
        if is_open_to_others("."):
            with warnings.catch_warnings():
                warnings.simplefilter("default")  # PYTHONWARNINGS may make errors of all
                warnings.warn(
                    f"other accounts may put files into {setup.directory}: your code imports modules from there",
                    RuntimeWarning,
                    stacklevel=1,
                )

    def _tell_history(self) -> None:
        """Tell a client that has come back of the commands of the one before."""
        client = self._links.client if self._links is not None else None
        if self._runner is None or self._runner.history is None or not isinstance(client, ClientLink):
            return
        waiting = [(command.tag, str(command.value[0]), keeps_value(command)) for command in self._commands]
        self._runner.history.tell(client, waiting, client.kept.take_lost())

    # --- workers ---

    def _terms(self) -> Terms:
        runner, links = self._runner, self._links
        assert runner is not None  # noqa: S101 - the supervisor asks for none before
        assert links is not None  # noqa: S101 - made before the runner
        mesh, files = runner.mesh, runner.services.files
        return Terms(
            runner.workspace.names,
            files,
            links.tls,
            mesh.network_id,
            mesh.limits,
            runner.number,
            links.token(0),
            runner.server_limits,
        )

    def _leave_to_engine(self) -> None:
        """Close what is the engine's, and not that of a worker which was forked from it."""
        error = ConfigurationError(
            "a job has no connections to other nodes: only engines have; `progress` tells the client something"
        )
        self._event_loop.abandon(error)
        if self._runner is not None:
            for connection in self._runner.mesh.connections:
                connection.abandon(error)
        self._handover.close()
        self._lifeline.close()
        self._page.close()
        for end in self._outputs:
            end.close()
