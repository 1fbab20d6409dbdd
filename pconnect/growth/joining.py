"""Nodes that are joining an existing network: added ones and reconnected ones.

There are two steps, so that no engine is dialed that does not yet expect the connection:

1. MEMBERS to the servers of all other nodes, which notify their engines of the new ones; all answer.
2. SETUP to the new engines, and the client's connections to them. Each of them dials the others, and reports when
   its connections are up: all but those to busy engines, which are made later.

As in a restart, everything runs in the loop of the network, and interrupts no other work.
"""

import functools
import time
from collections.abc import Callable, Sequence

from pconnect.errors import ConnectionLostError
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh, await_answers
from pconnect.session.mesh_setup import MeshSetup, circumstances, describe, mesh_error
from pconnect.session.node_state import NodeState
from pconnect.session.server import Server
from srp_tools.channel import Channel
from srp_tools.steps import Task, deadline_after, describe_seconds, remaining

# As in a restart: a server that does not answer within this part of the time has most likely vanished.
_PATIENCE = 1 / 2
_TOLD_SECONDS = 1.0  # for the other nodes to learn which nodes leave
_JOINED = {NodeState.OPEN, NodeState.REJOINED}
_ON_THEIR_WAY = {NodeState.JOINING, NodeState.REJOINING, *_JOINED}


class Joining:
    """Some nodes that are joining. `servers`: theirs. `found`: their new locations, if these differ from before."""

    def __init__(
        self,
        mesh: ClientMesh,
        mesh_setup: MeshSetup,
        servers: Sequence[Server],
        deadline: float,
        *,
        found: Sequence[Server] = (),
    ) -> None:
        self.failures: dict[Server, Exception] = {}  #: the error of each node that could not become a member
        self._mesh = mesh
        self._mesh_setup = mesh_setup
        self._servers = servers
        self._found = found or servers
        self._others = [server for server in mesh.servers.values() if server not in servers]
        self._deadline, self._began = deadline, time.monotonic()
        self._number = mesh.next_number()
        self._tasks: list[Task] = []

    def announce(self, change: str, take_in: Callable[[], object]) -> None:
        """Announce the new nodes, and the `change`, to all other nodes; `take_in` does the same on the client."""
        tell_members(self._mesh, self._others, self._number, self._found, [], change, self._deadline)
        with self._mesh.event_loop.sigint_deferred:
            take_in()
        left = remaining(self._deadline)
        patience = deadline_after(None if left is None else left * _PATIENCE)
        self._wait(lambda: all(map(self._has_answered, self._others)), patience)

    def connect(self) -> None:
        """Connect the engines; return when each has become a member or has failed."""
        mesh, event_loop = self._mesh, self._mesh.event_loop
        everybody = list(mesh.servers.values())
        setup = self._mesh_setup.setup(everybody, self._deadline, mesh.removed)
        setup |= circumstances(self._servers, self._others, self._has_answered)
        with event_loop.sigint_deferred:
            for server in self._servers:
                links = self._mesh_setup.local_links(server, everybody) | self._mesh_setup.beyond(server)
                server.command.post(Kind.SETUP, server.node, setup | links)
                event_loop.flush(server.command)
                steps = self._mesh_setup.dial(server, patience=setup["timeout"])
                take = functools.partial(self._take_outcome, server)
                self._tasks.append(event_loop.background.start(steps, self._deadline, take))
        self._wait(lambda: all(map(self._is_settled, self._servers)), self._deadline)

    def end(self) -> None:
        """Stop all tasks, and find out which nodes have failed."""
        for task in self._tasks:
            self._mesh.event_loop.background.cancel(task)
        for server in self._others:
            server.answers.pop((Kind.MEMBERS, self._number), None)
        for server in self._servers:
            error = _errors(server) if server.life.is_restarting else mesh_error(server)
            server.facts.pop("errors", None)
            if error is None and not _is_complete(server):
                waited = describe_seconds(self._deadline - self._began)
                error = TimeoutError(
                    f"timed out after {waited} waiting for its connections to the other nodes"
                )
            if error is not None:
                self.failures.setdefault(server, error)

    def _has_answered(self, server: Server) -> bool:
        return server.has_answered(Kind.MEMBERS, self._number)

    def _is_settled(self, server: Server) -> bool:
        return (
            server in self.failures
            or server.command.error is not None
            or server.life.state not in _ON_THEIR_WAY
            or bool(server.facts.get("errors"))
            or _is_complete(server)
        )

    def _wait(self, condition: Callable[[], bool], deadline: float) -> None:
        try:
            self._mesh.event_loop.run_until(condition, deadline, "new nodes")
        except TimeoutError:
            return  # `end` reports the missing ones

    def _take_outcome(self, server: Server, outcome: Channel | Exception) -> None:
        if isinstance(outcome, Channel) and server.data.is_awaited:
            server.data.open(outcome)
            self._mesh.event_loop.add(server.data)
        elif isinstance(outcome, Channel):
            outcome.close()
        elif not isinstance(outcome, TimeoutError):
            self.failures[server] = outcome


def tell_members(  # noqa: PLR0917 - the parts of a message
    mesh: ClientMesh,
    others: Sequence[Server],
    number: int,
    begin: Sequence[Server],
    removed: Sequence[int],
    change: str,
    deadline: float,
) -> None:
    """Notify some nodes of new and removed ones; their answers will have this number."""
    left = remaining(deadline)
    told = {
        "nodes": {server.node: describe(server) for server in begin},
        "removed": list(removed),
        "change": change,
        "timeout": 1e9 if left is None else left,
    }
    assert mesh.mesh_setup is not None  # noqa: S101 - no login works without it
    with mesh.event_loop.sigint_deferred:
        for server in others:
            if server.command.error is None:
                links = mesh.mesh_setup.local_links(server, begin)
                server.command.post(Kind.MEMBERS, number, told | links)
                mesh.event_loop.flush(server.command)


def await_told(mesh: ClientMesh, others: Sequence[Server], number: int) -> None:
    """Wait until other nodes have learned which nodes leave, before these close: otherwise they would count as lost."""
    numbers = dict.fromkeys(others, number)
    until = deadline_after(_TOLD_SECONDS)
    await_answers(mesh.event_loop, Kind.MEMBERS, numbers, until, "nodes to leave")


def named(servers: Sequence[Server]) -> str:
    """Return the names of nodes as text."""
    return ", ".join(f"node {server.node} ({server.host})" for server in servers)


def were(servers: Sequence[Server]) -> str:
    """Return the names of nodes with "was" or "were", to begin a sentence."""
    return f"{named(servers)} {'was' if len(servers) == 1 else 'were'}"


def _errors(server: Server) -> Exception | None:
    errors = server.facts.get("errors")
    return ConnectionLostError("; ".join(errors.values())) if errors else None


def _is_complete(server: Server) -> bool:
    """Whether an engine has all its connections, including the one to the client."""
    return server.life.state in _JOINED and not server.data.is_awaited and server.data.error is None
