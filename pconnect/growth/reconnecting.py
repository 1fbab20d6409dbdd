"""`net.reconnect`: a new session for nodes whose server or machine was gone, under the same numbers."""

import contextlib
import time
from collections.abc import Mapping, Sequence

from pconnect.errors import ConnectionLostError
from pconnect.growth.adding import changing, refusal, tell_change
from pconnect.growth.joining import Joining
from pconnect.growth.kept_values import send_kept_values
from pconnect.growth.logins import log_in_nodes
from pconnect.growth.removing import Nodes, numbers_of, replace_job_nodes
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.mesh_setup import MeshSetup
from pconnect.session.node_state import NodeEvent
from pconnect.session.server import Server
from pconnect.session.versions import foreign_pythons
from srp_tools.steps import deadline_after

_ANSWER_SECONDS = 5.0  # a supervisor that is there answers whatever its engine does
_JOB_SECONDS = 5.0  # for jobs in a session that was begun for them; as `remove` gives by default

Failures = dict[int, Exception]


def reconnect_nodes(
    mesh: ClientMesh, nodes: Nodes | None, timeout: float, *, fresh: bool = False
) -> list[int]:
    """Give nodes that are lost a new session; see `pconnect.views.growth_views.GrowthView.reconnect`."""
    deadline = deadline_after(timeout)
    mesh.event_loop.look()
    numbers = list(mesh.servers) if nodes is None else numbers_of(mesh, nodes)
    _lose_silent(mesh, numbers, min(_ANSWER_SECONDS, timeout / 3))
    lost = [number for number in numbers if is_lost(mesh.servers[number])]
    if not lost:
        return []
    with changing(mesh, "nodes are being connected anew") as mesh_setup:
        mesh.renew_certificates()
        try:
            replace_job_nodes(mesh, lost, min(_JOB_SECONDS, timeout / 3))
            come_back = None if fresh else mesh.growth.come_back
            failures, found = (
                (come_back(lost, deadline), {}) if come_back else _log_in(mesh, mesh_setup, lost, deadline)
            )
            if found:
                failures |= _join(mesh, mesh_setup, found, deadline)
                send_kept_values(mesh, found.keys() - failures.keys(), deadline)
        finally:
            if mesh.scheduler is not None:
                mesh.scheduler.add_nodes([mesh.servers[number] for number in lost])
        back = [number for number in lost if number not in failures]
        mesh.foreign = {n: words for n, words in mesh.foreign.items() if n not in back}
        mesh.foreign |= foreign_pythons([mesh.servers[number] for number in back])
        tell_change(mesh)
        if failures:
            raise _refusal(mesh, failures)
    return back


def is_lost(server: Server) -> bool:
    """Whether a node has no session any more, as far as the client knows."""
    return server.command.error is not None or server.life.session_is_over


def _lose_silent(mesh: ClientMesh, numbers: Sequence[int], seconds: float) -> None:
    """Give up nodes whose servers do not answer: it may take long until the system sees that nobody is there."""
    asked = {mesh.servers[n]: mesh.next_number() for n in numbers if not is_lost(mesh.servers[n])}
    with mesh.event_loop.sigint_deferred:
        for server, number in asked.items():
            server.command.post(Kind.QUERY, number)
            mesh.event_loop.flush(server.command)
    with contextlib.suppress(TimeoutError):
        mesh.event_loop.run_until(
            lambda: all(server.has_answered(Kind.FACTS, number) for server, number in asked.items()),
            time.monotonic() + seconds,
            "answers of the servers",
        )
    for server, number in asked.items():
        if server.answers.pop((Kind.FACTS, number), None) is None and not server.command.error:
            silent = ConnectionLostError(f"its server has not answered for {seconds:g} s")
            mesh.event_loop.lose(server.command, silent)


def _log_in(
    mesh: ClientMesh, mesh_setup: MeshSetup, numbers: Sequence[int], deadline: float
) -> tuple[Failures, dict[int, Server]]:
    """Log in where that is possible; return why it was not for some, and what came of the others."""
    assert mesh_setup.terms is not None  # noqa: S101 - see `changing`
    hosts = {number: mesh.growth.hosts[number] for number in numbers}
    outcomes = log_in_nodes(mesh, hosts, mesh_setup.terms, deadline, waits=True)
    for error in outcomes.values():
        if isinstance(error, Exception) and not isinstance(error, OSError):
            raise error
    failures = {n: outcome for n, outcome in outcomes.items() if isinstance(outcome, Exception)}
    return failures, {n: outcome for n, outcome in outcomes.items() if isinstance(outcome, Server)}


def _join(mesh: ClientMesh, mesh_setup: MeshSetup, found: Mapping[int, Server], deadline: float) -> Failures:
    """Make the new sessions those of the nodes that were lost; return why some could not become members again."""
    servers = [mesh.servers[number] for number in found]
    names = ", ".join(f"node {server.node} ({server.host})" for server in servers)
    change = f"{names} {'was' if len(servers) == 1 else 'were'} connected anew"

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
            joining.end()
            for server in servers:
                _end(mesh, server, joining.failures.get(server))
    return {server.node: error for server, error in joining.failures.items()}


def _renew(server: Server, found: Server) -> None:
    """Have a node go on with what a login has found for it."""
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
