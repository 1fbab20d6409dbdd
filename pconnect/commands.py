"""The client's view of its servers: commands under way, their errors, and what became of the engines."""

import contextlib
import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any

from pconnect.connection import Connection, Peer
from pconnect.errors import ConnectionLostError, EngineDiedError, ParallelError, RemoteError
from pconnect.frames import Kind, Limits
from pconnect.network import Mesh
from pconnect.progress import Progress
from pconnect.protocol import Message
from srp_tools.waiting import deadline_after

# A data connection that breaks and the supervisor's report of the engine's death come on different ways; so long, in
# seconds, one waits for the other.
_REPORT_GRACE = 1.0


class Command:
    """Source text that was sent to one or more servers; `reval` returns it.

    Attributes
    ----------
    source
        The text.
    nodes
        Numbers of the nodes it was sent to.
    """

    def __init__(self, source: str, mesh: "ClientMesh", nodes: Sequence[int], tag: int) -> None:
        self.source = source
        self.nodes = tuple(nodes)
        self._mesh = mesh
        self.tag = tag
        self._waiting = set(nodes)
        self._errors: dict[int, ParallelError] = {}
        self.error_seen = False

    def __repr__(self) -> str:
        state = "running" if self._waiting else "failed" if self._errors else "done"
        return f"<command {self.source[:40]!r} at nodes {list(self.nodes)}, {state}>"

    def done(self) -> bool:
        """Return whether it has ended at all its nodes, one way or another; never waits."""
        if self._waiting and not self._mesh.closed:
            with self._mesh.progress.shielded:
                self._mesh.progress.poll(0)
        return not self._waiting

    def result(self, timeout: float | None = None) -> None:
        """Wait until the command has ended at all its nodes.

        Parameters
        ----------
        timeout
            Limit in seconds; ``None`` waits without limit.

        Raises
        ------
        RemoteError
            It failed at one node; the text has the remote traceback. The node goes on with the next command.
        EngineDiedError, ConnectionLostError
            The engine, the server or its machine is gone. The other nodes live on.
        ExceptionGroup
            It failed at several nodes; the group has the error of each.
        TimeoutError
            The limit passed; the command goes on.
        KeyboardInterrupt
            Ctrl-C: the command was interrupted at the nodes that were waited for (after a second Ctrl-C their
            engines are killed); the network is as usable as before.
        """
        if not self.done():
            servers = [self._mesh.servers[node] for node in self._waiting]
            with interrupting(servers, self.tag):
                self._mesh.progress.run_until(
                    lambda: not self._waiting, deadline_after(timeout), f"the end of {self!r}"
                )
        if not self._errors:
            return
        self.error_seen = True
        errors = [self._errors[node] for node in sorted(self._errors)]
        if len(errors) == 1:
            raise errors[0]
        raise ExceptionGroup(f"the command failed at {len(errors)} nodes", errors)

    def finish(self, node: int, error: ParallelError | None) -> None:
        """Take note that it ended at one node; for the library."""
        self._waiting.discard(node)
        if error is not None:
            self._errors[node] = error


class Server(Peer):
    """One node of the network other than the client, as the client knows it.

    Attributes
    ----------
    command
        The command channel, to its supervisor.
    data
        The data connection, to its engine.
    facts
        What it told when the network was made.
    """

    def __init__(self, command: Connection, offer: dict[str, Any], address: str, cmd_port: int) -> None:
        self.node = command.node
        self.host = command.host
        self.command = command
        self.data = Connection(self.node, self.host, None)
        self.offer = offer
        self.address = address
        self.cmd_port = cmd_port
        self.facts: dict[str, Any] = {}
        self.meshed = False
        self.running: dict[int, Command] = {}
        self.answers: dict[int, dict[str, Any]] = {}
        self.last_error: str | None = None
        self.closed_by_force: bool | None = None
        self._unseen: deque[tuple[Command, RemoteError, int]] = deque()
        self._failure: tuple[Command, RemoteError, int] | None = None  # the last one, asked for or not
        self.failed_tag = -1  # the last command that failed here
        self._died: EngineDiedError | None = None
        self._died_at = 0.0
        self._ran_at = -math.inf  # when a command ended last
        self._interrupted_up_to = 0
        self.closing = False
        self._line_ends = {1: True, 2: True}
        command.on_message = self._take
        command.on_lost = lambda _: self.lose_commands(command.loss())
        command.peer = self

    @property
    def state(self) -> str:
        """``open``, ``died`` (its engine) or ``lost`` (its server or machine)."""
        if self.command.error or self.data.error:
            return "died" if self._died else "lost"
        return "died" if self._died else "open"

    @property
    def busy(self) -> bool:
        """Whether commands are under way, or were a moment ago, so that what they sent may still be on its way.

        Of a node that is gone others speak.
        """
        gone = self._died or self.command.error
        return bool(self.running or gone) or time.monotonic() - self._ran_at < _REPORT_GRACE

    def attach(self, data: Connection) -> None:
        """Take over the data connection."""
        self.data = data
        data.peer = self

    def check(self) -> None:
        """Raise what makes waiting for a value of this node useless.

        An error of a command is raised once, and only after all values that the engine sent before it have arrived.
        """
        while self._unseen and self._unseen[0][0].error_seen:
            self._unseen.popleft()
        if self._unseen and self.data.values_received >= self._unseen[0][2]:
            command, error, _ = self._unseen.popleft()
            command.error_seen = True
            raise error
        self._check_alive()

    def check_epoch(self, epoch: int) -> None:
        """Raise what makes waiting for this node's part in a collective call useless."""
        if self._failure and self._failure[0].tag >= epoch and self.data.values_received >= self._failure[2]:
            self._failure[0].error_seen = True
            raise self._failure[1]
        self._check_alive()

    def _check_alive(self) -> None:
        if self._died and time.monotonic() - self._died_at > _REPORT_GRACE:
            raise self._died
        if self.command.error:
            raise self.command.loss()

    def check_running(self) -> None:
        """Raise if no command can be run here any more."""
        if self._died:
            raise self._died
        if self.command.error:
            raise self.command.loss()

    def explain(self, epoch: int | None = None) -> ParallelError | None:
        """Return the supervisor's account of what happened to the engine, after waiting a moment for it.

        With an epoch, the failure of a command since then is such an account.
        """
        progress = self.data.mesh.progress
        with contextlib.suppress(TimeoutError):
            progress.run_until(
                lambda: self._account(epoch) is not None, deadline_after(_REPORT_GRACE), "an account"
            )
        return self._account(epoch)

    def _account(self, epoch: int | None) -> ParallelError | None:
        if epoch is not None and self._failure and self._failure[0].tag >= epoch:
            self._failure[0].error_seen = True
            return self._failure[1]
        return self._died or (self.command.loss() if self.command.error else None)

    def interrupt(self) -> None:
        """Interrupt the commands sent so far; the second time, kill the engine."""
        self.interrupt_up_to(max(self.running, default=0))

    def interrupt_up_to(self, tag: int) -> None:
        """Interrupt the commands up to number `tag`; if one of them was interrupted before, kill the engine."""
        if not self.running or self.command.error:
            return
        if min(self.running) <= self._interrupted_up_to:
            self.command.post(Kind.KILL)
        else:
            self.command.post(Kind.INTERRUPT, tag)
            self._interrupted_up_to = tag
        self.command.flush()

    def lose_commands(self, error: ParallelError) -> None:
        """End all commands under way here."""
        for command in self.running.values():
            command.finish(self.node, error)
        self.failed_tag = max([self.failed_tag, *self.running])
        self.running.clear()
        self.last_error = str(error)

    def report_unseen(self) -> None:
        """Warn of errors that nobody asked for; for the end of the network."""
        for command, error, _ in self._unseen:
            if not command.error_seen:
                warnings.warn(f"nobody asked for this error: {error}", RuntimeWarning, stacklevel=5)

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.DONE:
                self._finish(message.tag, message.value)
            case Kind.OUTPUT:
                self._show(message.tag, message.value)
            case Kind.MESHED:
                self.facts, self.meshed = message.value, True
            case Kind.FACTS:
                self.answers[message.tag] = message.value
            case Kind.DIED:
                self._end(f"the engine of node {self.node} ({self.host}) died: {message.value}")
            case Kind.STOPPING:
                self._end(f"the session of node {self.node} ({self.host}) was ended: {message.value}")
            case Kind.CLOSED:
                self.closed_by_force = message.value

    def _end(self, text: str) -> None:
        self._died, self._died_at = EngineDiedError(text), time.monotonic()
        self.lose_commands(self._died)

    def _finish(self, tag: int, failure: dict[str, Any] | None) -> None:
        command = self.running.pop(tag, None)
        if command is None:
            return
        error = None
        if failure is not None:
            error = RemoteError(self.node, self.host, command.source, failure["type"], failure["traceback"])
            self._failure = command, error, failure["values_sent"]
            self.failed_tag = max(self.failed_tag, tag)
            # A network that is closed interrupts what still runs, often the last steps of a command whose values have
            # all arrived: that is no error anybody should hear of.
            if not (self.closing and error.type_name == "KeyboardInterrupt"):
                self._unseen.append((command, error, failure["values_sent"]))
            self.last_error = f"{failure['type']} in {command.source[:60]!r}"
        command.finish(self.node, error)
        self._ran_at = time.monotonic()

    def _show(self, stream: int, data: bytes) -> None:
        """Write what the engine printed, each line with the node in front."""
        out = sys.stdout if stream == 1 else sys.stderr
        text = data.decode("utf-8", "replace")
        for line in text.splitlines(keepends=True):
            prefix = f"[{self.node} {self.host}] " if self._line_ends[stream] else ""
            out.write(prefix + line)
            self._line_ends[stream] = line.endswith("\n")
        out.flush()


class interrupting(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as a function is
    """Pass Ctrl-C, raised inside, on to the servers that were waited for."""

    def __init__(self, servers: Sequence[Peer], tag: int | None = None) -> None:
        self._servers = servers
        self._tag = tag

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            for server in self._servers:
                if self._tag is not None and isinstance(server, Server):
                    server.interrupt_up_to(self._tag)
                else:
                    server.interrupt()


class ClientMesh(Mesh):
    """The client's mesh: its servers, and the numbers of commands."""

    def __init__(
        self, network_id: bytes, servers: Sequence[Server], progress: Progress, limits: Limits
    ) -> None:
        own = Connection(0, "client", None)
        super().__init__(network_id, 0, [own, *(server.data for server in servers)], progress, limits)
        self.servers = {server.node: server for server in servers}
        self._last_tag = 0

    def next_tag(self) -> int:
        """Return the number of the next command or query."""
        self._last_tag += 1
        return self._last_tag

    def command(self, source: str, nodes: Sequence[int]) -> Command:
        """Send a command to some nodes."""
        command = Command(source, self, nodes, self.next_tag())
        if self._must_begin_anew():
            self.begin_epoch(command.tag)
        with self.progress.shielded:
            for node in nodes:
                server = self.servers[node]
                try:
                    server.check_running()
                except ParallelError as error:
                    command.finish(node, error)
                    continue
                server.running[command.tag] = command
                server.command.post(Kind.COMMAND, command.tag, [source, self.epoch])
                self.progress.flush(server.command)
        return command

    def _must_begin_anew(self) -> bool:
        """Whether something failed in this epoch, so that some nodes take part in no more of its collective calls."""
        return (
            self.left is not None
            or any(server.failed_tag >= self.epoch for server in self.servers.values())
            or any(connection.parts.notice(self.epoch) for connection in self.connections)
        )

    def query(self, timeout: float) -> dict[int, tuple[dict[str, Any], float]]:
        """Ask all servers for facts; return for those that answered the facts and the round trip in seconds."""
        answers: dict[int, tuple[dict[str, Any], float]] = {}
        deadline = deadline_after(timeout)
        for server in self.servers.values():
            if server.command.error:
                continue
            tag, begin = self.next_tag(), time.perf_counter()
            server.command.post(Kind.QUERY, tag)
            self.progress.flush(server.command)
            with contextlib.suppress(TimeoutError):
                self.progress.run_until(
                    lambda tag=tag, server=server: tag in server.answers or bool(server.command.error),  # type: ignore[misc]
                    deadline,
                    "facts",
                )
            if tag in server.answers:
                answers[server.node] = server.answers.pop(tag), time.perf_counter() - begin
        return answers

    def close(self, timeout: float) -> list[int]:
        """Close the network; see `pconnect.sclose`."""
        self.check_open()
        patience = min(1.0, timeout / 2)
        servers = list(self.servers.values())
        try:
            for server in servers:
                server.closing = True
                server.command.post(Kind.CLOSE, round(patience * 1000))
            with contextlib.suppress(TimeoutError):
                self.progress.run_until(
                    lambda: all(s.closed_by_force is not None or s.command.error for s in servers),
                    deadline_after(timeout),
                    "the servers to close",
                )
        finally:
            self.closed = True
            self.progress.close()
            for server in servers:
                server.lose_commands(ConnectionLostError("the network was closed"))
        for server in servers:
            server.report_unseen()
        return [server.node for server in servers if server.closed_by_force is not False]
