"""Logins for many nodes: one on each server, whose session is then asked for the other nodes; and their outcomes.

The steps are the same when a network is made, gets more nodes, or resumes its sessions. Only the loop that runs the
logins differs: their own, or that of a network that keeps working meanwhile.
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

#: Errors that concern one host, and so become its reason in a `ConnectError`. Any other ends the call.
REASONS = OSError, ProtocolError

Place = tuple[str, int]  # name or address, and port
Outcomes = dict[int, Server | Exception]
#: Runs steps to their end, and puts their results into the outcomes.
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
    """Log in once to each place, then ask its session for all other nodes there.

    `hosts`: that of each node, by number. `outcomes`: receives the server or the error of each node; it has all
    servers at any time, so the caller can close them after an error. `sessions`: existing ones, by place.
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
    """Return steps that ask for the nodes of each group except the first, which has an outcome.

    If the first one has failed, the others fail for the same reason.
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
    """Ask a session for another node; log in if the session refuses, for example because its first node is gone."""
    try:
        return (yield from add_node(known, node, terms))
    except (ConnectionLostError, ProtocolError):
        return (yield from log_in_at(host, node, terms, deadline))


def sort_outcomes(
    outcomes: Mapping[int, Server | Exception],
) -> tuple[dict[int, Server], dict[int, Exception]]:
    """Return the servers, and the errors of nodes without one, each in the order of the nodes.

    Raises the first error that concerns no host; the caller closes the connections.
    """
    ordered = sorted(outcomes.items())
    failures = {node: outcome for node, outcome in ordered if isinstance(outcome, Exception)}
    for error in failures.values():
        if not isinstance(error, REASONS):
            raise error
    return {node: outcome for node, outcome in ordered if isinstance(outcome, Server)}, failures


def refusal(reasons: Mapping[str, Exception]) -> Exception:
    """Return the error for the user, given the reasons by host, as `pconnect` raises it."""
    error = ConnectError(reasons)
    for kind in (AuthenticationError, ServerRefusedError):
        if all(isinstance(reason, kind) for reason in reasons.values()):
            refused = kind(str(error))
            refused.__cause__ = error
            return refused
    return error
