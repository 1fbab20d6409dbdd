"""Logins for many nodes: one at each server, whose session is then asked for all others there; and what came of them.

It is the same when a network is made, gets further nodes, or comes back to its sessions. Only how the logins run
differs: in a loop of their own, or in that of a network that goes on meanwhile.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from pconnect.errors import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    ProtocolError,
    ServerRefusedError,
)
from pconnect.link.attempt import Attempt
from pconnect.link.host_names import Host
from pconnect.session.login import LoginTerms, add_node, log_in_at
from pconnect.session.server import Server
from srp_tools.steps import Steps

#: Errors that are about a host, and so are its reason in a `ConnectError`. Any other ends the call.
REASONS = OSError, ProtocolError

Place = tuple[str, int]  # name or address, and port
Outcomes = dict[int, Server | Exception]
#: Runs steps to their end, and puts what comes of them into the outcomes.
Run = Callable[[Mapping[int, Steps[Server]]], object]
#: As `pconnect.session.login.log_in_at`.
LogIn = Callable[[Host, int, LoginTerms, float, Attempt], Steps[Server]]


def log_in_by_place(
    hosts: Mapping[int, Host],
    terms: LoginTerms,
    deadline: float,
    run: Run,
    outcomes: Outcomes,
    *,
    sessions: Mapping[Place, Server] = {},
    log_in: LogIn | None = None,
) -> None:
    """Log in once at each place, then ask its session for all other nodes there.

    `hosts`: that of each node, by number. `outcomes`: gets the server of each node, or why there is none; it has all
    servers at any time, so that the caller can close them after an error. `sessions`: those that there are, by place.
    `log_in`: does each login.
    """
    places: dict[Place, list[int]] = {}
    for node, host in sorted(hosts.items()):
        places.setdefault((host.name, host.port), []).append(node)
    new = {place: nodes for place, nodes in places.items() if place not in sessions}
    attempts = {nodes[0]: Attempt(hosts[nodes[0]]) for nodes in new.values()}
    log_in = log_in or log_in_at
    run({node: log_in(hosts[node], node, terms, deadline, attempt) for node, attempt in attempts.items()})
    for node, attempt in attempts.items():
        if isinstance(outcome := outcomes[node], Exception):
            outcomes[node] = attempt.explain(outcome)
    further = steps_for_others(new.values(), terms, outcomes)
    for place, server in sessions.items():
        further |= {node: _join(server, hosts[node], node, terms, deadline) for node in places.get(place, ())}
    run(further)


def steps_for_others(
    groups: Iterable[Sequence[int]], terms: LoginTerms, outcomes: Outcomes
) -> dict[int, Steps[Server]]:
    """Return what asks for all nodes of each group but the first, which has an outcome.

    Where the first one has failed, the others have failed with the same reason.
    """
    steps: dict[int, Steps[Server]] = {}
    for first, *others in groups:
        server = outcomes[first]
        if isinstance(server, Server):
            steps |= {node: add_node(server, node, terms) for node in others}
        else:
            outcomes |= dict.fromkeys(others, server)
    return steps


def _join(known: Server, host: Host, node: int, terms: LoginTerms, deadline: float) -> Steps[Server]:
    """Ask a session for a further node; log in if that does not let it in, as one without its first node."""
    try:
        return (yield from add_node(known, node, terms))
    except (ConnectionLostError, ProtocolError):
        return (yield from log_in_at(host, node, terms, deadline))


def sort_outcomes(
    outcomes: Mapping[int, Server | Exception],
) -> tuple[dict[int, Server], dict[int, Exception]]:
    """Return the servers, and the reasons of the nodes that have none, each in the order of the nodes.

    Raises the first error that is about no host; the caller closes what is open.
    """
    ordered = sorted(outcomes.items())
    failures = {node: outcome for node, outcome in ordered if isinstance(outcome, Exception)}
    for error in failures.values():
        if not isinstance(error, REASONS):
            raise error
    return {node: outcome for node, outcome in ordered if isinstance(outcome, Server)}, failures


def refusal(reasons: Mapping[str, Exception]) -> Exception:
    """Return the error for the user, of which the reasons are by host, as `pconnect` does."""
    error = ConnectError(reasons)
    for kind in (AuthenticationError, ServerRefusedError):
        if all(isinstance(reason, kind) for reason in reasons.values()):
            refused = kind(str(error))
            refused.__cause__ = error
            return refused
    return error
