"""`pconnect`: from host names and a password to a network.

All servers are served side by side, in two steps, each within the one deadline of the call:

1. log in at each server, see `pconnect.session.login`;
2. tell each server the whole network, open the data connections to all engines, and wait until every engine says that
   its own connections to the others stand.
"""

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
from srp_tools.steps import deadline_after, run_all


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
    """Log in at servers and return the network of the client and their engines.

    Parameters
    ----------
    hosts
        ``"name"``, ``"name:port"``, ``"[v6 address]:port"``, ``(name, port)``, or a list of these. The same server may
        appear more than once; each time is a node with an engine of its own. ``"alpha*8"`` and ``{"alpha": 8}`` are
        ``["alpha"] * 8``, also within a list, as in ``["alpha*8", "beta:4000*2"]``. Without them, the hosts of
        ``PCONNECT_HOSTS``, such as ``alpha*8 beta:4000``, or else of the client's configuration.
    join
        Connect all servers of a pool, which are found through those that you name: ``"beta"``, or a list; or ``True``
        for the pool of `hosts`, as in ``pconnect("localhost", join=True)``. The client logs in at these, asks each for
        the servers that have announced themselves there (``pserver start --join``), goes on with those, and so on. The
        nodes have the order in which they were named: by you first, then by servers. A server that has several
        addresses is one node. One of those that you name is enough: all others that cannot be reached are reported as
        with `required`, which may be the least number of engines. Or ``PCONNECT_JOIN``. See doc/howto/pool.md.
    profile
        The part of the client's configuration that gives all options that are left out, or ``PCONNECT_PROFILE``;
        without both, the top of that file does. See doc/reference/configuration.md. An empty text leaves the
        configuration aside.
    recover
        What `detach` of another network has returned, instead of `hosts`: its servers are connected, and ``net.jobs``
        has the futures of its jobs.
    resume
        A name, or the path of a private file. If a client vanishes that was connected with it, as a kernel that
        crashes, the same call comes back to its sessions, for as long as the servers' ``--orphan-timeout`` lets them
        wait: ``net.resumed`` tells whether it has, and ``net.commands`` has the commands of the client before. A
        client that was only away comes back by itself for its jobs; those that had begun run again, unless they have
        ``retries=0``. If nothing is there to come back to, it connects anew, and writes the file. See
        doc/reference/connecting.md.
    take_over
        With `resume`: come back even if another client has the sessions, which loses them.
    user, password
        Credentials. What is missing comes from the environment (``PCONNECT_USER``, ``PCONNECT_PASSWORD``), from the
        client file that ``generate-srp-data`` writes, or from a prompt, in that order.
    password_file
        Another client file than the default.
    use_tls
        ``False`` for servers started with ``--no-tls``: no encryption and no login.
    required
        ``False`` to go on without hosts that cannot be connected, as long as there is one; a number to go on if there
        are at least so many engines. A `MissingHostsWarning` names the others, and ``net.missing`` has the reason of
        each. The engines that are there have the numbers from 1, in the order of `hosts`. A host that does not answer
        in half of `timeout` counts as missing.
    timeout
        Limit for the whole call, in seconds. A server that turns this client away because it is busy is asked again
        within it, after random and growing pauses of 0.1 to 3 seconds.
    peer_timeout
        Seconds after which a machine that vanished counts as lost.
    max_message_bytes
        Limit of one message, at all nodes of this network. It also limits the items of a value, in lists, dicts and the
        like: one for each 1024 bytes of it, but always 2**20.
    max_inbox_bytes
        When so much has arrived at a node from another and waits for `precv`, no more is read: the sender waits.
    check_versions
        Whether to warn, with a `VersionWarning`, of different versions that matter at the nodes.
    local_links
        Whether processes of one account on one machine exchange data over Unix sockets instead of TLS; see
        doc/security.md.
    elastic
        ``True`` to follow the pool: while there are more jobs than slots, the client asks its servers every 5 seconds
        which others they know, and adds the new ones, as `net.add` does. A number gives other seconds. A thread does
        this, so it does not matter how you wait for the jobs, and no result is late. ``net.missing`` names servers that
        cannot be reached; they are tried again after growing pauses. No server gets a second engine, and one that you
        have removed comes back only when you add it. Servers that leave the pool stay in the network, as lost nodes.
    accept
        A function that decides which servers get jobs, such as ``lambda server: server.memory_free > 8e9``. It is
        called with a `pconnect.statistics.server_facts.ServerFacts` of each server, in the thread of the jobs, every 5
        seconds while there are some, and returns whether jobs may begin there. Those that wait go elsewhere, or wait;
        ``job.why`` says for what. Programs are jobs; commands and arrays are not. If it raises an error, or returns
        ``None``, all jobs that wait fail with a `ConfigurationError` that says so.
    placement
        ``"even"``: the least busy server gets the next job. ``"ordered"``: the first of `hosts` does, as long as it has
        a slot, then the second, and so on.
    exclusive
        Have each server for this network alone: it takes no other session as long as this one lives, and refuses this
        one while others are there (`ServerRefusedError`, whose text says whose). The server's administrator must have
        allowed it (``--allow-exclusive``), or you must be one. See doc/reference/connecting.md.

    Returns
    -------
    Network
        Node 0 is the client, nodes 1 to n are engines at `hosts`, in that order.

    Warns
    -----
    MissingHostsWarning
        Hosts are missing that are not required.
    VersionWarning
        See `check_versions`.

    Raises
    ------
    ConnectError
        It could not be made; the text has each host and its reason, and ``reasons`` the errors. If the only reasons are
        refused logins, it is an `AuthenticationError`; if they are servers that take no new session, a
        `ServerRefusedError`. Nothing stays open.
    CredentialError
        No password is to be had, or its file cannot be used.
    ConfigurationError
        A host, an option or the configuration cannot be understood, or nothing says which hosts.

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
        raise ConfigurationError("hosts and recover: the token says which hosts, give only one of them")
    if token is None and hosts is None and saved is None and not joined:
        raise NoHostsError
    if (joined or interval) and not use_tls:
        option = "join" if joined else "elastic"
        raise ConfigurationError(
            f"{option} and use_tls=False: servers without a login have no pool; leave out one"
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
    """The client cannot connect these nodes; the network can be made without them."""

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
    """Try to make a network of all hosts that are there, or that are found. After an error, nothing is open."""
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
    except BaseException:  # a user may have warnings raised
        network.mesh.event_loop.close()
        raise


def _successes(outcomes: Mapping[int, Server | Exception]) -> list[Server]:
    """Return the outcomes, or raise for all that failed."""
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
    """Connect every node with every other. `event_loop`: has the command channels."""
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
    await_reasons([server for server in servers if mesh_error(server)], event_loop, deadline)
    errors = {server: error for server in servers if (error := mesh_error(server))}
    # The other nodes may have failed only because of those that were refused.
    refused = {s.node: error for s, error in errors.items() if isinstance(error, ServerRefusedError)}
    if refused:
        raise _FailedNodes(refused)
    if errors:
        reasons = {server.host: error for server, error in errors.items()}
        raise ConnectError(reasons)


def _is_joining(server: Server) -> bool:
    return server.life.state is NodeState.JOINING
