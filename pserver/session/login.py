"""The login of a client, from the first byte to an encrypted command channel that both sides rely on."""

import contextlib
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pconnect.errors import ProtocolError
from pconnect.link.local_link import TOKEN_BYTES, own_place
from pconnect.protocol.frames import HELLO, VERSION, Preamble, Purpose, check_version
from pconnect.values import decoder, encoder
from pserver.config import SessionSettings
from pserver.system.interfaces import own_addresses
from srp_tools import steps
from srp_tools.certificates import Identity, NodeKey
from srp_tools.channel import Channel
from srp_tools.login import accept_login
from srp_tools.steps import Steps
from srp_tools.tls import start_tls, tls_context
from srp_tools.verifier_file import VerifierFile

_NOBODY = "(no login)"


@dataclass(frozen=True)
class AuthenticatedClient:
    """A client that has logged in."""

    channel: Channel
    network_id: bytes
    node: int
    identity: Identity | None
    user: str = _NOBODY
    token: bytes | None = None  # of the local links from the client; None: there are none


def accept_client(
    sock: socket.socket,
    control: socket.socket,
    handovers: Sequence[socket.socket],
    settings: SessionSettings,
    preamble: bytes,
) -> Steps[AuthenticatedClient]:
    """Log a client in, and tell the daemon; see doc/protocol.md, "Login".

    `handovers` is where the daemon is to pass on data connections: those to the engine, and those for jobs.

    Raises
    ------
    AuthenticationError, ConnectionLostError, ProtocolError
        It is not admitted.
    """
    offer: dict[str, Any] = {
        "key": b"",
        "data_port": settings.data_port,
        "addresses": own_addresses(settings.bind),
        "version": VERSION,
    }
    if settings.auth_file is None:
        words = Preamble.unpack(preamble)
        reply = encoder.pack(offer)
        accepted = Preamble(Purpose.ACCEPTED, words.network_id).pack()
        yield from steps.send_all(sock, accepted + len(reply).to_bytes(2, "big") + reply)
        _register(control, handovers, _NOBODY, words.network_id, words.to_node)
        channel = Channel(sock)
        yield from channel.send_all(HELLO)
        return AuthenticatedClient(channel, words.network_id, words.to_node, None)
    key = NodeKey()
    offer["key"] = key.public_bytes()
    if settings.local_path is not None:
        offer["local"] = [own_place(), str(settings.local_path)]
    user, data = yield from accept_login(sock, VerifierFile(settings.auth_file).lookup, encoder.pack(offer))
    answer: Any = decoder.unpack(data)
    if isinstance(answer, dict) and isinstance(version := answer.get("version", 1), int):
        check_version(version, "the client")
    try:
        network_id, node = answer["network"], answer["node"]
        identity = key.identity(network_id, node, answer["certificate"], answer["authority"])
        context = tls_context(identity, server_side=True)
        token = _read_token(answer.get("token"))
    except (TypeError, KeyError, ValueError, OSError) as error:
        raise ProtocolError(f"the client's answer cannot be understood: {error!r}") from error
    _register(control, handovers, user, network_id, node)
    channel = yield from start_tls(sock, context, network_id, 0, server_side=True)
    yield from channel.send_all(HELLO)
    return AuthenticatedClient(channel, network_id, node, identity, user, token)


def _read_token(token: object) -> bytes | None:
    if token is not None and not (isinstance(token, bytes) and len(token) == TOKEN_BYTES):
        raise ValueError("its token is malformed")
    return token


def _register(
    control: socket.socket, handovers: Sequence[socket.socket], user: str, network_id: bytes, node: int
) -> None:
    """Tell the daemon whose data connections are ours, and where to pass them on."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(handover).fileno() for handover in handovers]
        told = {"user": user, "network": network_id.hex(), "node": node}
        socket.send_fds(control, [json.dumps(told).encode()], ends)
    control.settimeout(10)
    if control.recv(100) != b"ok":
        raise ProtocolError(f"node {node} of network {network_id.hex()} is here already")
