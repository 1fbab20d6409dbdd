"""`net.remove`: nodes leave a running network; their numbers stay unused."""

import concurrent.futures
import contextlib
import time
import warnings
from collections.abc import Callable, Collection, Sequence

from pconnect.errors import ConfigurationError
from pconnect.growth.adding import changing, tell_change
from pconnect.growth.joining import await_told, tell_members, were
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.messaging.send_receive import resolve
from pconnect.routes.keeper import RouteWarning
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.node_state import NodeState
from pconnect.session.server import Server
from srp_tools.steps import deadline_after

Nodes = int | Connection | Network | Collection[int]

# Time for a session to end, in addition to the grace period of its commands.
_END_SECONDS = 5.0
_LOOK_SECONDS = 0.02  # between two checks of another thread


def remove_nodes(mesh: ClientMesh, nodes: Nodes, grace: float) -> None:
    """Remove nodes from a network; see `pconnect.views.growth_views.GrowthView.remove`."""
    mesh.event_loop.catch_up()
    numbers = numbers_of(mesh, nodes)
    with changing(mesh, "nodes are being removed") as mesh_setup:
        cut = mesh_setup.routes.cut_by(numbers) if mesh_setup.routes is not None else ""
        servers = [mesh.servers[number] for number in numbers]
        change = f"{were(servers)} removed from the network"
        try:
            if mesh.scheduler is not None:
                _serve_until(mesh, mesh.scheduler.changes.retire(numbers, grace), grace)
            _tell(mesh, servers, change)
            _close(mesh, servers, grace)
        finally:
            with mesh.event_loop.sigint_deferred:
                mesh.drop_servers(numbers, change)
                if mesh.scheduler is not None:  # only now, so that a job never runs twice at the same time
                    left = mesh.scheduler.changes.forget(numbers)
        if mesh.scheduler is not None:
            _serve_until(mesh, left)
        for server in servers:
            server.report_unseen()
        tell_change(mesh)
    if cut:
        warnings.warn(cut, RouteWarning, stacklevel=3)


def numbers_of(mesh: ClientMesh, nodes: Nodes) -> list[int]:
    """Return the numbers of some nodes with an engine. Raises `ConfigurationError` for any other node."""
    if isinstance(nodes, Connection | Network):
        given, found = resolve(nodes)
        if given is not mesh:
            raise ConfigurationError("these nodes belong to another network")
        return [node.node for node in found]
    numbers = [nodes] if isinstance(nodes, int) else list(nodes)
    for number in numbers:
        if number in mesh.removed:
            raise ConfigurationError(mesh.why_removed(number))
        if number not in mesh.servers:
            there = ", ".join(map(str, mesh.servers)) or "none"
            raise ConfigurationError(f"{number!r} is not a node with an engine; these are {there}")
    return list(dict.fromkeys(numbers))


def renew_job_nodes(mesh: ClientMesh, numbers: Sequence[int], grace: float, *, away: bool) -> None:
    """End jobs on lost nodes; those in sessions begun for jobs get some seconds to finish. `away`: see `renew`."""
    if mesh.scheduler is not None:
        _serve_until(mesh, mesh.scheduler.changes.renew(numbers, grace, away=away), grace)


def _serve_until(mesh: ClientMesh, left: concurrent.futures.Future[None], grace: float = 0.0) -> None:
    """Run the loop of the network until the thread of the jobs is done; that thread does not wake this one."""
    deadline = time.monotonic() + grace + _END_SECONDS
    while not left.done() and time.monotonic() < deadline:
        _wait(mesh, left.done, time.monotonic() + _LOOK_SECONDS)
    if left.done():
        left.result()


def _tell(mesh: ClientMesh, servers: Sequence[Server], change: str) -> None:
    number, others = mesh.next_number(), [s for s in mesh.servers.values() if s not in servers]
    nodes = [server.node for server in servers]
    tell_members(mesh, others, number, [], nodes, change, deadline_after(None))
    await_told(mesh, others, number)


def _close(mesh: ClientMesh, servers: Sequence[Server], grace: float) -> None:
    with mesh.event_loop.sigint_deferred:
        for server in servers:
            server.ask_to_close(grace)
            mesh.event_loop.flush(server.command)
    ended = time.monotonic() + grace + _END_SECONDS
    _wait(mesh, lambda: all(s.life.state is NodeState.CLOSED or s.command.error for s in servers), ended)

    for server in servers:  # the ends of commands may arrive after the end of the session
        mesh.event_loop.drain(server.data)


def _wait(mesh: ClientMesh, condition: Callable[[], object], deadline: float) -> None:
    with contextlib.suppress(TimeoutError):
        mesh.event_loop.run_until(lambda: bool(condition()), deadline, "nodes to leave")
