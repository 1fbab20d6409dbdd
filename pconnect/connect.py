"""`pconnect`: from host names and a password to a network.

All servers are dealt with side by side, in two steps, each within the one deadline of the call:

1. log in at each server (`_log_in`): resolve, connect, TLS-SRP, sign the node's key, go on with TLS 1.3;
2. tell each server the whole network, open the data connections to all engines, and wait until every engine says that
   its own connections to the others stand.
"""

import getpass
import os
import secrets
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pconnect.detach.recovery import recover as recover_jobs
from pconnect.detach.token import Token, unpack_token
from pconnect.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    CredentialError,
    ProtocolError,
)
from pconnect.joblib.register import register_if_imported
from pconnect.link.connection import Connection
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, bound_buffers, connect_first, expect_hello
from pconnect.link.host_names import Host, Location, parse_hosts, resolve
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import (
    DEFAULT_LIMITS,
    NETWORK_ID_BYTES,
    PREAMBLE_BYTES,
    PREAMBLE_MAGIC,
    VERSION,
    Limits,
    Preamble,
    Purpose,
    check_version,
)
from pconnect.protocol.kinds import Kind, Role
from pconnect.session import open_networks, versions
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.mesh_setup import MeshSetup, mesh_error
from pconnect.session.node_state import NodeState
from pconnect.session.remote_calls import client_mesh
from pconnect.session.server import Server
from pconnect.values import codec
from pconnect.views.network_views import ClientConnection, ClientNetwork
from srp_tools import steps as waiting
from srp_tools.certificates import NetworkAuthority
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials, load_credentials
from srp_tools.login import log_in
from srp_tools.paths import client_file
from srp_tools.steps import Steps, deadline_after, remaining, run_all
from srp_tools.tls import start_tls, tls_context

T = TypeVar("T")


@dataclass(frozen=True)
class _Plan:
    """What is the same for all servers of a network to be made."""

    network_id: bytes
    credentials: Credentials | None  # None: no encryption, no login
    authority: NetworkAuthority | None
    context: ssl.SSLContext | None
    limits: Limits
    peer_timeout: float


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
) -> ClientNetwork:
    """Log in at servers and return the network of the client and their engines.

    Parameters
    ----------
    hosts
        ``"name"``, ``"name:port"``, ``"[v6 address]:port"``, ``(name, port)``, or a list of these. The same server may
        appear more than once; each time is a node with an engine of its own.
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
        Limit for the whole call, in seconds.
    peer_timeout
        Seconds after which a machine that vanished counts as lost.
    max_message_bytes
        Limit of one message, at all nodes of this network.
    max_inbox_bytes
        When so much has arrived at a node from another and waits for `precv`, no more is read: the sender waits.
    check_versions
        Whether to warn, with a `VersionWarning`, of different versions that matter at the nodes.

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
    credentials = _credentials(user, password, password_file) if use_tls else None
    network_id = secrets.token_bytes(NETWORK_ID_BYTES)
    authority = NetworkAuthority(network_id) if use_tls else None
    context = tls_context(authority.own_identity(), server_side=False) if authority else None
    limits = Limits(max_message_bytes, max_inbox_bytes)
    plan = _Plan(network_id, credentials, authority, context, limits, peer_timeout)
    logins = run_all({node: _log_in(plan, node, target) for node, target in enumerate(targets, 1)}, deadline)
    servers: list[Server] = []
    try:
        servers = _successes(logins, targets)
        network = _mesh(plan, servers, targets, deadline)
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


def _credentials(user: str | None, password: str | None, file: str | Path | None) -> Credentials:
    user = user or os.environ.get("PCONNECT_USER")
    if password is None:
        password = os.environ.get("PCONNECT_PASSWORD")
    path = Path(file) if file is not None else client_file()
    if password is None and (file is not None or path.exists()):
        return load_credentials(path, user)
    user = user or getpass.getuser()
    if password is None:
        if not sys.stdin.isatty():
            raise CredentialError(
                f"no password for user {user}: give password=, set PCONNECT_PASSWORD, or run generate-srp-data, "
                f"which writes {path}"
            )
        password = getpass.getpass(f"password of {user} for pserver: ")
    return Credentials(user, password)


def _log_in(plan: _Plan, node: int, host: Host) -> Steps[Server]:
    """Log in at one server and return it, with an encrypted command channel that the server has confirmed."""
    addresses = yield from resolve(host.name, host.port)
    sock = yield from connect_first([(str(a[0]), host.port) for _, a in addresses], plan.peer_timeout)
    try:
        bound_buffers(sock)
        address = sock.getpeername()[0]
        if plan.authority is None or plan.credentials is None or plan.context is None:
            channel, offer = yield from _introduce(plan, sock, node)
        else:
            offer = yield from _enrol(plan, sock, node)
            channel = yield from start_tls(sock, plan.context, plan.network_id, node, server_side=False)
        yield from expect_hello(channel)
    except BaseException:
        sock.close()
        raise
    command = Connection(node, host.label, channel, role=Role.CLIENT, limits=plan.limits)
    return Server(command, Location(address, host.port, offer["data_port"], offer["addresses"]))


def _enrol(plan: _Plan, sock: socket.socket, node: int) -> Steps[dict[str, Any]]:
    """Do the SRP login and sign the key that the server made for the node."""
    assert plan.authority is not None  # noqa: S101 - only called with encryption
    assert plan.credentials is not None  # noqa: S101
    authority = plan.authority
    offers: list[dict[str, Any]] = []

    def answer(data: bytes) -> bytes:
        offers.append(_read_offer(data))
        if offers[0]["version"] != VERSION:
            return codec.pack({"version": VERSION})  # for the server's log
        return codec.pack(
            {
                "version": VERSION,
                "network": plan.network_id,
                "node": node,
                "certificate": authority.sign(offers[0]["key"], node),
                "authority": authority.certificate,
            }
        )

    try:
        yield from log_in(sock, plan.credentials, answer)
    except ConnectionLostError as error:
        for offer in offers:
            check_version(offer["version"], "the server")
        raise ConnectionLostError(f"{error} (a server started with --no-tls needs use_tls=False)") from error
    check_version(offers[0]["version"], "the server")
    return offers[0]


def _introduce(plan: _Plan, sock: socket.socket, node: int) -> Steps[tuple[Channel, dict[str, Any]]]:
    """Begin a command channel without encryption."""
    yield from waiting.send_all(sock, Preamble(Purpose.COMMAND, plan.network_id, 0, node).pack())
    data = yield from waiting.receive_exactly(sock, len(PREAMBLE_MAGIC))
    if data != PREAMBLE_MAGIC:
        raise ConnectionLostError("the peer is not a pserver")
    data += yield from waiting.receive_exactly(sock, PREAMBLE_BYTES - len(data))
    if Preamble.unpack(data, "the server").purpose is Purpose.NEEDS_TLS:
        raise ConnectionLostError("this server uses TLS: connect without use_tls=False")
    size = yield from waiting.receive_exactly(sock, 2)
    offer = yield from waiting.receive_exactly(sock, int.from_bytes(size, "big"))
    return Channel(sock), _read_offer(offer)


def _read_offer(data: bytes) -> dict[str, Any]:
    """Return the offer of a server. Version 1 did not say so; of another version, nothing else is looked at."""
    offer = codec.unpack(data)
    if isinstance(offer, dict):
        version = offer.setdefault("version", 1)
        if version == VERSION and {"key", "data_port", "addresses"} <= offer.keys():
            return offer
        if version != VERSION and isinstance(version, int):
            return offer
    raise ConnectionLostError("the server's offer cannot be understood")


def _mesh(plan: _Plan, servers: list[Server], targets: list[Host], deadline: float) -> ClientNetwork:
    """Connect every node with every other."""
    event_loop = EventLoop()
    mesh_setup = MeshSetup(
        plan.network_id,
        plan.context,
        plan.limits,
        plan.peer_timeout,
        directory=str(Path.cwd()),
        authority=plan.authority,
        version=versions.own_versions()["version"],
    )
    for server in servers:
        event_loop.add(server.command)
    try:
        left = remaining(deadline)
        setup = mesh_setup.setup(servers, 3600.0 if left is None else left)
        for server in servers:
            server.command.post(Kind.SETUP, server.node, setup)
            event_loop.flush(server.command)
        _open_data_connections(mesh_setup, servers, event_loop, deadline)
        _await_meshed(servers, event_loop, deadline)
    except BaseException:
        event_loop.close()
        raise
    own = ClientConnection(0, "client", None)
    mesh = ClientMesh(plan.network_id, servers, event_loop, plan.limits, own)
    mesh.mesh_setup = mesh_setup
    mesh.hosts = [(target.name, target.port) for target in targets]
    open_networks.register(mesh)
    register_if_imported()
    return ClientNetwork(mesh)


def _open_data_connections(
    mesh_setup: MeshSetup, servers: list[Server], event_loop: EventLoop, deadline: float
) -> None:
    steps = {server.node: mesh_setup.dial(server) for server in servers}
    outcomes = run_all(steps, deadline)
    failed = {}
    for server in servers:
        outcome = outcomes[server.node]
        if isinstance(outcome, Channel):
            data = ClientConnection(server.node, server.host, outcome, limits=mesh_setup.limits)
            server.attach(data)
            event_loop.add(data)
        else:
            failed[server] = outcome
    if failed:
        # What the server says of its side is the better reason, if it says something.
        event_loop.poll(0.2)
        raise ConnectError({s.host: mesh_error(s) or error for s, error in failed.items()})


def _await_meshed(servers: list[Server], event_loop: EventLoop, deadline: float) -> None:
    try:
        event_loop.run_until(
            lambda: not any(_is_joining(server) for server in servers), deadline, "the network"
        )
    except TimeoutError:
        silent = [server for server in servers if _is_joining(server)]
        reason = "its connections to the other servers were not made within the time limit"
        raise ConnectError({server.host: TimeoutError(reason) for server in silent}) from None
    reasons = {server.host: error for server in servers if (error := mesh_error(server))}
    if reasons:
        raise ConnectError(reasons)


def _is_joining(server: Server) -> bool:
    return server.life.state is NodeState.JOINING
