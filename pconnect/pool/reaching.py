"""Logins at servers expected at some addresses, in the loop of a network that is in use meanwhile.

A reported address may be wrong, or a lie: no server may answer there, or another one, perhaps one that the network has
already. Therefore the client checks the offer of each server before it requests a session: it must have the expected
id, and one that the network has never had. Only then does the server get a node number, so missing servers use none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pconnect.errors import ConnectionLostError
from pconnect.growth.logins import drop, run_in_loop
from pconnect.growth.outcomes import REASONS
from pconnect.link.attempt import Attempt
from pconnect.link.host_names import Host
from pconnect.routes.location import id_of
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import LoginTerms, log_in_at
from pconnect.session.server import Server
from srp_tools.steps import Steps


class Reached(NamedTuple):
    """A server at which the client has logged in."""

    id: str
    host: Host  #: its address
    server: Server


def reach(
    mesh: ClientMesh, wanted: Mapping[str, Sequence[Host]], deadline: float
) -> tuple[dict[int, Reached], dict[str, Exception]]:
    """Log in at servers side by side, each at the first of its addresses where it answers; `wanted`: addresses by id.

    Returns the servers reached, by node number in order, and the errors of the others, by id. The numbers follow those
    that the network has now, and the loop serves the command channels. After any error all connections are closed.
    """
    reaching = _Reaching(mesh, wanted, deadline)
    outcomes: dict[str, Any] = {}
    try:
        logins: dict[str, Steps[Any]] = {id_: reaching.log_in(id_) for id_ in wanted}
        run_in_loop(mesh.event_loop, logins, deadline, outcomes)
        failures = {id_: outcome for id_, outcome in outcomes.items() if isinstance(outcome, Exception)}
        for id_, error in failures.items():
            if not isinstance(error, REASONS):
                raise error
            failures[id_] = reaching.attempts[id_].explain(error)
        found = {each.server.node: each for each in outcomes.values() if isinstance(each, Reached)}
        assert mesh.mesh_setup is not None  # noqa: S101 - otherwise no login is possible
        mesh.mesh_setup.attend([each.server for each in found.values()], mesh.event_loop)
    except BaseException:
        drop(mesh, [each.server for each in outcomes.values() if isinstance(each, Reached)])
        raise
    return dict(sorted(found.items())), failures


class _Reaching:
    """Several logins side by side."""

    def __init__(self, mesh: ClientMesh, wanted: Mapping[str, Sequence[Host]], deadline: float) -> None:
        self.attempts: dict[str, Attempt] = {}  #: the last attempt for each server
        self._mesh = mesh
        self._wanted = wanted
        self._deadline = deadline
        self._numbers: dict[str, int] = {}  # by id
        self._first = len(mesh.connections)

    def log_in(self, id_: str) -> Steps[Reached]:
        """Log in at the first address where this server answers."""
        assert self._mesh.mesh_setup is not None  # noqa: S101 - see `pconnect.growth.adding.changing`
        assert self._mesh.mesh_setup.terms is not None  # noqa: S101 - see `pconnect.growth.adding.changing`
        terms: LoginTerms = replace(
            self._mesh.mesh_setup.terms, choose_node=lambda offer: self._choose(id_, offer)
        )
        for host in self._wanted[id_]:
            attempt = self.attempts[id_] = Attempt(host)
            try:
                return Reached(id_, host, (yield from log_in_at(host, 0, terms, self._deadline, attempt)))
            except REASONS:
                if id_ in self._numbers or host is self._wanted[id_][-1]:
                    raise
        raise ConnectionLostError("no address is known for it")

    def _choose(self, id_: str, offer: Mapping[str, Any]) -> Steps[int]:
        """Return the node number of the server that answers; 0 if it is another one, or the network has it by now."""
        if id_of(offer) != id_ or id_ in self._mesh.growth.ids:
            return 0
        return self._numbers.setdefault(id_, self._first + len(self._numbers))
        yield
