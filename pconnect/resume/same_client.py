"""Coming back in the same process: a client whose own network was gone, and whose sessions have waited for it.

The engines have lost nothing but their client: workspaces, links to each other and the commands that run are as they
were. So nobody is told of it, and nothing is set up again. Commands that were on their way when the network was lost
have failed here; what has become of them is in ``net.commands``, as for another process that comes back.
"""

import dataclasses
import functools
from collections.abc import Sequence

from pconnect.errors import ConnectionLostError
from pconnect.link.host_names import Host
from pconnect.resume.come_back import await_engines, failures_of, try_logins
from pconnect.resume.returned_server import ReturnedServer
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import Back, LoginTerms, add_node, log_in_at
from pconnect.session.server import Server
from srp_tools.steps import Steps

Outcomes = dict[int, Server | Exception]


def return_to_nodes(mesh: ClientMesh, numbers: Sequence[int], deadline: float) -> dict[int, Exception]:
    """Come back to the sessions of some nodes, which are lost; return why that was not possible for some."""
    setup = mesh.mesh_setup
    assert setup is not None  # noqa: S101 - it is a network that can be come back to
    assert setup.terms is not None  # noqa: S101 - the same
    assert setup.authority is not None  # noqa: S101 - the same
    keys = {number: setup.authority.public_keys[number] for number in numbers}
    terms = dataclasses.replace(
        setup.terms,
        back=Back(keys, takes_over=True),
        make_server=functools.partial(ReturnedServer, mesh.event_loop, setup.limits),
    )
    outcomes: Outcomes = {}
    try:
        _log_in(mesh, {number: mesh.growth.hosts[number] for number in numbers}, terms, deadline, outcomes)
        failures = {n: _explained(mesh.servers[n], error) for n, error in failures_of(outcomes).items()}
        found = {
            number: server
            for number, server in outcomes.items()
            if isinstance(server, ReturnedServer) and number not in failures
        }
    except BaseException:
        found, failures = {}, {}
        raise
    finally:
        for number, outcome in outcomes.items():
            if isinstance(outcome, Server) and number not in found:
                mesh.event_loop.discard(outcome.command)
        for number in keys.keys() - found.keys():
            setup.authority.sign(
                keys[number], number
            )  # a login that leads nowhere has left another key there
    _take_in(mesh, found)
    await_engines(setup, list(found.values()), mesh.event_loop, deadline)
    return failures


def _log_in(
    mesh: ClientMesh, hosts: dict[int, Host], terms: LoginTerms, deadline: float, outcomes: Outcomes
) -> None:
    """Come back to one node of each session, then to all further ones there."""
    places: dict[tuple[str, int], list[int]] = {}
    for node, host in sorted(hosts.items()):
        places.setdefault((host.name, host.port), []).append(node)
    firsts = {nodes[0]: nodes[1:] for nodes in places.values()}
    logins = {node: log_in_at(hosts[node], node, terms, deadline) for node in firsts}
    try_logins(logins, mesh.event_loop, deadline, outcomes)
    further: dict[int, Steps[Server]] = {}
    failed = failures_of(outcomes)
    for first, others in firsts.items():
        server = outcomes[first]
        if isinstance(server, Server) and first not in failed:
            further |= {node: add_node(server, node, terms) for node in others}
        else:
            outcomes |= dict.fromkeys(others, server)
    try_logins(further, mesh.event_loop, deadline, outcomes)


def _explained(before: Server, error: Exception) -> Exception:
    """Return why one cannot come back, with what it is that is lacking."""
    if before.facts.get("orphan_seconds"):
        return error
    return ConnectionLostError(
        f"{error}. Its server was started without --orphan-timeout, so the session has ended with the connection; "
        f"net.reconnect({before.node}, fresh=True) begins a new one, with an empty workspace"
    )


def _take_in(mesh: ClientMesh, found: dict[int, ReturnedServer]) -> None:
    """Have the nodes go on with their sessions, under the connections that the user knows."""
    last = mesh.next_number()  # what engines know up to here is of the time before
    for number, server in found.items():
        data = mesh.connections[number]
        mesh.event_loop.discard(data)
        data.reset()
        server.attach(data)
        server.last_before = last
        server.failures.last_number = last
        mesh.replace_server(server)
    if mesh.mesh_setup is not None and mesh.mesh_setup.routes is not None:
        mesh.mesh_setup.routes.attend(found.values(), mesh.event_loop)
    mesh.note_failure()
    if found:
        names = ", ".join(f"node {server.node} ({server.host})" for server in found.values())
        mesh.change_members([], [], f"the client has come back to {names}")
