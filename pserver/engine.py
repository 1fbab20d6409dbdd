"""The engine: the process that holds the workspace and runs the user's code.

It has one thread. Between commands it serves its connections, so that what other nodes send is taken in and what is
left of a half-sent message goes out; during a command it does so whenever the command is inside `psend`, `precv` or
`select_sockets`.

Two ends of the supervisor are held: a socket with commands, and a pipe on which nothing is ever written. When the
supervisor dies, the system signals the end of the pipe with SIGKILL, even if the engine is deep in a library's loop.
"""

import contextlib
import fcntl
import importlib.metadata
import linecache
import math
import os
import platform
import signal
import socket
import sys
import traceback
import types
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection as PipeEnd
from typing import Any, TextIO

import numpy as np

from pconnect import collectives
from pconnect.connection import Connection
from pconnect.frames import Kind, Limits
from pconnect.groups import leave
from pconnect.network import Mesh, Network
from pconnect.primitives import precv, psend, select_sockets
from pconnect.progress import Progress
from pconnect.protocol import Message, Role
from pserver.mesh import Setup, connect_mesh
from srp_tools.channel import Channel

_MAX_TRACEBACK_CHARACTERS = 2**16
_VERSION = importlib.metadata.version("pserver")  # read by the fork server, once for all engines
# Commands that are kept: compiled, for those sent again and again, and as text, for tracebacks through their functions.
_KEPT_COMMANDS = 1000


def engine_main(
    pipe: socket.socket, handover: socket.socket, outputs: Sequence[PipeEnd], lifeline: PipeEnd
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
    _Engine(pipe, handover).run()


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

    def __init__(self, pipe: socket.socket, handover: socket.socket) -> None:
        self._handover = handover
        self._progress = Progress()
        self._supervisor = Connection(0, "supervisor", Channel(pipe), role=Role.ENGINE)
        self._supervisor.on_message = self._take
        self._supervisor.on_lost = lambda _: os._exit(1)
        self._progress.add(self._supervisor)
        self._commands: deque[tuple[int, str, int]] = deque()
        self._mesh: Mesh | None = None
        self._setup: Setup | None = None
        self._closing = False
        self._in_command = False
        self._signalled = False  # by a SIGINT outside of a command
        self._interrupted = 0  # the last command that the supervisor interrupted
        self._workspace: dict[str, Any] = {}
        self._codes: dict[str, types.CodeType] = {}  # by source text, the oldest first
        self._client = Connection(0, "client", None)
        signal.signal(signal.SIGINT, self._on_interrupt)

    def run(self) -> None:
        """Make the mesh, then run commands until the end of the session."""
        self._wait(lambda: self._setup is not None)
        self._join_network()
        while True:
            self._wait(lambda: bool(self._commands) or self._closing)
            if self._closing:
                return
            self._run_command(*self._commands.popleft())

    def _wait(self, condition: Any) -> None:
        self._progress.run_until(condition, math.inf, "the supervisor")

    def _on_interrupt(self, *_: object) -> None:
        if self._in_command:
            raise KeyboardInterrupt
        self._signalled = True

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.SETUP:
                self._setup = Setup(**message.value)
            case Kind.COMMAND:
                source, epoch = message.value
                self._commands.append((message.tag, source, epoch))
            case Kind.INTERRUPT:
                self._interrupted = message.tag
            case Kind.CLOSE:
                self._closing = True

    def _tell(self, kind: Kind, value: object, tag: int = 0) -> None:
        self._supervisor.post(kind, tag, value)
        self._progress.flush(self._supervisor)

    def _join_network(self) -> None:
        setup = self._setup
        assert setup is not None  # noqa: S101 - it was waited for
        os.chdir(setup.directory)
        connections, errors = connect_mesh(setup, self._handover)
        if errors:
            self._tell(Kind.MESHED, {"errors": {str(node): text for node, text in errors.items()}})
            return
        for connection in connections:
            if not connection.is_own:
                self._progress.add(connection)
        mesh = Mesh(setup.network, setup.node, connections, self._progress, Limits(*setup.limits))
        self._mesh = mesh
        self._client = connections[0]
        self._make_workspace(Network(mesh))
        self._tell(
            Kind.MESHED,
            {
                "pid": os.getpid(),
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
                "numpy": np.__version__,
                "version": _VERSION,
                "directory": setup.directory,
                "directory_is_clients": setup.directory_is_clients,
            },
        )

    def _make_workspace(self, sockets: Network) -> None:
        """Make the workspace the ``__main__`` module, where pickle and multiprocessing look for what a user defines."""
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        sys.path.insert(0, "")
        self._workspace = main.__dict__
        self._workspace.update(
            sockets=sockets, psend=psend, precv=precv, select_sockets=select_sockets, np=np
        )
        self._workspace.update({name: getattr(collectives, name) for name in collectives.__all__})

    def _run_command(self, tag: int, source: str, epoch: int) -> None:
        assert self._mesh is not None  # noqa: S101 - no command comes before it
        if epoch > self._mesh.epoch:
            self._mesh.begin_epoch(epoch)
        failure = None
        try:
            code = self._codes.get(source) or self._compile(tag, source)
            self._in_command = True
            self._check_interrupted(tag)
            exec(code, self._workspace)  # noqa: S102 - to run a user's code is what this is for
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too are the command's failure
            self._in_command = False
            leave(self._mesh, error)  # whoever waits for us in a collective call does so in vain
            failure = self._describe(error)
        self._in_command = False
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(
                ValueError, OSError, AttributeError
            ):  # the user may have closed or replaced it
                stream.flush()
        self._tell(Kind.DONE, failure, tag)

    def _check_interrupted(self, tag: int) -> None:
        """Raise if the signal for this command came before it had begun."""
        if self._signalled:
            self._signalled = False
            self._progress.poll(0)  # the message which tells that was sent before the signal
            if self._interrupted == tag:
                raise KeyboardInterrupt

    def _compile(self, tag: int, source: str) -> types.CodeType:
        """Compile a command, and keep its text for tracebacks; one that is sent again keeps its first number."""
        name = f"<command {tag}>"
        if len(self._codes) == _KEPT_COMMANDS:
            linecache.cache.pop(self._codes.pop(next(iter(self._codes))).co_filename, None)
        code = self._codes[source] = compile(source, name, "exec", dont_inherit=True)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        return code

    def _describe(self, error: BaseException) -> dict[str, Any]:
        # Without our own frame, which is the first.
        frames = error.__traceback__.tb_next if error.__traceback__ else None
        text = "".join(traceback.format_exception(type(error), error, frames))
        if len(text) > _MAX_TRACEBACK_CHARACTERS:
            half = _MAX_TRACEBACK_CHARACTERS // 2
            text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
        return {
            "type": type(error).__qualname__,
            "traceback": text,
            "values_sent": self._client.values_sent,
        }
