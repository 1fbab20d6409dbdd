"""`net.reconnect`: a new session for nodes whose server or machine was gone, under the same numbers."""

import time
from collections.abc import Collection, Mapping, Sequence

from pconnect.errors import ConnectionLostError
from pconnect.growth.adding import changing, tell_change
from pconnect.growth.joining import Joining, were
from pconnect.growth.kept_values import send_kept_values
from pconnect.growth.logins import drop, log_in_nodes
from pconnect.growth.outcomes import refusal
from pconnect.growth.removing import Nodes, numbers_of, renew_job_nodes
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh, ask
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.node_state import NodeEvent
from pconnect.session.server import Server
from pconnect.session.versions import foreign_pythons
from srp_tools.steps import deadline_after

_ANSWER_SECONDS = 5.0  # a running supervisor answers, whatever its engine does
_JOB_SECONDS = 5.0  # for jobs in a session begun for jobs; the default of `remove`

Failures = dict[int, Exception]


def reconnect_nodes(
    mesh: ClientMesh, nodes: Nodes | None, timeout: float, *, fresh: bool = False
) -> list[int]:
    """Give lost nodes a new session; see `pconnect.views.growth_views.GrowthView.reconnect`."""
    deadline = deadline_after(timeout)
    mesh.event_loop.look()
    numbers = list(mesh.servers) if nodes is None else numbers_of(mesh, nodes)
    with changing(mesh, "nodes are being reconnected") as mesh_setup:
        failures = _lose_silent(mesh, numbers, deadline)
        lost = [number for number in numbers if is_lost(mesh.servers[number])]
        if lost:
            failures |= _bring_back(mesh, mesh_setup, lost, deadline, fresh=fresh)
        if failures:
            raise _refusal(mesh, failures)
    return lost


def _bring_back(
    mesh: ClientMesh, mesh_setup: MeshSetup, lost: Sequence[int], deadline: float, *, fresh: bool
) -> Failures:
    """Give nodes a session; return the error of each node that failed."""
    mesh.renew_certificates()
    failures: Failures = {}
    try:
        come_back = None if fresh else mesh.growth.come_back
        grace = min(_JOB_SECONDS, max(0.0, deadline - time.monotonic()) / 3)
        renew_job_nodes(mesh, lost, grace, away=come_back is not None)
        if come_back is not None:
            failures = come_back(lost, deadline)
        else:
            hosts = {number: mesh.growth.hosts[number] for number in lost}
            found, failures = log_in_nodes(mesh, hosts, deadline, waits=True)
            if found:
                failures |= _join(mesh, mesh_setup, found, deadline)
    finally:
        servers = [mesh.servers[number] for number in lost]
        if mesh.scheduler is not None:
            mesh.scheduler.add_nodes(servers)
        back = [server for server in servers if not is_lost(server)]
        numbers = {server.node for server in back}
        mesh.foreign = {n: words for n, words in mesh.foreign.items() if n not in numbers}
        mesh.foreign |= foreign_pythons(back)
        mesh.note_reached(back)
        tell_change(mesh)
    return failures


def is_lost(server: Server) -> bool:
    """Whether a node no longer has a session, as far as the client knows."""
    return server.command.error is not None or server.life.session_is_over


def _lose_silent(mesh: ClientMesh, numbers: Sequence[int], deadline: float) -> Failures:
    """Give up nodes whose servers do not answer: the system may take long to notice that they are gone.

    Returns errors for nodes that there was no time to check; they are left unchanged.
    """
    asked = [mesh.servers[n] for n in numbers if not is_lost(mesh.servers[n])]
    patience = time.monotonic() + _ANSWER_SECONDS
    until = min(patience, deadline)
    answers = ask(asked, mesh.event_loop, Kind.QUERY, mesh.next_number, until)
    failures: Failures = {}
    for server in asked:
        if server.node in answers or server.command.error:
            continue
        if deadline < patience:
            more = f"without an answer for {_ANSWER_SECONDS:g} s it counts as lost; give a longer timeout"
            failures[server.node] = TimeoutError(
                f"its server has not answered, and is left unchanged: {more}"
            )
        else:
            silent = ConnectionLostError(f"its server has not answered for {_ANSWER_SECONDS:g} s")
            mesh.event_loop.lose(server.command, silent)
    return failures


def _join(mesh: ClientMesh, mesh_setup: MeshSetup, found: Mapping[int, Server], deadline: float) -> Failures:
    """Attach the new sessions to the lost nodes; return the error of each node that could not rejoin."""
    servers = [mesh.servers[number] for number in found]
    change = f"{were(servers)} reconnected"

    def take_in() -> None:
        for server in servers:
            _renew(server, found[server.node])
        if mesh_setup.routes is not None:
            mesh_setup.routes.attend(servers, mesh.event_loop)
        mesh.change_members([], [], change)

    joining = Joining(mesh, mesh_setup, servers, deadline, found=list(found.values()))
    try:
        joining.announce(change, take_in)
        joining.connect()
    finally:
        with mesh.event_loop.sigint_deferred:
            drop(
                mesh,
                [new for number, new in found.items() if mesh.servers[number].command is not new.command],
            )
            joining.end()
            for server in servers:
                _end(mesh, server, joining.failures.get(server))
    failures = {server.node: error for server, error in joining.failures.items()}
    return failures | _send_values(mesh, found.keys() - failures.keys(), deadline)


def _send_values(mesh: ClientMesh, numbers: Collection[int], deadline: float) -> Failures:
    """Send the values that jobs need; nodes that do not receive them in time are lost again."""
    failures: Failures = dict.fromkeys(numbers, ConnectionLostError("interrupted while sending it values"))
    try:
        failures = send_kept_values(mesh, numbers, deadline)
    finally:
        with mesh.event_loop.sigint_deferred:
            for number, error in failures.items():
                mesh.event_loop.lose(mesh.servers[number].command, ConnectionLostError(str(error)))
    return failures


def _renew(server: Server, found: Server) -> None:
    """Switch a node to the session that a login has made for it."""
    server.listen(found.command)
    server.location = found.location
    server.renew(NodeEvent.LOGGED_IN)


def _end(mesh: ClientMesh, server: Server, error: Exception | None) -> None:
    server.end_restart(error)
    if error is not None:
        mesh.event_loop.lose(server.command, ConnectionLostError(str(error)))


def _refusal(mesh: ClientMesh, failures: Mapping[int, Exception]) -> Exception:
    return refusal(
        {f"node {number} ({mesh.servers[number].host})": error for number, error in failures.items()}
    )
