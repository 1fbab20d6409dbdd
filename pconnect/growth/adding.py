"""`net.add`: more nodes for an existing network, while work continues."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.growth.joining import Joining, await_told, named, tell_members, were
from pconnect.growth.kept_values import send_kept_values
from pconnect.growth.logins import drop, log_in_nodes
from pconnect.growth.outcomes import refusal
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

    `make`: creates the client's connection to an engine.
    """
    # The host that users see for a node leads to its server, even if it is not an address, as in a local network.
    known = {mesh.servers[n].host: host for n, host in mesh.growth.hosts.items() if n in mesh.servers}
    found = [known.get(host.label, host) for host in parse_hosts(hosts)]
    if not found:
        raise ConfigurationError("hosts is empty: name at least one server to add")
    own = {(host.name, host.port) for host in mesh.growth.hosts.values()}
    if mesh.growth.is_private and (others := [h.label for h in found if (h.name, h.port) not in own]):
        raise ConfigurationError(
            f"a network of local_network cannot log in to other servers ({', '.join(others)}); connect to them with "
            "pconnect(hosts)"
        )
    deadline = deadline_after(timeout)
    mesh.event_loop.catch_up()
    with changing(mesh, "nodes are being added") as mesh_setup:
        mesh.renew_certificates()
        targets = dict(enumerate(found, len(mesh.connections)))
        servers, failures = log_in_nodes(mesh, targets, deadline)
        if failures:
            drop(mesh, servers.values())
        else:
            failures = take_in(mesh, mesh_setup, list(servers.values()), targets, make, deadline)
        if failures:
            raise refusal({targets[node].label: error for node, error in failures.items()})
    return list(targets)


def take_in(  # noqa: PLR0917 - the results of a login
    mesh: ClientMesh,
    mesh_setup: MeshSetup,
    servers: Sequence[Server],
    targets: Mapping[int, Host],
    make: MakeConnection,
    deadline: float,
    *,
    is_partial: bool = False,
) -> dict[int, Exception]:
    """Make nodes that have logged in members of the network; return the error of each node that failed.

    If any fails, all are removed again, and their numbers stay unused; with `is_partial`, only the failed ones.
    `targets`: the host of each.
    """
    if not servers:
        return {}
    for server in servers:
        limits = mesh_setup.limits
        server.attach(
            make(server.node, server.host, None, role=Role.CLIENT_DATA, limits=limits, awaited=True)
        )
    change = f"{were(servers)} added to the network"
    joining = Joining(mesh, mesh_setup, servers, deadline)
    back = list(servers)
    try:
        if mesh_setup.routes is not None:
            mesh_setup.routes.attend(servers, mesh.event_loop)
        joining.announce(change, functools.partial(mesh.add_servers, servers, targets, change))
        try:
            joining.connect()
        finally:
            with mesh.event_loop.sigint_deferred:
                joining.end()
        failures = {server.node: error for server, error in joining.failures.items()}
        if is_partial or not failures:
            there = [server.node for server in servers if server.node not in failures]
            failures |= send_kept_values(mesh, there, deadline)
        back = [server for server in servers if failures and (not is_partial or server.node in failures)]
    finally:
        _take_back(mesh, back)
    if members := [server for server in servers if server not in back]:
        mesh.note_reached(members)
        mesh.foreign |= foreign_pythons(members)
        if mesh.scheduler is not None:
            mesh.scheduler.add_nodes(members)
        tell_change(mesh)
    return failures


@contextlib.contextmanager
def changing(mesh: ClientMesh, what: str) -> Iterator[MeshSetup]:
    """Prevent other changes of the nodes during one; `what` describes that one.

    Raises `ConfigurationError` if another change is in progress, or if the network has no servers.
    """
    with mesh.event_loop.sigint_deferred:
        if mesh.growth.follower is not None:
            mesh.growth.follower.wait()
        mesh.check_open()
        if mesh.mesh_setup is None or mesh.mesh_setup.terms is None:
            raise ConfigurationError("the nodes of this network cannot change: pconnect did not make it")
        if mesh.growth.under_way:
            raise ConfigurationError(f"{mesh.growth.under_way}: try again when that is done")
        if mesh.growth.restart is not None:
            raise ConfigurationError("nodes are being restarted: try again when that is done")
        if any(server.life.is_closing for server in mesh.servers.values()):
            raise ConnectionLostError("the network is being closed")
        mesh.growth.under_way = what
    try:
        yield mesh.mesh_setup
    finally:
        mesh.growth.under_way = ""


def tell_change(mesh: ClientMesh) -> None:
    """Notify the observers of nodes, or of their keys, that these have changed."""
    for call in mesh.growth.on_change:
        call()


def _take_back(mesh: ClientMesh, servers: Sequence[Server]) -> None:
    """Remove nodes that did not become members: the numbers of those that were announced stay unused."""
    number, others = mesh.next_number(), [server for server in mesh.servers.values() if server not in servers]
    with mesh.event_loop.sigint_deferred:
        announced = [server for server in servers if mesh.servers.get(server.node) is server]
        drop(mesh, [server for server in servers if server not in announced])
        if not announced:
            return
        change = f"{named(announced)} could not be added, and left the network"
        numbers = [server.node for server in announced]
        tell_members(mesh, others, number, [], numbers, change, deadline_after(None))
        mesh.drop_servers(numbers, change)
    await_told(mesh, others, number)
