"""`pconnect`: from host names and a password to a network.

All servers are handled in parallel, in two steps that share the deadline of the call:

1. Log in to each server; see `pconnect.session.login`.
2. Send each server a description of the network, open the data connections to all engines, and wait until every engine
   reports that its own connections to the others are up.
"""

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pconnect.detach.recovery import recover as recover_jobs
from pconnect.detach.token import Token, unpack_token
from pconnect.errors import ConfigurationError, ConnectError, ServerRefusedError
from pconnect.growth.outcomes import log_in_by_place, refusal, sort_outcomes
from pconnect.joblib.register import register_if_imported
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT
from pconnect.link.host_names import Host, parse_hosts
from pconnect.link.missing_hosts import Attendance, MissingHostsWarning
from pconnect.loop.event_loop import EventLoop
from pconnect.pool.finding import Finding
from pconnect.pool.following import Following, interval_of
from pconnect.pool.given import joined_hosts
from pconnect.profiles import NoHostsError, configured
from pconnect.protocol.frames import DEFAULT_LIMITS, Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.resume.come_back import come_back
from pconnect.resume.keeping import attach, check_resume, save
from pconnect.resume.resume_file import path_of, read_file
from pconnect.routes.keeper import RouteWarning
from pconnect.scheduler.placement import EVEN, Placement
from pconnect.session import open_networks, versions
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.login import LoginTerms, find_credentials, make_terms
from pconnect.session.mesh_setup import MeshSetup, await_reasons, mesh_error
from pconnect.session.node_state import NodeState
from pconnect.session.remote_calls import client_mesh
from pconnect.session.server import Server
from pconnect.views.network_views import ClientConnection, ClientNetwork, ResumableConnection
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after, describe_seconds, run_all


@configured
def pconnect(
    hosts: object = None,
    *,
    join: object = None,
    profile: str | None = None,  # noqa: ARG001 - `configured` takes it
    recover: str | None = None,
    resume: str | Path | None = None,
    take_over: bool = False,
    user: str | None = None,
    password: str | None = None,
    password_file: str | Path | None = None,
    use_tls: bool = True,
    required: bool | int = True,
    timeout: float = 30.0,
    peer_timeout: float = DEFAULT_PEER_TIMEOUT,
    max_message_bytes: int = DEFAULT_LIMITS.max_message_bytes,
    max_inbox_bytes: int = DEFAULT_LIMITS.max_inbox_bytes,
    check_versions: bool = True,
    local_links: bool = True,
    accept: object = None,
    placement: str = EVEN,
    exclusive: bool = False,
    elastic: bool | float = False,
) -> ClientNetwork:
    """Log in to servers and return the network of the client and their engines.

    Parameters
    ----------
    hosts
        ``"name"``, ``"name:port"``, ``"[v6 address]:port"``, ``(name, port)``, or a list of these. The same server may
        appear more than once; each occurrence is a node with its own engine. ``"alpha*8"`` and ``{"alpha": 8}`` are
        short for ``["alpha"] * 8``, also within a list, as in ``["alpha*8", "beta:4000*2"]``. By default, the hosts
        come from ``PCONNECT_HOSTS``, such as ``alpha*8 beta:4000``, or from the client's configuration.
    join
        Connect all servers of a pool, found through the servers that you name: ``"beta"``, or a list. ``True`` means
        the pool of `hosts`, as in ``pconnect("localhost", join=True)``. The client logs in to these servers, asks each
        for the servers that have announced themselves to it (``pserver start --join``), asks those in turn, and so on.
        Nodes are numbered in the order in which you, and then the servers, named them. A server with several addresses
        is one node. Only one of the servers that you name must answer: the others are reported as missing, as with
        `required`, which may set the minimum number of engines. Default: ``PCONNECT_JOIN``. See doc/howto/pool.md.
    profile
        The profile in the client's configuration that sets the options that you leave out. Default:
        ``PCONNECT_PROFILE``, or else the top level of that file. See doc/reference/configuration.md. An empty string
        ignores the configuration.
    recover
        The token that `detach` of another network returned, instead of `hosts`. Its servers are connected, and
        ``net.jobs`` has the futures of its jobs.
    resume
        A name, or the path of a private file. If a client that connected with it vanishes, for example because its
        kernel crashed, the same call returns to its sessions, as long as the servers' ``--orphan-timeout`` has not
        passed. ``net.resumed`` says whether that happened, and ``net.commands`` has the commands of the earlier client.
        A client that only lost its connections returns by itself for its jobs; jobs that had begun run again, unless
        they have ``retries=0``. If there is no session to return to, the call connects anew and writes the file. See
        doc/reference/connecting.md.
    take_over
        With `resume`: take the sessions over even if another client is using them; that client loses them.
    user, password
        Credentials. Missing ones come from the environment (``PCONNECT_USER``, ``PCONNECT_PASSWORD``), from the client
        file that ``generate-srp-data`` writes, or from a prompt, in that order.
    password_file
        A client file other than the default one.
    use_tls
        ``False`` for servers started with ``--no-tls``: no encryption and no login.
    required
        ``False`` to continue without hosts that cannot be connected, as long as there is at least one; a number sets
        the minimum number of engines. A `MissingHostsWarning` names the missing hosts, and ``net.missing`` has the
        reason for each. Connected engines are numbered from 1, in the order of `hosts`. A host that does not answer
        within half of `timeout` counts as missing.
    timeout
        Limit for the whole call, in seconds. If a server is too busy to accept this client, the call tries again until
        then, after random and growing pauses of 0.1 to 3 seconds.
    peer_timeout
        Seconds after which a machine that has vanished counts as lost.
    max_message_bytes
        Size limit of one message, on all nodes of this network. It also limits the number of items in a value, in
        lists, dicts and so on: one for each 1024 bytes of the limit, but at least 2**20.
    max_inbox_bytes
        When this many bytes from one peer are waiting for `precv` on a node, the node stops reading: the sender waits.
    check_versions
        Whether to warn, with a `VersionWarning`, if versions that matter differ between nodes.
    local_links
        Whether processes of one account on one machine exchange data over Unix sockets instead of TLS; see
        doc/security.md.
    elastic
        ``True`` to follow the pool: while there are more jobs than slots, the client asks its servers every 5 seconds
        which other servers they know, and adds new ones, as `net.add` does. A number sets another interval in seconds.
        This happens in a thread, so it works however you wait for the jobs, and it delays no result. ``net.missing``
        names servers that cannot be reached; they are tried again after growing pauses. No server gets a second engine,
        and a server that you have removed returns only when you add it. Servers that leave the pool stay in the network
        as lost nodes.
    accept
        A function that decides which servers get jobs, such as ``lambda server: server.memory_free > 8e9``. While there
        are jobs, it is called every 5 seconds, in the thread of the jobs, with a
        `pconnect.statistics.server_facts.ServerFacts` of each server, and returns whether jobs may begin there. Waiting
        jobs go to other servers or stay in the queue; ``job.why`` says why. Programs are jobs; commands and arrays are
        not. If the function raises an error or returns ``None``, all waiting jobs fail with a `ConfigurationError` that
        says so.
    placement
        ``"even"``: the least busy server gets the next job. ``"ordered"``: the first of `hosts` gets it as long as it
        has a free slot, then the second, and so on.
    exclusive
        Reserve each server for this network: it accepts no other session while this network exists, and refuses this
        one while it has other sessions (`ServerRefusedError`, whose text names their users). The server's administrator
        must have allowed this (``--allow-exclusive``), or you must be one. See doc/reference/connecting.md.

    Returns
    -------
    Network
        Node 0 is the client, nodes 1 to n are engines on `hosts`, in that order.

    Warns
    -----
    MissingHostsWarning
        Some hosts are missing, and `required` allows that.
    VersionWarning
        See `check_versions`.

    Raises
    ------
    ConnectError
        The network could not be made; the text lists each host with its reason, and ``reasons`` has the errors. If all
        reasons are refused logins, the error is an `AuthenticationError`; if all are servers that accept no new
        session, it is a `ServerRefusedError`. No connection stays open.
    CredentialError
        There is no password, or its file cannot be used.
    ConfigurationError
        A host, an option or the configuration is invalid, or no hosts are given.

    Notes
    -----
    Counterpart of ``pconnect`` in GNU Octave's parallel package 4.0.2.
    """
    deadline = deadline_after(timeout)
    rules, interval = Placement(accept, placement), interval_of(elastic)
    file = None if resume is None else path_of(resume)
    saved = None if file is None else read_file(file)
    joined = joined_hosts(hosts, join)
    check_resume(file, saved, None if joined else hosts, recover, use_tls=use_tls)
    token = None if recover is None else unpack_token(recover)
    if token is not None and (hosts is not None or joined):
        raise ConfigurationError(
            "hosts and recover: the token already names the hosts; give only one of them"
        )
    if token is None and hosts is None and saved is None and not joined:
        raise NoHostsError
    if (joined or interval) and not use_tls:
        option = "join" if joined else "elastic"
        raise ConfigurationError(
            f"{option} and use_tls=False: servers without a login have no pool; leave out one of them"
        )
    targets = list(saved.hosts) if saved else joined or parse_hosts(list(token.hosts) if token else hosts)
    if not targets:
        raise ConfigurationError("hosts is empty: name at least one server, or use local_network")
    attendance = Attendance(targets, required, is_pool=bool(joined))
    credentials = find_credentials(user, password, password_file) if use_tls else None
    limits = Limits(max_message_bytes, max_inbox_bytes)
    if file is not None and saved is not None and credentials is not None:
        back = come_back(
            saved, credentials, attendance, deadline, takes_over=take_over, is_exclusive=exclusive
        )
        if back is not None:
            attach(back, attendance, file)
            _set_rules(back, rules, interval)
            return back
        attendance = Attendance(joined or targets, required, is_pool=bool(joined))
    finding = Finding(joined) if joined else None
    network = None
    while network is None:
        terms = make_terms(credentials, limits, peer_timeout, local_links=local_links, is_exclusive=exclusive)
        try:
            network = _connect(attendance, terms, deadline, finding, is_resumable=file is not None)
        except _FailedNodes as failed:
            hosts_now, finding = attendance.hosts, None
            if not attendance.may_lack(failed.errors):
                raise refusal({hosts_now[node - 1].label: e for node, e in failed.errors.items()}) from None
    _set_rules(network, rules, interval)
    _warn(network, attendance, check_versions=check_versions)
    if file is not None:
        save(network, file)
    if token is not None:
        _recover(network, token, attendance, deadline)
    return network


def _set_rules(network: ClientNetwork, rules: Placement, interval: float) -> None:
    mesh = client_mesh(network.mesh)
    mesh.jobs.placement = rules
    if interval:
        is_resumable = mesh.mesh_setup is not None and mesh.mesh_setup.is_resumable
        make = ResumableConnection if is_resumable else ClientConnection
        mesh.growth.follower = Following(mesh, interval, make)


class _FailedNodes(Exception):  # noqa: N818 - it does not leave this module
    """The client cannot connect to these nodes; the network can be made without them."""

    def __init__(self, errors: Mapping[int, Exception]) -> None:
        super().__init__()
        self.errors = errors


def _connect(
    attendance: Attendance,
    terms: LoginTerms,
    deadline: float,
    finding: Finding | None,
    *,
    is_resumable: bool,
) -> ClientNetwork:
    """Try to make a network of all available or discovered hosts. After an error, no connection is open."""
    logins: dict[Any, Server | Exception] = {}
    event_loop = EventLoop()
    try:
        until = attendance.try_until(deadline)
        if finding is None:
            hosts = dict(enumerate(attendance.hosts, 1))
            log_in_by_place(hosts, terms, until, lambda steps: run_all(steps, until, logins), logins)
            servers = _successes(logins)
            for server in servers:
                event_loop.add(server.command)
        else:
            finding.run(terms, until, event_loop, logins)
            attendance.take_in(finding.hosts, finding.closure.missing())
            servers = _successes(logins)
        return _mesh(attendance.hosts, terms, servers, until, event_loop, is_resumable=is_resumable)
    except BaseException:
        event_loop.close()
        for outcome in logins.values():
            if isinstance(outcome, Server):
                outcome.command.close()
                outcome.data.close()
        raise


def _recover(network: ClientNetwork, token: Token, attendance: Attendance, deadline: float) -> None:
    mesh = client_mesh(network.mesh)
    try:
        mesh.jobs.recovered = recover_jobs(mesh, token, deadline, attendance.places)
    except BaseException:
        mesh.close(1.0)
        raise


def _warn(network: ClientNetwork, attendance: Attendance, *, check_versions: bool) -> None:
    client_mesh(network.mesh).attendance = attendance
    try:
        if attendance.missing:
            warnings.warn(str(attendance), MissingHostsWarning, stacklevel=4)
        setup = client_mesh(network.mesh).mesh_setup
        if setup is not None and setup.routes is not None and (relayed := setup.routes.describe()):
            warnings.warn(relayed, RouteWarning, stacklevel=4)
        if check_versions:
            versions.check_versions(network, stacklevel=5)
    except BaseException:  # the user may turn warnings into errors
        network.mesh.event_loop.close()
        raise


def _successes(outcomes: Mapping[int, Server | Exception]) -> list[Server]:
    """Return the successful logins, or raise one error with all failures."""
    servers, failures = sort_outcomes(outcomes)
    if failures:
        raise _FailedNodes(failures)
    return list(servers.values())


def _mesh(
    targets: list[Host],
    terms: LoginTerms,
    servers: list[Server],
    deadline: float,
    event_loop: EventLoop,
    *,
    is_resumable: bool,
) -> ClientNetwork:
    """Connect every node with every other. The command channels are already in `event_loop`."""
    event_loop.sigint_deferred.spins = True
    mesh_setup = MeshSetup.of(terms, versions.own_versions()["version"], is_resumable=is_resumable)
    if mesh_setup.routes is not None:
        mesh_setup.routes.attend(servers, event_loop)
    setup = mesh_setup.setup(servers, deadline)
    for server in servers:
        server.command.post(Kind.SETUP, server.node, setup | mesh_setup.local_links(server, servers))
        event_loop.flush(server.command)
    _open_data_connections(mesh_setup, servers, event_loop, deadline)
    _await_meshed(servers, event_loop, deadline)
    own = ClientConnection(0, "client", None)
    mesh = ClientMesh(terms.network_id, servers, event_loop, terms.limits, own)
    mesh.mesh_setup = mesh_setup
    mesh.begin_renewals()
    mesh.foreign = versions.foreign_pythons(servers)
    mesh.growth.hosts = dict(enumerate(targets, 1))
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
    failed: dict[Server, Exception] = {}
    for server in servers:
        outcome = outcomes[server.node]
        if isinstance(outcome, Channel):
            make = ResumableConnection if mesh_setup.is_resumable else ClientConnection
            data = make(server.node, server.host, outcome, role=Role.CLIENT_DATA, limits=mesh_setup.limits)
            server.attach(data)
            event_loop.add(data)
        else:
            failed[server] = outcome
    if failed:
        await_reasons(list(failed), event_loop, deadline)
        raise _FailedNodes({s.node: mesh_error(s) or error for s, error in failed.items()})


def _await_meshed(servers: list[Server], event_loop: EventLoop, deadline: float) -> None:
    joining, began = list(servers), time.monotonic()

    def have_joined() -> bool:
        while joining and not _is_joining(joining[-1]):  # do not check all of them after each message
            joining.pop()
        return not joining

    try:
        event_loop.run_until(have_joined, deadline, "the network")
    except TimeoutError:
        silent = [server for server in servers if _is_joining(server)]
        waited = describe_seconds(deadline - began)
        reason = f"timed out after {waited} waiting for its connections to the other servers"
        raise ConnectError({server.host: TimeoutError(reason) for server in silent}) from None
    await_reasons([server for server in servers if mesh_error(server)], event_loop, deadline)
    errors = {server: error for server in servers if (error := mesh_error(server))}
    # The other nodes may have failed only because these were refused.
    refused = {s.node: error for s, error in errors.items() if isinstance(error, ServerRefusedError)}
    if refused:
        raise _FailedNodes(refused)
    if errors:
        reasons = {server.host: error for server, error in errors.items()}
        raise ConnectError(reasons)


def _is_joining(server: Server) -> bool:
    return server.life.state is NodeState.JOINING
