"""`pconnect`: from host names and a password to a network.

All servers are served side by side, in two steps, each within the one deadline of the call:

1. log in at each server, see `pconnect.session.login`;
2. tell each server the whole network, open the data connections to all engines, and wait until every engine says that
   its own connections to the others stand.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pconnect.detach.recovery import recover as recover_jobs
from pconnect.detach.token import Token, unpack_token
from pconnect.errors import AuthenticationError, ConfigurationError, ConnectError, ProtocolError
from pconnect.joblib.register import register_if_imported
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT
from pconnect.link.host_names import Host, parse_hosts
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import DEFAULT_LIMITS, Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.session import open_networks, versions
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import LoginTerms, add_node, find_credentials, log_in_at, make_terms
from pconnect.session.mesh_setup import MeshSetup, mesh_error
from pconnect.session.node_state import NodeState
from pconnect.session.remote_calls import client_mesh
from pconnect.session.server import Server
from pconnect.views.network_views import ClientConnection, ClientNetwork
from srp_tools.channel import Channel
from srp_tools.steps import Steps, deadline_after, remaining, run_all

T = TypeVar("T")


def pconnect(
    hosts: object = None,
    *,
    recover: str | None = None,
    user: str | None = None,
    password: str | None = None,
    password_file: str | Path | None = None,
    use_tls: bool = True,
    timeout: float = 30.0,
    peer_timeout: float = DEFAULT_PEER_TIMEOUT,
    max_message_bytes: int = DEFAULT_LIMITS.max_message_bytes,
    max_inbox_bytes: int = DEFAULT_LIMITS.max_inbox_bytes,
    check_versions: bool = True,
    local_links: bool = True,
) -> ClientNetwork:
    """Log in at servers and return the network of the client and their engines.

    Parameters
    ----------
    hosts
        ``"name"``, ``"name:port"``, ``"[v6 address]:port"``, ``(name, port)``, or a list of these. The same server may
        appear more than once; each time is a node with an engine of its own. A mapping says how many: ``{"alpha": 8,
        "beta:4000": 2}`` is ``["alpha"] * 8 + ["beta:4000"] * 2``.
    recover
        What `detach` of another network has returned, instead of `hosts`: its servers are connected, and ``net.jobs``
        has the futures of its jobs.
    user, password
        Credentials. What is missing comes from the environment (``PCONNECT_USER``, ``PCONNECT_PASSWORD``), from the
        client file that ``generate-srp-data`` writes, or from a prompt, in that order.
    password_file
        Another client file than the default.
    use_tls
        ``False`` for servers started with ``--no-tls``: no encryption and no login.
    timeout
        Limit for the whole call, in seconds. A server that turns this client away because it is busy is asked again
        within it, after random and growing pauses of 0.1 to 3 seconds.
    peer_timeout
        Seconds after which a machine that vanished counts as lost.
    max_message_bytes
        Limit of one message, at all nodes of this network.
    max_inbox_bytes
        When so much has arrived at a node from another and waits for `precv`, no more is read: the sender waits.
    check_versions
        Whether to warn, with a `VersionWarning`, of different versions that matter at the nodes.
    local_links
        Whether processes of one account on one machine exchange data over Unix sockets instead of TLS; see
        doc/security.md.

    Returns
    -------
    Network
        Node 0 is the client, nodes 1 to n are engines at `hosts`, in that order.

    Raises
    ------
    ConnectError
        It could not be made; the text has each host and its reason, and ``reasons`` the errors. If the only reasons are
        refused logins, it is an `AuthenticationError`. Nothing stays open.
    CredentialError
        No password is to be had, or its file cannot be used.
    ConfigurationError
        A host or an option cannot be understood.

    Notes
    -----
    Counterpart of ``pconnect`` in GNU Octave's parallel package 4.0.2.
    """
    deadline = deadline_after(timeout)
    token = None if recover is None else unpack_token(recover)
    if token is not None and hosts is not None:
        raise ConfigurationError("hosts and recover: the token says which hosts, give only one of them")
    targets = parse_hosts(list(token.hosts) if token else [] if hosts is None else hosts)
    if not targets:
        raise ConfigurationError("hosts is empty: name at least one server, or use local_network")
    credentials = find_credentials(user, password, password_file) if use_tls else None
    terms = make_terms(
        credentials, Limits(max_message_bytes, max_inbox_bytes), peer_timeout, local_links=local_links
    )
    logins: dict[int, Server | Exception] = {}
    try:
        _log_in(targets, terms, deadline, logins)
        network = _mesh(terms, _successes(logins, targets), targets, deadline)
        if check_versions:
            _check_versions(network)
        if token is not None:
            _recover(network, token, deadline)
        return network
    except BaseException:
        for outcome in logins.values():
            if isinstance(outcome, Server):
                outcome.command.close()
                outcome.data.close()
        raise


def _log_in(
    targets: list[Host], terms: LoginTerms, deadline: float, outcomes: dict[int, Server | Exception]
) -> None:
    """Log in once at each server, then ask it for all further nodes there; `outcomes` gets that of each node."""
    nodes: dict[tuple[str, int], list[int]] = {}
    for node, target in enumerate(targets, 1):
        nodes.setdefault((target.name, target.port), []).append(node)
    run_all(
        {first: log_in_at(targets[first - 1], first, terms, deadline) for first, *_ in nodes.values()},
        deadline,
        outcomes,
    )
    further: dict[int, Steps[Server]] = {}
    for first, *others in nodes.values():
        server = outcomes[first]
        if isinstance(server, Server):
            further |= {node: add_node(server, node, terms) for node in others}
    run_all(further, deadline, outcomes)


def _recover(network: ClientNetwork, token: Token, deadline: float) -> None:
    mesh = client_mesh(network.mesh)
    try:
        mesh.recovered = recover_jobs(mesh, token, deadline)
    except BaseException:
        mesh.close(1.0)
        raise


def _check_versions(network: ClientNetwork) -> None:
    try:
        versions.check_versions(network, stacklevel=4)
    except BaseException:  # a user may have warnings raised
        network.mesh.event_loop.close()
        raise


def _successes(outcomes: Mapping[int, T | Exception], targets: list[Host]) -> list[T]:
    """Return the outcomes, or raise for all that failed."""
    reasons = {
        targets[node - 1].label: outcome
        for node, outcome in outcomes.items()
        if isinstance(outcome, Exception)
    }
    if reasons:
        unexpected = [error for error in reasons.values() if not isinstance(error, OSError | ProtocolError)]
        if unexpected:
            raise unexpected[0]
        error = ConnectError(reasons)
        if all(isinstance(reason, AuthenticationError) for reason in reasons.values()):
            raise AuthenticationError(str(error)) from error
        raise error
    return [outcome for _, outcome in sorted(outcomes.items()) if not isinstance(outcome, Exception)]


def _mesh(terms: LoginTerms, servers: list[Server], targets: list[Host], deadline: float) -> ClientNetwork:
    """Connect every node with every other."""
    event_loop = EventLoop()
    event_loop.sigint_deferred.spins = True
    mesh_setup = MeshSetup(
        terms.network_id,
        terms.tls,
        terms.limits,
        terms.peer_timeout,
        directory=str(Path.cwd()),
        authority=terms.authority,
        version=versions.own_versions()["version"],
        network_key=terms.network_key,
        link_key=terms.link_key,
    )
    for server in servers:
        event_loop.add(server.command)
    try:
        left = remaining(deadline)
        setup = mesh_setup.setup(servers, 3600.0 if left is None else left)
        for server in servers:
            server.command.post(Kind.SETUP, server.node, setup | mesh_setup.local_links(server, servers))
            event_loop.flush(server.command)
        _open_data_connections(mesh_setup, servers, event_loop, deadline)
        _await_meshed(servers, event_loop, deadline)
    except BaseException:
        event_loop.close()
        raise
    own = ClientConnection(0, "client", None)
    mesh = ClientMesh(terms.network_id, servers, event_loop, terms.limits, own)
    mesh.mesh_setup = mesh_setup
    mesh.begin_renewals()
    mesh.hosts = [(target.name, target.port) for target in targets]
    open_networks.register(mesh)
    register_if_imported()
    return ClientNetwork(mesh)


def _open_data_connections(
    mesh_setup: MeshSetup, servers: list[Server], event_loop: EventLoop, deadline: float
) -> None:
    steps = {server.node: mesh_setup.dial(server) for server in servers}
    outcomes: dict[int, Channel | Exception] = {}
    try:
        run_all(steps, deadline, outcomes)
    except BaseException:
        for outcome in outcomes.values():
            if isinstance(outcome, Channel):
                outcome.close()
        raise
    failed = {}
    for server in servers:
        outcome = outcomes[server.node]
        if isinstance(outcome, Channel):
            data = ClientConnection(
                server.node, server.host, outcome, role=Role.CLIENT_DATA, limits=mesh_setup.limits
            )
            server.attach(data)
            event_loop.add(data)
        else:
            failed[server] = outcome
    if failed:
        # What the server says of its side is the better reason, if it says something.
        event_loop.poll(0.2)
        raise ConnectError({s.host: mesh_error(s) or error for s, error in failed.items()})


def _await_meshed(servers: list[Server], event_loop: EventLoop, deadline: float) -> None:
    joining = list(servers)

    def have_joined() -> bool:
        while joining and not _is_joining(joining[-1]):  # not all of them after each message
            joining.pop()
        return not joining

    try:
        event_loop.run_until(have_joined, deadline, "the network")
    except TimeoutError:
        silent = [server for server in servers if _is_joining(server)]
        reason = "its connections to the other servers were not made within the time limit"
        raise ConnectError({server.host: TimeoutError(reason) for server in silent}) from None
    reasons = {server.host: error for server in servers if (error := mesh_error(server))}
    if reasons:
        raise ConnectError(reasons)


def _is_joining(server: Server) -> bool:
    return server.life.state is NodeState.JOINING
