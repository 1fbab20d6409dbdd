"""Logins at servers that are expected at some addresses, in the loop of a network that goes on meanwhile.

Who says where a server is may be wrong, or may lie: another server may answer there, which the network has already, or
none at all. So the offer of each server is looked at before it gets a session: it must have the id that is expected,
and one that the network has not had. A server takes its number only then, so one that is not there uses none up.
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
    host: Host  #: where it was
    server: Server


def reach(
    mesh: ClientMesh, wanted: Mapping[str, Sequence[Host]], deadline: float
) -> tuple[dict[int, Reached], dict[str, Exception]]:
    """Log in at servers, side by side, each at the first of its hosts where it answers; `wanted`: these, by id.

    Returns what was reached by the number of its node, in that order; these numbers follow those of the network now.
    The loop serves the command channels. And why others were not reached, by id. After any error, nothing is open.
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
        assert mesh.mesh_setup is not None  # noqa: S101 - there could have been no login
        mesh.mesh_setup.attend([each.server for each in found.values()], mesh.event_loop)
    except BaseException:
        drop(mesh, [each.server for each in outcomes.values() if isinstance(each, Reached)])
        raise
    return dict(sorted(found.items())), failures


class _Reaching:
    """Some logins side by side."""

    def __init__(self, mesh: ClientMesh, wanted: Mapping[str, Sequence[Host]], deadline: float) -> None:
        self.attempts: dict[str, Attempt] = {}  #: the last one of each
        self._mesh = mesh
        self._wanted = wanted
        self._deadline = deadline
        self._numbers: dict[str, int] = {}  # by id
        self._first = len(mesh.connections)

    def log_in(self, id_: str) -> Steps[Reached]:
        """Log in at the first place where this server answers."""
        assert self._mesh.mesh_setup is not None  # noqa: S101 - see `pconnect.growth.adding.changing`
        assert self._mesh.mesh_setup.terms is not None  # noqa: S101 - the same
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
        raise ConnectionLostError("it has no address")

    def _choose(self, id_: str, offer: Mapping[str, Any]) -> Steps[int]:
        """Return the number of the node of the server that answers; 0 if it is another one, or known by now."""
        if id_of(offer) != id_ or id_ in self._mesh.growth.ids:
            return 0
        return self._numbers.setdefault(id_, self._first + len(self._numbers))
        yield
