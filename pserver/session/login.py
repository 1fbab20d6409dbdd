"""The login of a client, from the first byte to an encrypted command channel that both sides trust.

A client logs in once for each session. For each further node, it proves its identity with the certificate or token from
the first login.
"""

import contextlib
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.errors import AuthenticationError, ConnectionLostError, ProtocolError, ServerRefusedError
from pconnect.link.dialing import receive_packed, send_packed
from pconnect.link.local_link import TOKEN_BYTES, own_place
from pconnect.protocol.frames import HELLO, NETWORK_KEY_BYTES, VERSION, Preamble, Purpose, check_version
from pconnect.values import decoder, encoder
from pserver.accounts.session_account import SessionAccount
from pserver.config.session_settings import SessionSettings, seed_folder
from pserver.engine.greeting import greet
from pserver.orphans.returning_client import Return, ReturningClient, hand_over, turn_away
from pserver.session.login_process import LoginApart
from pserver.system.interfaces import own_addresses
from srp_tools import steps
from srp_tools.certificates import NodeKey
from srp_tools.channel import Channel
from srp_tools.login import accept_login
from srp_tools.steps import Steps, deadline_after
from srp_tools.tls import TlsContexts, start_tls
from srp_tools.verifier import Verifier
from srp_tools.verifier_file import VerifierFile

_NOBODY = "(no login)"
_DAEMON_TIMEOUT = 10.0
_MAX_ANSWER_BYTES = 4096
_MAX_REASON_BYTES = 2000  # half of the size limit of a message to the daemon


@dataclass(frozen=True)
class AuthenticatedClient:
    """A client that has logged in for one node."""

    channel: Channel
    network_id: bytes
    node: int
    tls: TlsContexts | None
    token: bytes | None = None  # for local links from the client; None: no local links
    network_key: bytes = b""  # members prove in preambles that they have it; empty without encryption
    user: str = _NOBODY
    is_control: bool = False  # whether it wants to administer the server, without an engine
    is_exclusive: bool = False  # whether it reserves the whole server

    def engine_identity(self, links: dict[int, Any]) -> list[Any] | None:
        """Return the key, the certificates and the secrets of the node's engine; `links`: its local links, by node."""
        if self.token is not None:
            links[0] = ["", self.token]
        if self.tls is None:
            return None
        own = self.tls.identity
        return [own.key_pem, own.certificate, own.authority, links, self.network_key]


def accept_client(
    sock: socket.socket,
    settings: SessionSettings,
    received: bytes,
    account: SessionAccount | None = None,
    control: socket.socket | None = None,
) -> Steps[AuthenticatedClient]:
    """Log a client in; see doc/protocol.md, "Login".

    `received`: the bytes that the daemon has read: a ClientHello, or a preamble without encryption. `account`: the
    session's account, if root started the server; this process changes to it once the client has proved its password.
    `control`: the socket to the daemon, for clients that come back to another session; without it, none can.

    Raises `AuthenticationError`, `ConnectionLostError` or `ProtocolError` if the login fails; `ServerRefusedError` if
    the client has proved its password and has read why the server refuses it; `HandedOverError` if the client has
    returned to its former session.
    """
    offer: dict[str, Any] = {
        "key": b"",
        "data_port": settings.data_port,
        "addresses": own_addresses(settings.bind),
        "version": VERSION,
        "server": settings.server_id,
    }
    if settings.server_proof:
        offer["proof"] = bytes.fromhex(settings.server_proof)
    if settings.cmd_port is not None:
        offer["cmd_port"] = settings.cmd_port
    if settings.advertised:
        offer["advertised"] = [list(place) for place in settings.advertised]
    if settings.refusal:
        offer["refused"] = settings.refusal
    if settings.auth_file is None:
        words = Preamble.unpack(received)
        channel = Channel(sock)
        yield from channel.send_all(Preamble(Purpose.ACCEPTED, words.network_id).pack())
        yield from send_packed(channel, offer)
        _check_admission(settings)
        return AuthenticatedClient(channel, words.network_id, words.to_node, None)
    apart = None
    if account is not None:  # fork before the private key exists, so the other processes cannot have it
        is_known = account.account is not None and _is_allowed(settings, settings.user)
        apart = LoginApart(sock, settings, settings.auth_file, received, is_known=is_known)
    key = NodeKey()
    offer["key"] = key.public_bytes()
    if settings.local_path is not None:
        offer["local"] = [own_place(), str(settings.local_path)]
    if apart is None:
        lookup, deadline = _lookup(settings, settings.auth_file), deadline_after(settings.proof_timeout)
        user, data = yield from accept_login(sock, lookup, encoder.pack(offer), received, deadline)
    else:
        user, data = yield from apart.log_in(encoder.pack(offer))
    if account is not None:
        account.become()  # before parsing any data from the client
    said = decoder.unpack(data)
    is_control, back = _wants(said, "control"), Return.read(said)
    if not is_control and back is None:  # administrators and returning clients may log in to a closed server
        _check_admission(settings)
    answer = _read_answer(data, key)
    assert answer.tls is not None  # noqa: S101 - there is a key
    why = hand_over(control, sock, _words(user, answer), back) if back and control else ""
    channel = yield from start_tls(sock, answer.tls.server, answer.network_id, 0, server_side=True)
    if back is not None:
        yield from turn_away(channel, why)
        channel.close()
        raise ServerRefusedError(why or "there is no session to come back to")
    is_exclusive = _wants(said, "exclusive")
    return AuthenticatedClient(channel, *answer, user=user, is_control=is_control, is_exclusive=is_exclusive)


def _wants(answer: Any, what: str) -> bool:
    return isinstance(answer, dict) and answer.get(what) is True


def _check_admission(settings: SessionSettings) -> None:
    if settings.refusal:
        raise ServerRefusedError(settings.refusal)


def _lookup(settings: SessionSettings, file: Path) -> Callable[[str], Verifier]:
    """Return a function that finds a user's verifier; users who may not log in look like unknown users."""
    lookup = VerifierFile(file, seed_folder(settings.kept)).lookup
    return lambda user: lookup(user, is_known=_is_allowed(settings, user))


def _is_allowed(settings: SessionSettings, user: str) -> bool:
    return not settings.allow_users or user in settings.allow_users


def accept_node(
    sock: socket.socket, first: AuthenticatedClient
) -> Steps[AuthenticatedClient | ReturningClient]:
    """Accept a further node, on a connection that the daemon has passed on; see doc/protocol.md, "Login".

    It must come from the client of `first`, which proves itself with its certificate or the token of its local link.

    Raises `AuthenticationError`, `ConnectionLostError` or `ProtocolError` if the node is refused. The connection is
    then closed.
    """
    channel = yield from greet(sock, first.tls, first.network_id, 0, first.token)
    try:
        key = NodeKey() if first.tls else None
        yield from send_packed(channel, {"key": key.public_bytes() if key else b""})
        data = yield from receive_packed(channel)
        answer, back = _read_answer(data, key), Return.read(decoder.unpack(data))
        if _network(answer) != _network(first):
            raise ProtocolError("it belongs to another network")
        if back is not None:
            yield from channel.send_all(HELLO)
            return ReturningClient(channel, back)
    except BaseException:
        channel.close()
        raise
    return AuthenticatedClient(channel, *answer, user=first.user)


def accept_back(sock: socket.socket, first: AuthenticatedClient, back: Return) -> Steps[ReturningClient]:
    """Accept a client that returns to the node of `first`; `back` has the new certificates from its new login.

    Raises `AuthenticationError`, `ConnectionLostError` or `ProtocolError` if the client is refused. The connection is
    then closed.
    """
    try:
        if first.tls is None or back.node != first.node:
            raise ProtocolError("the session has no such node")
        # The session keeps its old certificates until the return has succeeded.
        tls = TlsContexts(first.tls.identity)
        tls.renew(back.certificate, back.authority)
        channel = yield from start_tls(sock, tls.server, first.network_id, 0, server_side=True)
        yield from channel.send_all(HELLO)
    except BaseException:
        sock.close()
        raise
    return ReturningClient(channel, back)


class _Answer(NamedTuple):
    """A client's answer in a login: the facts about one node."""

    network_id: bytes
    node: int
    tls: TlsContexts | None
    token: bytes | None
    network_key: bytes


def _network(client: _Answer | AuthenticatedClient) -> tuple[bytes, bytes, bytes | None]:
    """Return the facts that are the same for all nodes of a network."""
    return client.network_id, client.network_key, client.tls.identity.authority if client.tls else None


def _read_answer(data: bytes, key: NodeKey | None) -> _Answer:
    """Parse the answer of a client, with a certificate for this key; without encryption, there is no key."""
    answer: Any = decoder.unpack(data)
    if isinstance(answer, dict) and isinstance(version := answer.get("version", 1), int):
        check_version(version, "the client")
        if answer.get("withdrawn") is True:
            raise ConnectionLostError("the client withdrew the login: it is already connected to this server")
    try:
        network_id, node, token = answer["network"], answer["node"], answer.get("token")
        network_key = answer["network_key"]
        if not (isinstance(network_id, bytes) and isinstance(node, int) and 0 < node < 2**32):
            raise ValueError("it does not name a node")
        if token is not None and not (isinstance(token, bytes) and len(token) == TOKEN_BYTES):
            raise ValueError("its token is malformed")
        if not (isinstance(network_key, bytes) and len(network_key) == (NETWORK_KEY_BYTES if key else 0)):
            raise ValueError("its key is malformed")
        identity = key.identity(network_id, node, answer["certificate"], answer["authority"]) if key else None
    except (TypeError, KeyError, ValueError, OSError) as error:
        raise ProtocolError(f"the client's answer is not valid: {error!r}") from error
    return _Answer(network_id, node, TlsContexts(identity) if identity else None, token, network_key)


def tell_failure(control: socket.socket, user: str, error: Exception) -> None:
    """Report a failed login to the daemon, which counts wrong passwords."""
    failed = {
        "user": user,
        "reason": _shortened(str(error)),
        "is_refused": isinstance(error, AuthenticationError),
        "has_proved": isinstance(error, ServerRefusedError),
    }
    with contextlib.suppress(OSError):  # the daemon may be ending
        control.send(json.dumps({"failed": failed}).encode())


def _shortened(reason: str) -> str:
    """Cut a reason to the size of a message; a compromised process may send a longer one."""
    while len(json.dumps(reason)) > _MAX_REASON_BYTES:
        reason = f"{reason[: len(reason) // 2]}…"
    return reason


def words_of(client: AuthenticatedClient) -> dict[str, object]:
    """Return the report about a node for the daemon."""
    return _words(client.user, client) | ({"exclusive": True} if client.is_exclusive else {})


def _words(user: str, client: AuthenticatedClient | _Answer) -> dict[str, object]:
    return {
        "user": user,
        "network": client.network_id.hex(),
        "key": client.network_key.hex(),
        "node": client.node,
    }


def admit(
    client: AuthenticatedClient,
    control: socket.socket,
    handovers: Sequence[socket.socket],
    deadline: float,
) -> None:
    """Register a node with the daemon, and then tell its client that it is admitted.

    `handovers`: the sockets on which the daemon passes on connections to the engine, connections for jobs, and command
    channels of further nodes.

    Raises `ProtocolError` if the server already has a node of this number and network, `ServerRefusedError` if the
    server no longer accepts sessions of this user, and `ConnectionLostError` if the daemon has ended.
    """
    told = json.dumps(words_of(client)).encode()
    socket.send_fds(control, [told], [handover.fileno() for handover in handovers])
    control.settimeout(_DAEMON_TIMEOUT)
    answer = control.recv(_MAX_ANSWER_BYTES)
    if not answer:
        raise ConnectionLostError("the server is stopping")
    if answer == b"taken":
        raise ProtocolError(f"the server already has node {client.node} of network {client.network_id.hex()}")
    if answer != b"ok":
        raise ServerRefusedError(answer.decode("utf-8", "replace"))
    steps.run(client.channel.send_all(HELLO), deadline)
