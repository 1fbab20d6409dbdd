"""The logins at servers that are all known, side by side; and which servers the options of `pconnect` mean."""

from collections.abc import Sequence

from pconnect.errors import ConfigurationError
from pconnect.link.attempt import Attempt
from pconnect.link.host_names import Host, parse_hosts
from pconnect.session.login import LoginTerms, add_node, log_in_at
from pconnect.session.server import Server
from srp_tools.steps import Steps, run_all


def log_in_at_all(
    targets: Sequence[Host], terms: LoginTerms, deadline: float, outcomes: dict[int, Server | Exception]
) -> None:
    """Log in once at each server, then ask it for all further nodes there; `outcomes` gets that of each node."""
    nodes: dict[tuple[str, int], list[int]] = {}
    for node, target in enumerate(targets, 1):
        nodes.setdefault((target.name, target.port), []).append(node)
    attempts = {first: Attempt(targets[first - 1]) for first, *_ in nodes.values()}
    run_all(
        {
            first: log_in_at(targets[first - 1], first, terms, deadline, attempt)
            for first, attempt in attempts.items()
        },
        deadline,
        outcomes,
    )
    for first, attempt in attempts.items():
        outcome = outcomes[first]
        if isinstance(outcome, Exception):
            outcomes[first] = attempt.explain(outcome)
    further: dict[int, Steps[Server]] = {}
    for first, *others in nodes.values():
        server = outcomes[first]
        if isinstance(server, Server):
            further |= {node: add_node(server, node, terms) for node in others}
        else:
            outcomes |= dict.fromkeys(others, server)
    run_all(further, deadline, outcomes)


def joined_hosts(hosts: object, join: object) -> list[Host] | None:
    """Return the servers whose pools are to be joined; ``None``: just `hosts` are to be connected.

    `join`: as of `pconnect`. Raises `ConfigurationError` if it makes no sense; the text says why.

    Examples
    --------
    >>> [host.label for host in joined_hosts("localhost", True) or []], joined_hosts("localhost", False)
    (['localhost'], None)
    >>> [host.label for host in joined_hosts(None, ["beta", "gamma:12600"]) or []]
    ['beta', 'gamma:12600']
    """
    if join is None or join is False:
        return None
    named = [] if hosts is None else parse_hosts(hosts)
    if join is not True:
        try:
            named += parse_hosts(join)
        except ConfigurationError as error:
            raise ConfigurationError(f"join: {error}; give hosts, or True for the pool of `hosts`") from None
    if not named:
        raise ConfigurationError("join: name at least one server of the pool, as in pconnect(join='beta')")
    return named
