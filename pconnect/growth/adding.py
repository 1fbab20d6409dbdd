"""`net.add`: further nodes for a network that is there, while work goes on."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pconnect.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    ServerRefusedError,
)
from pconnect.growth.joining import Joining, tell_members
from pconnect.growth.kept_values import send_kept_values
from pconnect.growth.logins import drop, log_in_nodes
from pconnect.link.connection import Connection
from pconnect.link.host_names import Host, parse_hosts
from pconnect.protocol.kinds import Role
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.server import Server
from pconnect.session.versions import foreign_pythons
from srp_tools.steps import deadline_after

MakeConnection = Callable[..., Connection]


def add_nodes(mesh: ClientMesh, hosts: object, make: MakeConnection, timeout: float) -> list[int]:
    """Add nodes to a network; return their numbers. See `pconnect.views.growth_views.GrowthView.add`.

    `make`: makes the client's connection to an engine.
    """
    # What the user sees of a node names its server, also where it is no address, as that of a local network.
    known = {mesh.servers[n].host: host for n, host in mesh.growth.hosts.items() if n in mesh.servers}
    found = [known.get(host.label, host) for host in parse_hosts(hosts)]
    if not found:
        raise ConfigurationError("hosts is empty: name at least one server to add")
    deadline = deadline_after(timeout)
    mesh.event_loop.catch_up()
    with changing(mesh, "nodes are being added") as mesh_setup:
        mesh.renew_certificates()
        first = len(mesh.connections)
        targets = dict(enumerate(found, first))
        servers = _log_in(mesh, mesh_setup, targets, deadline)
        for server in servers:
            data = make(
                server.node,
                server.host,
                None,
                role=Role.CLIENT_DATA,
                limits=mesh_setup.limits,
                awaited=True,
            )
            server.attach(data)
        names = ", ".join(f"node {server.node} ({server.host})" for server in servers)
        change = f"{names} {'was' if len(servers) == 1 else 'were'} added to the network"
        if mesh_setup.routes is not None:
            mesh_setup.routes.attend(servers, mesh.event_loop)
        joining = Joining(mesh, mesh_setup, servers, deadline)
        try:
            joining.announce(change, functools.partial(mesh.add_servers, servers, change))
            mesh.growth.hosts |= targets
            joining.connect()
        finally:
            with mesh.event_loop.sigint_deferred:
                joining.end()
                if joining.failures:
                    _take_back(mesh, servers)
        if joining.failures:
            raise refusal({targets[server.node].label: error for server, error in joining.failures.items()})
        mesh.foreign |= foreign_pythons(servers)
        send_kept_values(mesh, [server.node for server in servers], deadline)
        if mesh.scheduler is not None:
            mesh.scheduler.add_nodes(servers)
        tell_change(mesh)
    return [server.node for server in servers]


@contextlib.contextmanager
def changing(mesh: ClientMesh, what: str) -> Iterator[MeshSetup]:
    """Keep other changes of the nodes away while one is under way; `what`: that one, in words.

    Raises `ConfigurationError` if another one is, or if the network has no servers.
    """
    mesh.check_open()
    if mesh.mesh_setup is None or mesh.mesh_setup.terms is None:
        raise ConfigurationError("the nodes of this network cannot change: pconnect did not make it")
    if mesh.growth.under_way:
        raise ConfigurationError(f"{mesh.growth.under_way}: change other nodes when that is done")
    if mesh.growth.restart is not None:
        raise ConfigurationError("nodes are being restarted: change nodes when that is done")
    if any(server.life.is_closing for server in mesh.servers.values()):
        raise ConnectionLostError("the network is being closed")
    mesh.growth.under_way = what
    try:
        yield mesh.mesh_setup
    finally:
        mesh.growth.under_way = ""


def tell_change(mesh: ClientMesh) -> None:
    """Have those know of other nodes, or other keys of nodes, who keep them."""
    for call in mesh.growth.on_change:
        call()


def refusal(reasons: Mapping[str, Exception]) -> Exception:
    """Return the error for the user, of which the reasons are by host, as `pconnect` does."""
    error = ConnectError(reasons)
    for kind in (AuthenticationError, ServerRefusedError):
        if all(isinstance(reason, kind) for reason in reasons.values()):
            refused = kind(str(error))
            refused.__cause__ = error
            return refused
    return error


def _log_in(
    mesh: ClientMesh, mesh_setup: MeshSetup, targets: Mapping[int, Host], deadline: float
) -> list[Server]:
    """Log in for all, or for none. Raises what `pconnect` raises."""
    assert mesh_setup.terms is not None  # noqa: S101 - see `changing`
    outcomes: dict[int, Any] = log_in_nodes(mesh, targets, mesh_setup.terms, deadline)
    failures = {node: outcome for node, outcome in outcomes.items() if isinstance(outcome, Exception)}
    if not failures:
        return [outcomes[node] for node in targets]
    drop(mesh, outcomes)
    for error in failures.values():
        if not isinstance(error, OSError):
            raise error
    raise refusal({targets[node].label: error for node, error in failures.items()})


def _take_back(mesh: ClientMesh, servers: list[Server]) -> None:
    """Remove nodes that were announced and did not become members: their numbers stay empty."""
    names = ", ".join(f"node {server.node} ({server.host})" for server in servers)
    change = f"{names} could not be added, and left the network"
    others = [server for server in mesh.servers.values() if server not in servers]
    numbers = [server.node for server in servers]
    tell_members(mesh, others, mesh.next_number(), [], numbers, change, deadline_after(None))
    mesh.drop_servers(numbers, change)
