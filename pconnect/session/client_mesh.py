"""The client's mesh: its servers, the numbering of commands, and the end of the network."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from pconnect.commands.command import Command
from pconnect.commands.console import Console
from pconnect.commands.front_end_messages import Display, show
from pconnect.errors import ConnectionLostError
from pconnect.link.certificate_renewal import CertificateRenewal
from pconnect.link.connection import Connection
from pconnect.link.host_names import Host
from pconnect.link.missing_hosts import Attendance
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.network import Mesh, removed_node
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind
from pconnect.session.deadlock_probe import Probing
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.node_state import NodeState
from pconnect.session.server import Server
from srp_tools.steps import deadline_after

_RENEWAL_TIMEOUT = 5.0  # a slower server fails when it is next dialed, with an error that names it


@dataclasses.dataclass
class NetworkJobs:
    """State of a network for its jobs, besides the scheduler."""

    #: The executors of `submit`, by their nodes; ``None``: all.
    executors: dict[frozenset[int] | None, Any] = dataclasses.field(default_factory=dict)
    #: The source of random streams, if the user seeded the network; a `pconnect.jobs.seeds.Seeds`.
    seeds: Any = None
    #: Which servers get jobs, and in which order; a `pconnect.scheduler.placement.Placement`, or ``None`` for the
    #: default.
    placement: Any = None
    #: The jobs of a detached network, by number; each is a `pconnect.jobs.job.Job`.
    recovered: dict[int, Any] = dataclasses.field(default_factory=dict)
    #: The limits of executors and pools that hold jobs back; each is a `pconnect.executors.throttle.Throttle`.
    throttles: set[Any] = dataclasses.field(default_factory=set)
    #: Weak references to maps that have not read all of their inputs; each map is a
    #: `pconnect.executors.lazy_map.LazyMap`.
    unread_maps: set[Any] = dataclasses.field(default_factory=set)
    #: By key, the values that engines keep for jobs, with their nodes; ``None``: all nodes, including later ones.
    broadcasts: dict[str, tuple[Any, frozenset[int] | None]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Growth:
    """State of a network for adding nodes and reconnecting lost ones."""

    probing: Probing
    #: Where the client logs in for each node, by number.
    hosts: dict[int, Host] = dataclasses.field(default_factory=dict)
    #: Whether its user exists only on its own server, as in `pconnect.local_network`.
    is_private: bool = False
    #: The restart in progress; see `pconnect.session.restart`.
    restart: Any = None
    #: By number, what was done for jobs on lost nodes, as text. The thread of the jobs writes it.
    healing: dict[int, str] = dataclasses.field(default_factory=dict)
    #: The change of the nodes that is in progress, as text; empty if there is none.
    under_way: str = ""
    #: Returns to the sessions of nodes until a deadline, and returns the error for each node where that failed; see
    #: `pconnect.resume.same_client`. ``None``: the sessions do not wait for a client.
    come_back: Callable[[Sequence[int], float], dict[int, Exception]] | None = None
    #: The ids of all servers that the network has or had, including lost and removed ones.
    ids: set[str] = dataclasses.field(default_factory=set)
    #: Adds servers of the pool while jobs wait; a `pconnect.pool.following.Following`, or ``None``.
    follower: Any = None
    #: Called when the nodes, or the keys of nodes, have changed.
    on_change: list[Callable[[], object]] = dataclasses.field(default_factory=list)


class _Numbers:
    """Numbers of commands and queries: the next one, which any thread may take, and the last command sent."""

    def __init__(self) -> None:
        self.begin(1)
        self.posted = 0

    def begin(self, first: int) -> None:
        self.first, self.following = first, itertools.count(first)


class ClientMesh(Mesh):
    """The client's mesh: its servers, the numbering of commands, and the console for the engines' output."""

    def __init__(
        self,
        network_id: bytes,
        servers: Sequence[Server],
        event_loop: EventLoop,
        limits: Limits,
        own: Connection | None = None,
        *,
        removed: Mapping[int, str] | None = None,
    ) -> None:
        removed = removed or {}
        known = {server.node: server.data for server in servers} | {0: own or Connection(0, "client", None)}
        known |= {node: removed_node(node, host) for node, host in removed.items()}
        connections = [known[number] for number in range(len(known))]
        super().__init__(network_id, 0, connections, event_loop, limits, removed=removed)
        self.servers = {server.node: server for server in servers}  #: by node
        self.mesh_setup: MeshSetup | None = None  # for replacement engines
        self.console = Console()
        #: Returns a front end's note about where a command was made, for later use; see `Command.origin`.
        self.note_origin: Callable[[], object] = lambda: None
        #: Called before the network is closed, last first: they end work that needs the network.
        self.before_close: list[Callable[[], object]] = []
        #: Called after the network was closed.
        self.after_close: list[Callable[[], object]] = []
        #: Runs the jobs, once there are any; a `pconnect.scheduler.scheduler.Scheduler`.
        self.scheduler: Any = None
        self.jobs = NetworkJobs()
        #: Where each server is, as the user named it, and which servers are missing.
        self.attendance = Attendance([])
        #: The nodes whose Python version, and so whose byte code, differs from the client's, with a description.
        self.foreign: dict[int, str] = {}
        self._numbers = _Numbers()
        self.growth = Growth(Probing(self, self.servers), ids={server.location.id for server in servers})
        event_loop.attention = self.growth.probing.look
        for server in servers:
            self._take_in(server)
        #: Receives each `pconnect.commands.front_end_messages.Display`; a front end puts its own function here. Its
        #: exceptions are printed.
        self.sink: Callable[[Display], object] = show
        self.trusts_displays = False  #: whether the engines' displays may run code in a notebook page

    def _take_in(self, server: Server) -> None:
        server.output.console = self.console
        server.guard = self.event_loop.sigint_deferred
        server.failures.on_failure = self.note_failure
        self.growth.probing.take_in(server)

    def add_servers(self, servers: Sequence[Server], hosts: Mapping[int, Host], change: str) -> None:
        """Add nodes that have logged in on these hosts, with the next numbers; see `change_members`."""
        for server in servers:
            self._take_in(server)
        self._have_servers(self.servers | {server.node: server for server in servers})
        self.growth.hosts = self.growth.hosts | {server.node: hosts[server.node] for server in servers}
        self.change_members([server.data for server in servers], [], change)

    def replace_server(self, server: Server) -> None:
        """Replace a node's `Server` under the connection that it already has."""
        self._take_in(server)
        self._have_servers(self.servers | {server.node: server})

    def drop_servers(self, nodes: Sequence[int], change: str) -> None:
        """Remove nodes whose sessions have ended or are ending; see `change_members`."""
        gone = [self.servers[node] for node in nodes if node in self.servers]
        self._have_servers({node: server for node, server in self.servers.items() if server not in gone})
        self.growth.hosts = {node: h for node, h in self.growth.hosts.items() if node in self.servers}
        if self.mesh_setup is not None and self.mesh_setup.routes is not None:
            self.mesh_setup.routes.forget(nodes)
        self.change_members([], [server.node for server in gone], change)
        for server in gone:
            self.event_loop.discard(server.command)
            self.foreign.pop(server.node, None)
            server.end(ConnectionLostError(self.why_removed(server.node)))

    def _have_servers(self, servers: dict[int, Server]) -> None:
        """Replace the mapping of nodes, so threads that iterate over the old one are not disturbed."""
        self.servers = self.growth.probing.servers = servers

    def note_reached(self, servers: Collection[Server]) -> None:
        """Record that these servers were reached, and are no longer missing."""
        self.growth.ids.update(server.location.id for server in servers)
        self.attendance.forget(
            place for server in servers for place in (self.growth.hosts[server.node], server.location.server)
        )

    @property
    def trusts_prints(self) -> bool:
        """Whether the engines' output reaches the terminal with all its control characters and sequences."""
        return self.console.is_trusted

    @trusts_prints.setter
    def trusts_prints(self, is_trusted: bool) -> None:
        self.console.is_trusted = is_trusted

    def foreign_among(self, nodes: Collection[int]) -> str:
        """Return which of some nodes have another version of Python, as text."""
        return ", ".join(words for node, words in self.foreign.items() if node in nodes)

    def next_number(self) -> int:
        """Return the number of the next command or query."""
        return next(self._numbers.following)

    def number_on(self, first: int) -> None:
        """Continue the numbering of commands and queries here: an earlier client used the lower numbers."""
        self._numbers.begin(first)

    @property
    def is_resumed(self) -> bool:
        """Whether this client has resumed the network of an earlier one."""
        return self._numbers.first > 1

    @property
    def found_commands(self) -> list[Command]:
        """The commands of the earlier client, in the order in which it sent them."""
        found = [command for server in self.servers.values() for command in server.commands.found.values()]
        return sorted(found, key=lambda command: (command.number, command.node))

    def new_commands(self, source: str, nodes: Sequence[int]) -> list[Command]:
        """Return new commands with one number, one for each node, before they are sent."""
        number = self.next_number()
        commands = [
            Command(source, self.servers[node], (node, self.servers[node].host), number, self.event_loop)
            for node in nodes
        ]
        for command in commands:
            command.is_quiet = command.node in self.console.quieted
            command.origin = self.note_origin()
        for command in commands[1:]:
            command.seen = commands[0].seen
        return commands

    def renumber(self, commands: Sequence[Command]) -> bool:
        """Give commands a new number if another thread has sent later ones meanwhile; return whether it has.

        Engines receive commands and their arguments in the order of the numbers.
        """
        if commands[0].number > self._numbers.posted:
            return False
        number = self.next_number()
        for command in commands:
            command.number = number
        return True

    def post(self, commands: Sequence[Command], options: dict[str, Any], service: str = "") -> None:
        """Post commands of one number that run source text or call a service; those for a lost engine fail."""
        kind = Kind.CALL if service else Kind.COMMAND
        with self.event_loop.sigint_deferred:
            self._numbers.posted = commands[0].number
            if self._must_begin_anew():
                self.begin_epoch(commands[0].number)
            for command in commands:
                self.servers[command.node].begin(
                    command, kind, [service or command.source, self.epoch, options]
                )

    def _must_begin_anew(self) -> bool:
        """Whether a failure in this epoch keeps some nodes out of its collective calls."""
        if self.left is not None or self.change:
            return True
        if not self.has_failures:
            return False
        # With many nodes this is slow, so it is done once for each failure instead of for each command.
        has_failures = any(
            server.failures.last_number >= self.epoch for server in self.servers.values()
        ) or any(connection.collectives.notice(self.epoch) for connection in self.connections)
        self.note_failure(has_failures=has_failures)
        return has_failures

    def query(self, timeout: float) -> dict[int, tuple[dict[str, Any], float]]:
        """Ask all servers for facts; return the facts and the round trip in seconds for each that answered."""
        self.check_open()
        answers: dict[int, tuple[dict[str, Any], float]] = {}
        deadline = deadline_after(timeout)
        for server in self.servers.values():
            if server.command.error:
                continue
            tag, begin = self.next_number(), time.perf_counter()
            with self.event_loop.sigint_deferred:
                server.command.post(Kind.QUERY, tag)
                self.event_loop.flush(server.command)
            with contextlib.suppress(TimeoutError):
                self.event_loop.run_until(
                    functools.partial(server.has_answered, Kind.FACTS, tag),
                    deadline,
                    "facts",
                )
            if (Kind.FACTS, tag) in server.answers:
                server.live = server.answers.pop((Kind.FACTS, tag))
                answers[server.node] = server.live, time.perf_counter() - begin
        return answers

    def begin_renewals(self) -> None:
        """Renew the certificates from now on whenever the network is used."""
        setup = self.mesh_setup
        if setup is not None and setup.authority is not None and setup.tls is not None:
            renewal = CertificateRenewal(
                setup.authority,
                setup.tls,
                lambda: {node: server.command for node, server in self.servers.items()},
                self.next_number,
            )
            self.mesh_setup = dataclasses.replace(setup, renewal=renewal)
            self.event_loop.before_poll = renewal.look

    def renew_certificates(self) -> None:
        """Renew the certificates if they are due, and wait until all servers have the new ones.

        Otherwise new connections would fail in a network that was unused until its certificates expired.
        """
        renewal = self.mesh_setup.renewal if self.mesh_setup is not None else None
        if renewal is None:
            return
        with self.event_loop.sigint_deferred:
            renewal.look()
            number, renewal.number = renewal.number, 0
        if not number:
            return
        numbers = dict.fromkeys(self.servers.values(), number)
        until = deadline_after(_RENEWAL_TIMEOUT)
        await_answers(self.event_loop, Kind.RENEW, numbers, until, "new certificates")

    def abandon(self, error: ConnectionLostError) -> None:
        """Leave the network to the parent process of this fork; everything unfinished gets this error."""
        super().abandon(error)
        for server in self.servers.values():
            server.command.abandon(error)
            for command in server.commands.known:
                command.abandon(error)
        if self.scheduler is not None:
            self.scheduler.abandon(error)

    def close(self, timeout: float) -> list[int]:
        """Close the network; see `pconnect.sclose`."""
        if self.closed:
            return []
        if self.scheduler is not None:
            self.scheduler.close("the network was closed")
        grace = min(1.0, timeout / 2)
        servers = list(self.servers.values())
        try:
            while self.before_close:
                self.before_close.pop()()
            with self.event_loop.sigint_deferred:
                for server in servers:
                    server.ask_to_close(grace)
            with contextlib.suppress(TimeoutError):
                self.event_loop.run_until(
                    lambda: all(s.life.state is NodeState.CLOSED or s.command.error for s in servers),
                    deadline_after(timeout),
                    "the servers to close",
                )
        finally:
            with self.event_loop.sigint_deferred:
                self.closed = True
                self.event_loop.close()
                for server in servers:
                    server.end(ConnectionLostError("the network was closed"))
            for call in self.after_close:
                call()
            self.event_loop.turns.call_waiting()
        for server in servers:
            server.report_unseen()
        return [server.node for server in servers if server.life.was_killed is not False]


def ask(
    servers: Iterable[Server],
    event_loop: EventLoop,
    kind: Kind,
    next_number: Callable[[], int],
    deadline: float,
    *,
    value_for: Callable[[Server], object] = lambda _: None,
) -> dict[int, dict[str, Any]]:
    """Ask several servers in parallel, in one loop; return the answers that arrive before a deadline, by node.

    `next_number`: returns a unique number for each question. `value_for`: returns the content of a server's question.
    """
    numbers: dict[Server, int] = {}
    with event_loop.sigint_deferred:
        for server in servers:
            if server.command.error is None:
                numbers[server] = next_number()
                server.command.post(kind, numbers[server], value_for(server))
                event_loop.flush(server.command)
    answer = Kind.FACTS if kind is Kind.QUERY else kind
    return await_answers(event_loop, answer, numbers, deadline, "answers of the servers")


def await_answers(
    event_loop: EventLoop, kind: Kind, numbers: Mapping[Server, int], deadline: float, what: str
) -> dict[int, dict[str, Any]]:
    """Wait for the answers with these numbers; return those that arrive by a deadline and are not ``None``, by node."""
    with contextlib.suppress(TimeoutError):
        event_loop.run_until(
            lambda: all(server.has_answered(kind, number) for server, number in numbers.items()),
            deadline,
            what,
        )
    answers = {server.node: server.answers.pop((kind, number), None) for server, number in numbers.items()}
    return {node: answer for node, answer in answers.items() if answer is not None}
