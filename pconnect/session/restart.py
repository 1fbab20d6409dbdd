"""`restart`: a new engine in place of the old one, with new links to all other nodes.

It has three steps, so that no engine is killed that cannot be replaced, and none is dialed while it is about to be
killed or does not yet expect the connection:

1. QUERY to the servers concerned: a new engine gets its connections through the server's daemon. While the daemon is
   dead, the old engine stays.
2. RESTART to all servers. The servers concerned kill the engine and start another; the others notify their engines. All
   answer.
3. SETUP to the new engines, and the client's connections to them. A new engine dials the existing ones, and
   reports when its connections are up: all but those to busy engines, which are made later.

Each step handles all nodes in parallel, with one deadline, in the loop of the network.

Functions that the user added to commands are called in between, and may restart nodes, too. Such a restart takes over
all nodes of the one that it interrupts, so that only one restart asks each server, and the interrupted one stops.
"""

import contextlib
import functools
import time
from collections.abc import Sequence
from typing import Any

from pconnect.errors import ConfigurationError, ConnectError, ConnectionLostError
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.mesh_setup import MeshSetup, circumstances, mesh_error
from pconnect.session.node_state import NodeState
from pconnect.session.remote_calls import client_mesh
from pconnect.session.server import Server
from srp_tools.channel import Channel
from srp_tools.steps import Task, deadline_after, describe_seconds, remaining

# A server that does not answer within this part of the time has most likely vanished with its machine, and must not
# delay the restart of others. An answer takes milliseconds, except from an engine that has a lot of memory to release.
_PATIENCE = 1 / 2
_ASK_AGAIN = 0.2  # seconds between two checks whether a daemon is back


def restart(connections: Connections, *, timeout: float = 30.0) -> None:
    """Replace the engines of nodes by new ones with empty workspaces, whatever their state.

    The old engine is killed with all its child processes; its running and queued commands end with an
    `EngineDiedError`. The new engine has the number, the certificate and the working directory of the old one, and is
    as usable as that was at the start. `Connection` objects stay valid, here and in other engines: their ``error`` is
    cleared. The other engines continue their work and keep their workspaces. The call does not wait for busy ones:
    their links to the new engine are made when they are next idle or inside a call of this package, and messages sent
    there before that wait.

    Unreceived values of the old engine are dropped on all nodes, and so are values sent to it. A call in another engine
    that waits for the old one raises a `ConnectionLostError`. Collective calls are counted anew from the next command
    on.

    Parameters
    ----------
    connections
        A network, a part of one, or a single connection; this node is skipped.
    timeout
        Limit for the whole call, in seconds.

    Raises
    ------
    ConnectionLostError
        The server or machine of a node is gone, so it cannot be restarted; the text names the node. Or the network is
        being closed, and nothing was done.
    ConnectError
        A new engine could not be started, or could not connect to all other nodes; ``reasons`` has the error of each
        node that failed. An engine that lacks some connections is usable; the others can be restarted again. If a
        server's daemon is dead, and does not return in half of the time, the old engine stays.
    TimeoutError
        The limit passed for the nodes that the text names; they can be restarted again.
    ConfigurationError
        The call was made inside an engine. Nothing was done.

    In all other cases, the other nodes in `connections` were restarted.

    Examples
    --------
    >>> from pconnect import local_network, precv, restart, reval
    >>> with local_network(2) as net:
    ...     command = reval("while True: pass", net[2])
    ...     restart(net[2])
    ...     print(command.exception())
    ...     sent = reval("psend(sockets.node, sockets[0])", net)
    ...     [precv(connection) for connection in net[1:]]
    the engine of node 2 (local) was restarted
    [1, 2]
    """
    mesh, targets = resolve(connections)
    mesh.check_open()
    client = client_mesh(mesh)
    if client.mesh_setup is None:
        raise ConfigurationError("this network has no servers to start an engine")
    if any(server.life.is_closing for server in client.servers.values()):
        raise ConnectionLostError("the network is being closed")
    client.event_loop.catch_up()
    client.renew_certificates()
    with client.event_loop.sigint_deferred:
        if client.growth.follower is not None:
            client.growth.follower.wait()
        if client.growth.under_way:
            raise ConfigurationError(f"{client.growth.under_way}: restart again when that is done")
        servers = [client.servers[target.node] for target in targets]
        work = client.growth.restart = _Restart(client, client.mesh_setup, servers, timeout)
    try:
        work.await_daemons()
        work.replace_engines()
        work.connect()
    finally:
        with client.event_loop.sigint_deferred:
            work.end()
    work.raise_failures()


class _Restart:
    """A restart of some nodes that is in progress."""

    def __init__(
        self, mesh: ClientMesh, mesh_setup: MeshSetup, servers: Sequence[Server], timeout: float
    ) -> None:
        self._mesh = mesh
        self._mesh_setup = mesh_setup
        self._event_loop = mesh.event_loop
        self._is_taken_over = False
        interrupted = mesh.growth.restart.give_up() if mesh.growth.restart is not None else []
        self._servers = list(dict.fromkeys((*servers, *interrupted)))
        self._others = [server for server in mesh.servers.values() if server not in self._servers]
        self._everybody = [*self._servers, *self._others]
        self._failures: dict[Server, Exception] = {}
        self._started: list[Server] = []  # those with a new engine
        self._tasks: list[Task] = []
        self._number = mesh.next_number()
        self._timeout = timeout
        self._deadline = deadline_after(timeout)

    def await_daemons(self) -> None:
        """Give dead daemons time to return; leave out the engines that cannot be replaced then."""
        deadline = deadline_after(self._timeout * _PATIENCE)
        # An engine that is already being replaced no longer exists.
        asked = [server for server in self._servers if not server.life.is_restarting]
        while (asked := self._without_daemon(asked)) and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                pause = deadline_after(_ASK_AGAIN)
                self._event_loop.run_until(lambda: self._is_taken_over, min(deadline, pause), "the restart")
            if self._is_taken_over:
                return
        for server in asked:
            self._failures[server] = ConnectionLostError(
                "its server was killed, and a new engine needs it, so nothing was done; "
                f"start the server again on {server.host}, with the same name, and then restart"
            )
        self._others += asked
        self._servers = [server for server in self._servers if server not in asked]

    def _without_daemon(self, servers: Sequence[Server]) -> list[Server]:
        """Return the servers whose session reports that the daemon is dead."""
        asked = {server: self._mesh.next_number() for server in servers if not server.command.error}
        with self._event_loop.sigint_deferred:
            for server, number in asked.items():
                server.command.post(Kind.QUERY, number)
                self._event_loop.flush(server.command)
        try:
            # A server that does not answer in time will not answer RESTART either, which then reports the error.
            with contextlib.suppress(TimeoutError):
                self._event_loop.run_until(
                    lambda: (
                        self._is_taken_over
                        or all(server.has_answered(Kind.FACTS, number) for server, number in asked.items())
                    ),
                    deadline_after(self._timeout * _PATIENCE / 2),
                    "the restart",
                )
        finally:
            answers = {
                server: server.answers.pop((Kind.FACTS, number), {}) for server, number in asked.items()
            }
        return [server for server, facts in answers.items() if facts.get("daemon") is False]

    def replace_engines(self) -> None:
        """Have the old engines killed and new ones started; notify all other engines."""
        if self._is_taken_over or not self._servers:
            return
        with self._event_loop.sigint_deferred:
            for server in self._servers:
                if not server.command.error:
                    server.begin_restart(self._number)
            nodes = [server.node for server in self._servers]
            for server in self._everybody:
                server.command.post(Kind.RESTART, self._number, [nodes, self._timeout])
                self._event_loop.flush(server.command)
        left = remaining(self._deadline)
        patience = None if left is None else left * _PATIENCE
        self._wait(self._everybody, self._has_answered, deadline_after(patience))
        if self._is_taken_over:
            return
        for server in self._servers:
            reason = server.answers.get((Kind.RESTART, self._number))
            if server.command.error:
                self._failures[server] = server.command.loss()
            elif reason is not None:
                self._failures[server] = ConnectionLostError(reason)
            elif server not in self._failures:
                self._started.append(server)

    def connect(self) -> None:
        """Make the new engines members of the network."""
        if self._is_taken_over or not self._servers:
            return
        servers = list(self._mesh.servers.values())
        setup = self._mesh_setup.setup(servers, self._deadline, self._mesh.removed)
        setup |= circumstances(self._started, self._others, self._has_answered, self._failures)
        with self._event_loop.sigint_deferred:
            for server in self._started:
                server.renew()
                links = self._mesh_setup.local_links(server, servers) | self._mesh_setup.beyond(server)
                server.command.post(Kind.SETUP, server.node, setup | links)
                self._event_loop.flush(server.command)
                steps = self._mesh_setup.dial(server, patience=setup["timeout"])
                self._tasks.append(
                    self._event_loop.background.start(
                        steps, self._deadline, functools.partial(self._take_outcome, server)
                    )
                )
        self._wait(self._started, self._is_settled, self._deadline)

    def end(self) -> None:
        """Leave no node in an intermediate state, however the restart ended."""
        self._stop()
        if not self._is_taken_over:
            self._mesh.growth.restart = None
            for server in self._servers:
                self._end(server)
        for server in self._servers:
            self._look_for_failure(server)
        if self._mesh.scheduler is not None:
            self._mesh.scheduler.changes.await_news(
                [server.node for server in self._servers if server not in self._failures]
            )

    def give_up(self) -> list[Server]:
        """Stop, because another restart takes over; return the servers that this one was restarting."""
        self._is_taken_over = True
        self._stop()
        self._event_loop.turns.note_news()  # another thread may wait inside this restart
        return self._servers

    def _stop(self) -> None:
        for task in self._tasks:
            self._event_loop.background.cancel(task)
        for server in self._everybody:
            server.answers.pop((Kind.RESTART, self._number), None)

    def _end(self, server: Server) -> None:
        if server.life.state is NodeState.GONE:
            self._failures.setdefault(server, server.command.loss())
        if server in self._failures:
            server.end_restart(self._failures[server])
        elif server.life.is_restarting:
            error = None if _is_complete(server) else ConnectionLostError("it was interrupted")
            server.end_restart(error)

    def raise_failures(self) -> None:
        """Raise the failures, if there are any."""
        failures = {
            f"node {server.node} ({server.host})": error
            for server, error in sorted(self._failures.items(), key=lambda item: item[0].node)
        }
        if not failures:
            return
        text = "; ".join(map(str, failures.values()))
        if all(isinstance(error, TimeoutError) for error in failures.values()):
            raise TimeoutError(text)
        if all(server.command.error for server in self._failures):
            raise ConnectionLostError(text)
        raise ConnectError(failures)

    def _has_answered(self, server: Server) -> bool:
        return server.has_answered(Kind.RESTART, self._number)

    def _is_settled(self, server: Server) -> bool:
        return (
            server in self._failures
            or server.command.error is not None
            or not server.life.is_restarting  # the new engine died
            or _is_complete(server)
        )

    def _wait(self, servers: Sequence[Server], condition: Any, deadline: float) -> None:
        began = time.monotonic()
        try:
            self._event_loop.run_until(
                lambda: self._is_taken_over or all(condition(server) for server in servers),
                deadline,
                "the restart",
            )
        except TimeoutError:
            for server in servers:
                if server in self._servers and not condition(server):
                    self._failures[server] = TimeoutError(
                        f"timed out after {describe_seconds(deadline - began)} waiting for the restart of node "
                        f"{server.node} ({server.host})"
                    )

    def _take_outcome(self, server: Server, outcome: Channel | Exception) -> None:
        if isinstance(outcome, Channel) and server.data.is_awaited:
            server.data.open(outcome)
            self._event_loop.add(server.data)
        elif isinstance(outcome, Channel):
            outcome.close()
        elif not isinstance(outcome, TimeoutError):  # `_wait` reports that for all nodes
            self._failures[server] = outcome

    def _look_for_failure(self, server: Server) -> None:
        """Check whether a new engine died after joining, or lacks connections."""
        error = server.command.loss() if server.command.error else mesh_error(server)
        server.facts.pop("errors", None)
        if error is not None:
            self._failures.setdefault(server, error)
            if server.data.is_awaited:
                server.data.lose(ConnectionLostError(str(error)))


def _is_complete(server: Server) -> bool:
    """Whether a new engine has all its connections, including the one to the client."""
    return server.life.state is NodeState.REJOINED and not server.data.is_awaited
