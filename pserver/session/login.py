"""The login of a client, from the first byte to an encrypted command channel that both sides rely on.

A client logs in once for each session. For each further node there, it proves who it is by what the first login gave
both sides.
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
_MAX_REASON_BYTES = 2000  # half of what the daemon takes at once


@dataclass(frozen=True)
class AuthenticatedClient:
    """A client that has logged in for one node."""

    channel: Channel
    network_id: bytes
    node: int
    tls: TlsContexts | None
    token: bytes | None = None  # of the local links from the client; None: there are none
    network_key: bytes = b""  # which members prove in preambles; empty without encryption
    user: str = _NOBODY
    is_control: bool = False  # whether it wants no engine, but to administer the server
    is_exclusive: bool = False  # whether it wants the server for itself

    def engine_identity(self, links: dict[int, Any]) -> list[Any] | None:
        """Return what the node's engine gets to prove who it is; `links` are its local links, by node."""
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

    `received` is what the daemon has read from it: its ClientHello, or the preamble of a client without encryption.
    `account`: that of the session, if its server is root's; this process runs under it from the client's proof on.
    `control`: the socket to the daemon, for a client that comes back to another session; without it, none does.

    Raises `AuthenticationError`, `ConnectionLostError` or `ProtocolError` if it is not admitted; `ServerRefusedError`
    if it has proved who it is, and has read why it is not let in; `HandedOverError` if its former session has it.
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
    if account is not None:  # before there is a key that nobody else is to have
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
        account.become()  # before anything is read of what the client says
    said = decoder.unpack(data)
    is_control, back = _wants(said, "control"), Return.read(said)
    if not is_control and back is None:  # others come to a server that takes no new session, too
        _check_admission(settings)
    answer = _read_answer(data, key)
    assert answer.tls is not None  # noqa: S101 - it was made for the key
    why = hand_over(control, sock, _words(user, answer), back) if back and control else ""
    channel = yield from start_tls(sock, answer.tls.server, answer.network_id, 0, server_side=True)
    if back is not None:
        yield from turn_away(channel, why)
        channel.close()
        raise ServerRefusedError(why or "there is nothing to come back to")
    is_exclusive = _wants(said, "exclusive")
    return AuthenticatedClient(channel, *answer, user=user, is_control=is_control, is_exclusive=is_exclusive)


def _wants(answer: Any, what: str) -> bool:
    return isinstance(answer, dict) and answer.get(what) is True


def _check_admission(settings: SessionSettings) -> None:
    if settings.refusal:
        raise ServerRefusedError(settings.refusal)


def _lookup(settings: SessionSettings, file: Path) -> Callable[[str], Verifier]:
    """Return how the verifier of a user is found; a user who is not allowed here is like an unknown one."""
    lookup = VerifierFile(file, seed_folder(settings.kept)).lookup
    return lambda user: lookup(user, is_known=_is_allowed(settings, user))


def _is_allowed(settings: SessionSettings, user: str) -> bool:
    return not settings.allow_users or user in settings.allow_users


def accept_node(
    sock: socket.socket, first: AuthenticatedClient
) -> Steps[AuthenticatedClient | ReturningClient]:
    """Let a client in for a further node, on a connection that the daemon has passed on; see doc/protocol.md, "Login".

    `first` says which client it must be. Nobody else has its certificate, or the token of its local link.

    Raises `AuthenticationError`, `ConnectionLostError` or `ProtocolError` if it is not let in. The connection is
    closed.
    """
    channel = yield from greet(sock, first.tls, first.network_id, 0, first.token)
    try:
        key = NodeKey() if first.tls else None
        yield from send_packed(channel, {"key": key.public_bytes() if key else b""})
        data = yield from receive_packed(channel)
        answer, back = _read_answer(data, key), Return.read(decoder.unpack(data))
        if _network(answer) != _network(first):
            raise ProtocolError("it is of another network")
        if back is not None:
            yield from channel.send_all(HELLO)
            return ReturningClient(channel, back)
    except BaseException:
        channel.close()
        raise
    return AuthenticatedClient(channel, *answer, user=first.user)


def accept_back(sock: socket.socket, first: AuthenticatedClient, back: Return) -> Steps[ReturningClient]:
    """Let a client in that comes back to the node of `first`; its login was elsewhere, and has its new certificates.

    Raises `AuthenticationError`, `ConnectionLostError` or `ProtocolError` if it is not let in. The connection is
    closed.
    """
    try:
        if first.tls is None or back.node != first.node:
            raise ProtocolError("the session has no such node")
        # Those of the session stay as they are until it is certain that the client comes back.
        tls = TlsContexts(first.tls.identity)
        tls.renew(back.certificate, back.authority)
        channel = yield from start_tls(sock, tls.server, first.network_id, 0, server_side=True)
        yield from channel.send_all(HELLO)
    except BaseException:
        sock.close()
        raise
    return ReturningClient(channel, back)


class _Answer(NamedTuple):
    """What a client says of a node."""

    network_id: bytes
    node: int
    tls: TlsContexts | None
    token: bytes | None
    network_key: bytes


def _network(client: _Answer | AuthenticatedClient) -> tuple[bytes, bytes, bytes | None]:
    """Return what is the same for all nodes of a network."""
    return client.network_id, client.network_key, client.tls.identity.authority if client.tls else None


def _read_answer(data: bytes, key: NodeKey | None) -> _Answer:
    """Return the answer of a client; its certificate is for this key, without encryption there is none."""
    answer: Any = decoder.unpack(data)
    if isinstance(answer, dict) and isinstance(version := answer.get("version", 1), int):
        check_version(version, "the client")
        if answer.get("withdrawn") is True:
            raise ConnectionLostError("the client has found that it is connected with this server already")
    try:
        network_id, node, token = answer["network"], answer["node"], answer.get("token")
        network_key = answer["network_key"]
        if not (isinstance(network_id, bytes) and isinstance(node, int) and 0 < node < 2**32):
            raise ValueError("it names no node")
        if token is not None and not (isinstance(token, bytes) and len(token) == TOKEN_BYTES):
            raise ValueError("its token is malformed")
        if not (isinstance(network_key, bytes) and len(network_key) == (NETWORK_KEY_BYTES if key else 0)):
            raise ValueError("its key is malformed")
        identity = key.identity(network_id, node, answer["certificate"], answer["authority"]) if key else None
    except (TypeError, KeyError, ValueError, OSError) as error:
        raise ProtocolError(f"the client's answer cannot be understood: {error!r}") from error
    return _Answer(network_id, node, TlsContexts(identity) if identity else None, token, network_key)


def tell_failure(control: socket.socket, user: str, error: Exception) -> None:
    """Tell the daemon that a login has failed, and whether because of the password: it counts these."""
    failed = {
        "user": user,
        "reason": _shortened(str(error)),
        "is_refused": isinstance(error, AuthenticationError),
        "has_proved": isinstance(error, ServerRefusedError),
    }
    with contextlib.suppress(OSError):  # it ends just now
        control.send(json.dumps({"failed": failed}).encode())


def _shortened(reason: str) -> str:
    """Return what of a reason has room in a message: it may be a process's that has been taken over."""
    while len(json.dumps(reason)) > _MAX_REASON_BYTES:
        reason = f"{reason[: len(reason) // 2]}…"
    return reason


def words_of(client: AuthenticatedClient) -> dict[str, object]:
    """Return what the daemon is told of a node."""
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
    """Tell the daemon about a node, and then its client that it is admitted.

    `handovers` is where the daemon is to pass on connections: those to the engine, those for jobs, and command channels
    of further nodes.

    Raises `ProtocolError` if the network has a node of this number here, `ServerRefusedError` if the server takes no
    session of this user any more, and `ConnectionLostError` if the daemon says nothing more.
    """
    told = json.dumps(words_of(client)).encode()
    socket.send_fds(control, [told], [handover.fileno() for handover in handovers])
    control.settimeout(_DAEMON_TIMEOUT)
    answer = control.recv(_MAX_ANSWER_BYTES)
    if not answer:
        raise ConnectionLostError("the server stops")
    if answer == b"taken":
        raise ProtocolError(f"node {client.node} of network {client.network_id.hex()} is here already")
    if answer != b"ok":
        raise ServerRefusedError(answer.decode("utf-8", "replace"))
    steps.run(client.channel.send_all(HELLO), deadline)
