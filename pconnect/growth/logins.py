"""Logins for more nodes, in the loop of a network that keeps working meanwhile."""

import functools
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pconnect.errors import ConnectionLostError, ServerBusyError, ServerRefusedError
from pconnect.growth.outcomes import Outcomes, Place, log_in_by_place, sort_outcomes
from pconnect.link.attempt import LOGIN, Attempt
from pconnect.link.host_names import Host
from pconnect.loop.event_loop import EventLoop
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import LoginTerms, log_in_at
from pconnect.session.server import Server
from srp_tools import steps
from srp_tools.steps import Steps

_FIRST_PAUSE = 0.2  # seconds before a server is asked again
_LONGEST_PAUSE = 2.0
_FINAL = ServerRefusedError, ServerBusyError  # the server has given its reason


def log_in_nodes(
    mesh: ClientMesh, hosts: Mapping[int, Host], deadline: float, *, anew: bool = False, waits: bool = False
) -> tuple[dict[int, Server], dict[int, Exception]]:
    """Log in once to each server where the network has no session, and ask the sessions for all other nodes.

    `hosts`: that of each node, by number. `anew`: whether to log in to all servers. `waits`: whether servers may still
    hold an old session of these nodes, because they have not yet noticed its end; they are asked again.

    Returns a server for each node, whose command channel is in the loop, and an error for each of the others. If
    it raises, no connection is open.
    """
    assert mesh.mesh_setup is not None  # noqa: S101 - see `pconnect.growth.adding.changing`
    assert mesh.mesh_setup.terms is not None  # noqa: S101 - the same
    outcomes: Outcomes = {}
    try:
        log_in_by_place(
            hosts,
            mesh.mesh_setup.terms,
            deadline,
            lambda logins: run_in_loop(mesh.event_loop, logins, deadline, outcomes),
            outcomes,
            sessions={} if anew else _sessions(mesh),
            log_in=_log_in_patiently if waits else None,
        )
        servers, failures = sort_outcomes(outcomes)
        mesh.mesh_setup.attend(servers.values(), mesh.event_loop)
    except BaseException:
        drop(mesh, [outcome for outcome in outcomes.values() if isinstance(outcome, Server)])
        raise
    return servers, failures


def drop(mesh: ClientMesh, servers: Iterable[Server]) -> None:
    """Close the connections of logins; their sessions end."""
    for server in servers:
        mesh.event_loop.discard(server.command)


def run_in_loop(
    event_loop: EventLoop, logins: Mapping[Any, Steps[Server]], deadline: float, outcomes: dict[Any, Any]
) -> None:
    """Run logins in parallel until each has ended; after an error, cancel them all."""
    tasks: list[Any] = []
    try:
        for key, login in logins.items():
            end = functools.partial(outcomes.__setitem__, key)
            with event_loop.sigint_deferred:
                tasks.append(event_loop.background.start(login, deadline, end))
        event_loop.run_until(
            lambda: all(key in outcomes for key in logins), math.inf, "logins to more servers"
        )
    except BaseException:
        with event_loop.sigint_deferred:
            for task in tasks:
                event_loop.background.cancel(task)
        raise


def _log_in_patiently(
    host: Host, node: int, terms: LoginTerms, deadline: float, attempt: Attempt
) -> Steps[Server]:
    """Log in; try again if the server hangs up at the end of a login, because that may pass."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return (yield from log_in_at(host, node, terms, deadline, attempt))
        except ConnectionLostError as error:
            left = deadline - time.monotonic()
            if attempt.phase is not LOGIN or isinstance(error, _FINAL) or left < pause:
                raise
        yield from steps.pause(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _sessions(mesh: ClientMesh) -> dict[Place, Server]:
    """Return a node of each existing session, by the place where the client has logged in."""
    found: dict[Place, Server] = {}
    for node, host in sorted(mesh.growth.hosts.items()):
        if node in mesh.servers and mesh.servers[node].state == "open":
            found.setdefault((host.name, host.port), mesh.servers[node])
    return found
