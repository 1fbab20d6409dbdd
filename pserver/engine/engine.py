"""The engine: the process that holds the workspace and runs the user's code.

It has one thread. Between commands, it serves its connections: it receives messages from other nodes and sends the rest
of half-sent ones. During a command, it does so whenever the command is inside `psend`, `precv` or `select_sockets`.

Commands arrive from the client, on its data connection. Everything else comes from the supervisor, on a socket. The
supervisor also holds the other end of a pipe on which nothing is ever written. When it dies, the pipe closes, and the
kernel sends SIGKILL to the engine, even if the engine is deep in a library's loop.
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
import numpy.random  # numpy loads it lazily; load it once in the starter, for all engines

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

# While more bytes than this wait for the supervisor, no command begins.
_MAX_UNSENT_BYTES = 2**22
# Seconds for the supervisor to send the numbers of commands that it has counted as cancelled.
_CANCEL_SECONDS = 10.0

_VERSIONS = own_versions()  # read by the starter, once for all engines


def engine_main(  # noqa: PLR0917 - everything that a new process gets
    pipe: socket.socket,
    handover: socket.socket,
    outputs: Sequence[PipeEnd],
    lifeline: PipeEnd,
    forks: socket.socket,
    memory: int,
) -> None:
    """Run an engine; the main function of a forked process."""
    os.setsid()  # its own group, so that it ends together with its children
    _die_with(lifeline)
    for descriptor, end in zip((1, 2), outputs, strict=True):
        os.dup2(end.fileno(), descriptor)
    page = CommandPage(memory)
    os.close(memory)
    # Make new streams: the starter's were made for its own files.
    sys.stdout, sys.stderr = open_text(1), open_text(2)
    pipe.setblocking(False)
    np.random.seed()  # as forks of one process, all engines would otherwise draw the same numbers
    _Engine(pipe, handover, forks, lifeline, page, outputs).run()


def _die_with(lifeline: PipeEnd) -> None:
    """Have the kernel kill this process when the other end of the pipe closes, that is, when its holder dies."""
    descriptor = lifeline.fileno()
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    if lifeline.poll(0):  # the holder died before this
        os._exit(1)


class _Engine:
    """The engine's loop."""

    def __init__(  # noqa: PLR0917 - everything that a new process gets
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
        self._kept_bytes = 0  # for a client that reconnects; 0: clients cannot reconnect
        self._links: Links | None = None
        self._closing = False
        self._outbox = Outbox(self._supervisor, self._event_loop)
        self._page = page
        self._outputs = outputs
        self._interrupts = Interrupts(page, self._await_cancels)
        self._runner: CommandRunner | None = None  # set once the engine has joined the network

    def run(self) -> None:
        """Join the network, then run commands until the end of the session."""
        self._wait(lambda: self._setup is not None)
        try:
            self._join_network()
        except OSError as error:  # a full disk, or no free descriptors
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
            # Fork between two commands. If the engine was idle, a command may have arrived before the request.
            if self._forks.asked and (after_command or not self._can_begin):
                after_command = False
                self._forks.fork(self._close_in_worker, self._terms())
            else:
                after_command = True
                self._run(self._commands.popleft())

    @property
    def _can_begin(self) -> bool:
        # The front end may read messages from earlier commands slowly; limit the amount that waits.
        return bool(self._commands) and self._supervisor.unsent_bytes < _MAX_UNSENT_BYTES

    def _has_work(self) -> bool:
        client = self._links and self._links.connections[0]
        if client and not self._commands and not client.wants_to_read:
            client.limit_inbox(is_limited=False)  # the command that empties it may come last
        return self._can_begin or self._closing or self._forks.asked

    def _run(self, command: Message) -> None:
        assert self._runner is not None  # noqa: S101 - no command arrives before it exists
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
                set_title(message.value.pop("title"))  # shown by `ps`
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
                # The loop answers after checking that its wait is not over, see `pconnect.session.deadlock_detector`.
                self._event_loop.attention = lambda: self._attend(message)
            case Kind.CLOSE:
                self._closing = True

    def _change_mesh(self, message: Message) -> None:
        """Add nodes that are new or restarted, and drop those that are removed."""
        links, value = self._links, message.value
        if links is None:
            return  # the set-up message, still to come, includes this change
        if message.kind is Kind.RESTART:
            links.renew(*value)
            return
        added = links.change(value["nodes"], value["links"], value["timeout"])
        removed = links.remove(value["removed"])
        if self._runner is not None:  # otherwise the mesh, made later, includes them
            self._runner.mesh.change_members(added, removed, value["change"])

    def _attend(self, probe: Message) -> DeadlockError | None:
        runner = self._runner
        assert runner is not None  # noqa: S101 - otherwise no PROBE is handled
        self._event_loop.attention = None
        # A thread of the user's code may interrupt this wait; the library has no threads. On the client, a filter or a
        # handler of the user's code may do anything when a note arrives.
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
        assert setup is not None  # noqa: S101 - the caller has waited for it
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
        links.on_client = self._send_history
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
        # Do this now, when the client no longer waits: it takes a while in each engine.
        limit_threads(max(1, len(os.sched_getaffinity(0)) // links.count_beside()), is_new=True)
        if is_open_to_others("."):
            with warnings.catch_warnings():
                warnings.simplefilter("default")  # PYTHONWARNINGS may turn all warnings into errors
                warnings.warn(
                    f"other accounts may put files into {setup.directory}, from which your code imports modules: use a "
                    "folder that only this account can write to",
                    RuntimeWarning,
                    stacklevel=1,
                )

    def _send_history(self) -> None:
        """Send a client that has reconnected the outcomes of earlier commands."""
        client = self._links.client if self._links is not None else None
        if self._runner is None or self._runner.history is None or not isinstance(client, ClientLink):
            return
        waiting = [(command.tag, str(command.value[0]), keeps_value(command)) for command in self._commands]
        self._runner.history.tell(client, waiting, client.kept.take_lost())

    # --- workers ---

    def _terms(self) -> Terms:
        runner, links = self._runner, self._links
        assert runner is not None  # noqa: S101 - the supervisor requests no worker before it exists
        assert links is not None  # noqa: S101 - created before the runner
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

    def _close_in_worker(self) -> None:
        """Close the engine's own resources in a worker forked from it."""
        error = ConfigurationError(
            "a job has no connections to other nodes: only engines have them; use `progress` to report to the client"
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
