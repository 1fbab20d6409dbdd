"""Logins for further nodes, in the loop of a network that goes on meanwhile."""

import functools
import math
import time
from collections.abc import Mapping
from typing import Any

from pconnect.errors import ConnectionLostError, ProtocolError, ServerBusyError, ServerRefusedError
from pconnect.link.attempt import LOGIN, Attempt
from pconnect.link.host_names import Host
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import LoginTerms, add_node, log_in_at
from pconnect.session.server import Server
from srp_tools import steps
from srp_tools.steps import Steps

_FIRST_PAUSE = 0.2  # seconds, before a server is asked again
_LONGEST_PAUSE = 2.0
_FINAL = ServerRefusedError, ServerBusyError  # it has said why

Outcomes = dict[int, Server | Exception]


def log_in_nodes(
    mesh: ClientMesh,
    hosts: Mapping[int, Host],
    terms: LoginTerms,
    deadline: float,
    *,
    anew: bool = False,
    waits: bool = False,
) -> Outcomes:
    """Log in once at each server where the network has no session, and ask its sessions for all other nodes.

    `hosts`: that of each node, by number. `anew`: whether to log in at all servers. `waits`: whether
    servers may hold a session of these nodes of which they have not seen yet that it is over; they are asked again.

    Returns a server for each node, whose command channel the loop serves, or why there is none.
    """
    logins = _Logins(mesh, hosts, terms, deadline, waits=waits)
    try:
        logins.run({} if anew else _sessions(mesh))
    except BaseException:
        drop(mesh, logins.outcomes)
        raise
    return logins.outcomes


def drop(mesh: ClientMesh, outcomes: Outcomes) -> None:
    """Close what is open of logins; their sessions end."""
    for outcome in outcomes.values():
        if isinstance(outcome, Server):
            mesh.event_loop.discard(outcome.command)


class _Logins:
    """Some logins side by side."""

    def __init__(
        self,
        mesh: ClientMesh,
        hosts: Mapping[int, Host],
        terms: LoginTerms,
        deadline: float,
        *,
        waits: bool,
    ) -> None:
        self.outcomes: Outcomes = {}
        self._mesh = mesh
        self._hosts = hosts
        self._terms = terms
        self._deadline = deadline
        self._waits = waits

    def run(self, sessions: Mapping[tuple[str, int], Server]) -> None:
        """Do all; `sessions`: those that there are, by place."""
        hosts, terms = self._hosts, self._terms
        places: dict[tuple[str, int], list[int]] = {}
        for node, host in hosts.items():
            places.setdefault((host.name, host.port), []).append(node)
        firsts = {place: nodes[0] for place, nodes in places.items() if place not in sessions}
        attempts = {node: Attempt(hosts[node]) for node in firsts.values()}
        self._run_all({node: self._log_in(node, attempt) for node, attempt in attempts.items()})
        for node, attempt in attempts.items():
            outcome = self.outcomes[node]
            if isinstance(outcome, Exception):
                self.outcomes[node] = attempt.explain(outcome)
        further: dict[int, Steps[Server]] = {}
        for place, nodes in places.items():
            others = [node for node in nodes if node not in self.outcomes]
            if place in sessions:
                further |= {node: self._join(sessions[place], node) for node in others}
            elif isinstance(first := self.outcomes[firsts[place]], Server):
                further |= {node: add_node(first, node, terms) for node in others}
            else:
                self.outcomes |= dict.fromkeys(others, first)
        self._run_all(further)
        servers = [outcome for outcome in self.outcomes.values() if isinstance(outcome, Server)]
        assert self._mesh.mesh_setup is not None  # noqa: S101 - nobody could have logged in without it
        self._mesh.mesh_setup.attend(servers, self._mesh.event_loop)

    def _log_in(self, node: int, attempt: Attempt) -> Steps[Server]:
        """Log in, again and again where a server hangs up at the end of a login, if that may pass."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return (yield from log_in_at(self._hosts[node], node, self._terms, self._deadline, attempt))
            except ConnectionLostError as error:
                left = self._deadline - time.monotonic()
                if not self._waits or attempt.phase is not LOGIN or isinstance(error, _FINAL) or left < pause:
                    raise
            yield from steps.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _join(self, known: Server, node: int) -> Steps[Server]:
        """Ask a session for a further node; log in if that does not let it in, as one without its first node."""
        try:
            return (yield from add_node(known, node, self._terms))
        except (ConnectionLostError, ProtocolError):
            return (yield from log_in_at(self._hosts[node], node, self._terms, self._deadline))

    def _run_all(self, logins: Mapping[int, Steps[Server]]) -> None:
        """Run logins side by side, until each has ended; after an error, none goes on."""
        background = self._mesh.event_loop.background
        tasks: list[Any] = []
        try:
            for node, login in logins.items():
                end = functools.partial(self.outcomes.__setitem__, node)
                tasks.append(background.start(login, self._deadline, end))
            self._mesh.event_loop.run_until(
                lambda: all(node in self.outcomes for node in logins), math.inf, "logins at further servers"
            )
        except BaseException:
            for task in tasks:
                background.cancel(task)
            raise


def _sessions(mesh: ClientMesh) -> dict[tuple[str, int], Server]:
    """Return a node of each session that there is, by the place where the client has logged in."""
    found: dict[tuple[str, int], Server] = {}
    for node, host in sorted(mesh.growth.hosts.items()):
        if node in mesh.servers and mesh.servers[node].state == "open":
            found.setdefault((host.name, host.port), mesh.servers[node])
    return found
