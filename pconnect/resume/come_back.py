"""Restores a network from its file: log in as the same user, then take over the sessions.

There are three steps: one login at each server, which attaches the connection to the waiting session; then the other
nodes of that session; then the data connections of engines that are idle or in a call of this package. A computing
engine is not waited for: its connection is opened later, and then it reports its commands.
"""

import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pconnect.errors import ConnectError, ConnectionLostError
from pconnect.growth.outcomes import Outcomes, log_in_by_place, refusal, sort_outcomes
from pconnect.link.connection import Connection
from pconnect.link.host_names import Host
from pconnect.link.missing_hosts import Attendance
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Role
from pconnect.resume.resume_file import ResumeFile
from pconnect.resume.returned_server import ReturnedServer
from pconnect.routes.location import Location
from pconnect.session import open_networks, versions
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import Back, LoginTerms
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.node_state import NodeState
from pconnect.session.server import Server
from pconnect.views.network_views import ClientConnection, ClientNetwork
from srp_tools.certificates import NetworkAuthority
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials
from srp_tools.steps import Steps, deadline_after, describe_seconds, run_all
from srp_tools.tls import TlsContexts

# The previous client may have sent this many commands that no engine had begun.
_NUMBERS_APART = 2**20
_NOTHING = (
    "no session is waiting there: it has ended, or belongs to another user; to resume the other sessions only, "
    "add required=False"
)


class NothingThereError(ConnectionLostError):
    """A server has no session that this user could resume."""


def come_back(
    saved: ResumeFile,
    credentials: Credentials,
    attendance: Attendance,
    deadline: float,
    *,
    takes_over: bool,
    is_exclusive: bool = False,
) -> ClientNetwork | None:
    """Return the network of a client that has vanished; with `takes_over`, also of one that is still connected.

    `attendance`: tells which nodes may be missing. `is_exclusive`: whether servers added later should accept no other
    session. Returns ``None`` if no server has a session of this network for this user.

    Raises `ConnectError` with the reasons of all required hosts that failed. Their sessions keep waiting.
    """
    authority = NetworkAuthority(saved.network_id)
    event_loop = EventLoop()
    terms = LoginTerms(
        saved.network_id,
        credentials,
        authority,
        TlsContexts(authority.own_identity()),
        saved.limits,
        saved.peer_timeout,
        saved.link_key,
        saved.network_key,
        is_exclusive=is_exclusive,
        back=Back(saved.keys, takes_over),
        make_server=functools.partial(ReturnedServer, event_loop, saved.limits),
    )
    outcomes: Outcomes = {}
    try:
        hosts = {node: host for node, host in enumerate(saved.hosts, 1) if node not in saved.removed}
        log_in_again(hosts, terms, event_loop, deadline, outcomes)
        found, failures = sort_outcomes(outcomes)
        if all(isinstance(outcome, NothingThereError) for outcome in outcomes.values()):
            event_loop.close()
            return None
        if failures and not attendance.may_lack(failures):
            raise refusal({saved.hosts[node - 1].label: error for node, error in failures.items()})
        servers = {node: server for node, server in found.items() if isinstance(server, ReturnedServer)}
        for node, error in failures.items():
            servers[node] = _lost(node, saved, event_loop, error)
        return _make_network(terms, saved, dict(sorted(servers.items())), event_loop, deadline)
    except BaseException:
        for outcome in outcomes.values():
            if isinstance(outcome, Server):
                outcome.command.close()
        event_loop.close()
        raise


def log_in_again(
    hosts: Mapping[int, Host], terms: LoginTerms, event_loop: EventLoop, deadline: float, outcomes: Outcomes
) -> None:
    """Resume one node of each session, then its other nodes; `outcomes` gets an error for each failure."""
    began = time.monotonic()

    def run(steps: Mapping[int, Steps[Server]]) -> None:
        run_all(steps, deadline, outcomes)
        made = [server for node in steps if isinstance(server := outcomes[node], ReturnedServer)]
        for server in made:
            event_loop.add(server.command)
        with contextlib.suppress(TimeoutError):
            event_loop.run_until(
                lambda: all(server.is_settled for server in made), deadline, "the sessions of this network"
            )
        for server in made:
            if (error := _why_not(server, deadline - began)) is not None:
                event_loop.discard(server.command)
                outcomes[server.node] = error

    log_in_by_place(hosts, terms, deadline, run, outcomes)


def _why_not(server: ReturnedServer, waited: float) -> Exception | None:
    """Return why the client cannot resume the session of a node after some seconds; ``None`` if it can."""
    if not server.is_settled:
        return TimeoutError(
            f"timed out after {describe_seconds(waited)} waiting for the server to report whether its session is still "
            "there"
        )
    if server.refusal == "":
        return NothingThereError(_NOTHING)
    if server.refusal is None and server.command.error is None and not server.life.session_is_over:
        return None
    return ConnectionLostError(server.refusal or str(server.command.error or server.life.death))


def _lost(node: int, saved: ResumeFile, event_loop: EventLoop, error: Exception) -> ReturnedServer:
    """Return a stand-in for a missing node; it counts as lost."""
    host = saved.hosts[node - 1]
    command = Connection(node, host.label, None, role=Role.CLIENT, limits=saved.limits, awaited=True)
    server = ReturnedServer(event_loop, saved.limits, command, Location(host.name, host.port, host.port))
    command.lose(ConnectionLostError(str(error)))
    return server


def _make_network(
    terms: LoginTerms,
    saved: ResumeFile,
    servers: Mapping[int, ReturnedServer],
    event_loop: EventLoop,
    deadline: float,
) -> ClientNetwork:
    event_loop.sigint_deferred.spins = True
    mesh_setup = MeshSetup.of(terms, versions.own_versions()["version"], is_resumable=True)
    for server in servers.values():
        if server.life.state is not NodeState.OPEN:
            server.data.lose(server.command.error or ConnectionLostError(str(server.life.death)))
    own = ClientConnection(0, "client", None)
    mesh = ClientMesh(
        terms.network_id, list(servers.values()), event_loop, terms.limits, own, removed=saved.removed
    )
    mesh.mesh_setup = replace(mesh_setup, terms=replace(terms, back=None, make_server=Server))
    mesh.growth.ids |= saved.servers
    mesh.growth.hosts = {node: saved.hosts[node - 1] for node in servers}
    if mesh_setup.routes is not None:
        mesh_setup.routes.attend(servers.values(), event_loop)
    mesh.begin_renewals()
    _continue_numbers(mesh, list(servers.values()))
    await_engines(mesh_setup, list(servers.values()), event_loop, deadline)
    mesh.foreign = versions.foreign_pythons([s for s in servers.values() if s.facts])
    open_networks.register(mesh)
    return ClientNetwork(mesh)


def _continue_numbers(mesh: ClientMesh, servers: Sequence[ReturnedServer]) -> None:
    """Continue the numbers of commands above those of the previous client, in a new epoch."""
    before = max(server.facts.get("begun", 0) for server in servers) + _NUMBERS_APART
    mesh.number_on(before + 1)
    for server in servers:
        server.last_before = before
        server.failures.last_number = max(server.failures.last_number, before)
    mesh.note_failure()


def await_engines(
    mesh_setup: MeshSetup, servers: Sequence[ReturnedServer], event_loop: EventLoop, deadline: float
) -> None:
    """Open the data connections, and wait for those of idle engines."""
    awaited = [server for server in servers if server.data.is_awaited]
    idle = [server for server in awaited if not server.facts.get("running")]
    for server in awaited:
        until = deadline if server in idle else deadline_after(None)
        take = functools.partial(_take_channel, event_loop, server)
        event_loop.background.start(mesh_setup.dial(server), until, take)
    try:
        event_loop.run_until(
            lambda: all(server.has_told or server.data.error or server.life.death for server in idle),
            deadline,
            "the engines of this network",
        )
    except TimeoutError as error:
        silent = [server for server in idle if not server.has_told]
        raise ConnectError({server.host: error for server in silent}) from None
    failed: dict[str, Exception] = {
        server.host: server.data.error for server in idle if server.data.error and not server.life.death
    }
    if failed:
        raise ConnectError(failed)


def _take_channel(event_loop: EventLoop, server: ReturnedServer, outcome: Channel | Exception) -> None:
    if isinstance(outcome, Channel) and server.data.is_awaited:
        server.data.open(outcome)
        event_loop.add(server.data)
    elif isinstance(outcome, Channel):
        outcome.close()
    elif server.data.is_awaited:
        server.data.lose(ConnectionLostError(str(outcome)))
