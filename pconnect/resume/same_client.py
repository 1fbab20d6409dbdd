"""Resuming in the same process: the client's own network connection was gone, and its sessions have waited for it.

The engines have lost nothing but their client: workspaces, links between engines and running commands are unchanged.
Therefore no engine is notified, and nothing is set up again. Commands in progress when the connection was lost have
failed here; their outcomes are in ``net.commands``, as for another process that resumes.
"""

import dataclasses
import functools
from collections.abc import Sequence

from pconnect.errors import ConnectionLostError
from pconnect.growth.outcomes import Outcomes, sort_outcomes
from pconnect.resume.come_back import await_engines, log_in_again
from pconnect.resume.returned_server import ReturnedServer
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import Back
from pconnect.session.server import Server


def return_to_nodes(mesh: ClientMesh, numbers: Sequence[int], deadline: float) -> dict[int, Exception]:
    """Resume the sessions of some lost nodes; return the reasons for those where that failed."""
    setup = mesh.mesh_setup
    assert setup is not None  # noqa: S101 - the network can be resumed
    assert setup.terms is not None  # noqa: S101 - the network can be resumed
    assert setup.authority is not None  # noqa: S101 - the network can be resumed
    keys = {number: setup.authority.public_keys[number] for number in numbers}
    terms = dataclasses.replace(
        setup.terms,
        back=Back(keys, takes_over=True),
        make_server=functools.partial(ReturnedServer, mesh.event_loop, setup.limits),
    )
    hosts = {number: mesh.growth.hosts[number] for number in numbers}
    outcomes: Outcomes = {}
    found: dict[int, Server] = {}
    failures: dict[int, Exception] = {}
    try:
        log_in_again(hosts, terms, mesh.event_loop, deadline, outcomes)
        found, failures = sort_outcomes(outcomes)
    finally:
        for number, outcome in outcomes.items():
            if isinstance(outcome, Server) and number not in found:
                mesh.event_loop.discard(outcome.command)
        for number in keys.keys() - found.keys():
            # A failed login may have left another key there.
            setup.authority.sign(keys[number], number)
    servers = {number: server for number, server in found.items() if isinstance(server, ReturnedServer)}
    _take_in(mesh, servers)
    await_engines(setup, list(servers.values()), mesh.event_loop, deadline)
    return {number: _explained(mesh.servers[number], error) for number, error in failures.items()}


def _explained(before: Server, error: Exception) -> Exception:
    """Return the error with advice if the server was started without the necessary option."""
    if before.facts.get("orphan_seconds"):
        return error
    return ConnectionLostError(
        f"{error}; its server was started without --orphan-timeout, so the session has ended with the connection; "
        f"net.reconnect({before.node}, fresh=True) begins a new one, with an empty workspace"
    )


def _take_in(mesh: ClientMesh, found: dict[int, ReturnedServer]) -> None:
    """Continue the nodes with their sessions, under the connection objects that the user holds."""
    last = mesh.next_number()  # commands up to this number are from before the loss
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
