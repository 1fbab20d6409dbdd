"""The login at one server: resolve, connect, TLS-SRP, sign the node's key, continue with TLS 1.3."""

import functools
import getpass
import math
import os
import random
import secrets
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionLostError,
    CredentialError,
    ServerBusyError,
    ServerRefusedError,
)
from pconnect.link.attempt import CONNECT, LOGIN, Attempt
from pconnect.link.connection import Connection
from pconnect.link.dialing import (
    bound_buffers,
    connect_first,
    dial,
    expect_hello,
    receive_packed,
    send_packed,
)
from pconnect.link.host_names import Host, resolve
from pconnect.link.local_link import TOKEN_BYTES, client_link, link_token
from pconnect.link.local_link import connect as connect_socket
from pconnect.link.port_probe import raise_cause
from pconnect.link.refusal import why_refused
from pconnect.protocol.frames import (
    FIRST_WORD_BYTES,
    NETWORK_ID_BYTES,
    NETWORK_KEY_BYTES,
    PREAMBLE_BYTES,
    PREAMBLE_MAGIC,
    VERSION,
    Limits,
    Preamble,
    Purpose,
    check_first_word,
    check_version,
)
from pconnect.protocol.kinds import Role
from pconnect.protocol.server_proof import proved_id
from pconnect.routes.location import Location, note_place
from pconnect.session.server import Server
from pconnect.values import decoder, encoder
from srp_tools import steps
from srp_tools.certificates import NetworkAuthority
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials, load_credentials
from srp_tools.login import log_in
from srp_tools.private_files import client_file
from srp_tools.steps import Steps
from srp_tools.tls import TlsContexts, start_tls

_FIRST_PAUSE = 0.2  # seconds before the next attempt at a busy server
_LONGEST_PAUSE = 3.0
# Do not begin an attempt with less time than this: its failure would hide that the server was busy.
_ATTEMPT_SECONDS = 0.25
_MAX_REASON = 1000  # characters: enough for two sentences; a malicious server might send a page


class UnwantedServerError(ConnectionLostError):
    """The client has seen from the offer of a server that it wants no session there."""


class Back(NamedTuple):
    """The data of a client that returns to its nodes, see `pconnect.resume`."""

    keys: Mapping[int, bytes]  #: the public key (DER) of each node
    takes_over: bool  #: whether to take the sessions from a client that still exists


@dataclass(frozen=True)
class LoginTerms:
    """The parameters shared by all logins of a new network; see `make_terms`."""

    network_id: bytes
    credentials: Credentials | None  # None: no encryption, no login
    authority: NetworkAuthority | None
    tls: TlsContexts | None
    limits: Limits
    peer_timeout: float
    link_key: bytes | None = None  # for the tokens of local links; None: no local links
    network_key: bytes = b""  # for the MACs of preambles; empty without encryption
    is_control: bool = False  # whether this is an administrator's login, without an engine
    is_exclusive: bool = False  # whether the servers should accept no other session
    back: Back | None = None  # for a client that returns
    #: Gets the offer of a server and returns the number of its node; 0: the client does not want a session there.
    #: ``None``: the number is known before the login.
    choose_node: Callable[[Mapping[str, Any]], Steps[int]] | None = None
    make_server: Callable[[Connection, Location], Server] = Server


def make_terms(
    credentials: Credentials | None,
    limits: Limits,
    peer_timeout: float,
    *,
    local_links: bool = True,
    is_exclusive: bool = False,
) -> LoginTerms:
    """Return the terms of a new network; without credentials it has no encryption, and no local links."""
    if is_exclusive and credentials is None:
        raise ConfigurationError(
            "exclusive and use_tls=False: a server without a login has no users to reserve it for; leave out one"
        )
    network_id = secrets.token_bytes(NETWORK_ID_BYTES)
    authority = NetworkAuthority(network_id) if credentials else None
    tls = TlsContexts(authority.own_identity()) if authority else None
    link_key = secrets.token_bytes(TOKEN_BYTES) if credentials and local_links else None
    network_key = secrets.token_bytes(NETWORK_KEY_BYTES) if credentials else b""
    terms = LoginTerms(network_id, credentials, authority, tls, limits, peer_timeout, link_key, network_key)
    return replace(terms, is_exclusive=is_exclusive)


def find_credentials(user: str | None, password: str | None, file: str | Path | None) -> Credentials:
    """Return the credentials for a login; missing parts come from the environment, the client file or a prompt.

    Raises `CredentialError` if there is no password, or its file cannot be used.
    """
    user = user or os.environ.get("PCONNECT_USER")
    if password is None:
        password = os.environ.get("PCONNECT_PASSWORD") or None
    path = Path(file) if file is not None else client_file()
    if password is None and (file is not None or path.exists()):
        return load_credentials(path, user)
    user = user or getpass.getuser()
    if password is None:
        if not sys.stdin.isatty():
            raise CredentialError(
                f"no password for user {user}: give password=, set PCONNECT_PASSWORD, or write the line USER:PASSWORD "
                f"to {path} with mode 600 (generate-srp-data does this for a new user)"
            )
        password = getpass.getpass(f"password of {user} for pserver: ")
    return Credentials(user, password)


def log_in_at(
    host: Host, node: int, terms: LoginTerms, deadline: float = math.inf, attempt: Attempt | None = None
) -> Steps[Server]:
    """Log in to one server and return it, with an encrypted command channel that the server has confirmed.

    A busy server is asked again until `deadline`, after growing pauses. They are random, so that clients that were
    turned away together do not return together.

    Raises `AuthenticationError`, `ConnectionLostError`, `ProtocolError` or `OSError` if it is not a server or refuses;
    `ServerBusyError` if it stays busy; `ServerRefusedError`, without a retry, if it accepts no new session. No
    connection stays open.
    """
    attempt = attempt or Attempt(host)
    found = yield from _addresses(host)
    longest, tries = _FIRST_PAUSE, 1
    while True:
        try:
            return (yield from _log_in_once(found, host, node, terms, attempt))
        except ServerBusyError as error:
            pause = longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
            if time.monotonic() + pause + _ATTEMPT_SECONDS >= deadline:
                times = "once" if tries == 1 else f"{tries} times"
                raise ServerBusyError(f"{error}; tried {times} within the time limit") from error
        yield from steps.pause(pause)
        longest, tries = min(2 * longest, _LONGEST_PAUSE), tries + 1


def _log_in_once(
    addresses: Sequence[tuple[str, int]], host: Host, node: int, terms: LoginTerms, attempt: Attempt
) -> Steps[Server]:
    channel, offer, address, node = yield from _open(addresses, host, node, terms, attempt)
    command = Connection(node, host.label, channel, role=Role.CLIENT, limits=terms.limits)
    try:
        return terms.make_server(command, Location.of_offer(address, host, offer))
    except BaseException:
        command.close()
        raise


def _addresses(host: Host) -> Steps[list[tuple[str, int]]]:
    """Return the addresses where a host may listen; none for a Unix socket."""
    if host.is_socket:
        return []
    addresses = yield from resolve(host.name, host.port)
    return [(str(address[0]), host.port) for _, address in addresses]


def open_control(host: Host, terms: LoginTerms, attempt: Attempt | None = None) -> Steps[tuple[Channel, str]]:
    """Log in to a server as an administrator or a pool member; return a channel for requests to it, and its id.

    Raises the same errors as `log_in_at`.
    """
    found = yield from _addresses(host)
    control = replace(terms, is_control=True)
    channel, offer, *_ = yield from _open(found, host, 1, control, attempt or Attempt(host))
    return channel, str(offer.get("server", ""))


def _open(
    addresses: Sequence[tuple[str, int]], host: Host, node: int, terms: LoginTerms, attempt: Attempt
) -> Steps[tuple[Channel, dict[str, Any], str, int]]:
    """Log in once; return the channel, the server's offer, its address, and the number of the node."""
    attempt.phase = CONNECT
    sock = _connect_socket(host) if host.is_socket else (yield from _connect(addresses, host, terms))
    attempt.phase = LOGIN
    try:
        bound_buffers(sock)
        address = host.name if host.is_socket else sock.getpeername()[0]
        channel, offer, node = yield from _begin(terms, sock, node)
        if why := _refusal(terms, offer):
            raise ServerRefusedError(why)
        if terms.tls is not None:
            channel = yield from start_tls(sock, terms.tls.client, terms.network_id, node, server_side=False)
        yield from expect_hello(channel)
    except _NoLoginError as error:
        sock.close()
        if host.is_socket:
            raise ConnectionLostError(f"the server ended the login ({error}); its log says why") from error
        where = address, host.port
        yield from raise_cause(error, error.heard, where, host, use_tls=terms.tls is not None)
    except BaseException:
        sock.close()
        raise
    return channel, offer, address, node


def _connect(addresses: Sequence[tuple[str, int]], host: Host, terms: LoginTerms) -> Steps[socket.socket]:
    try:
        return (yield from connect_first(addresses, terms.peer_timeout))
    except ConnectionRefusedError as error:
        hint = "start one there with pserver start, or give its command port, as in HOST:12502"
        why = f"connection refused on port {host.port}: no server is listening there; {hint}"
        raise ConnectionRefusedError(why) from error


def _connect_socket(host: Host) -> socket.socket:
    if sys.platform != "linux":
        raise ConfigurationError(f"{host.label}: servers and their sockets exist on Linux only")
    try:
        return connect_socket(Path(host.name))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        why = "no server is listening there; start one with pserver start --no-tcp, which prints its path"
        raise ConnectionRefusedError(why) from error
    except BlockingIOError as error:
        raise ServerBusyError("the server is busy: too many clients want to log in") from error


class _NoLoginError(ConnectionLostError):
    """The login ended before the server's offer. `heard`: the answer of the other end to a preamble."""

    def __init__(self, text: str, heard: bytes = b"") -> None:
        super().__init__(text)
        self.heard = heard


def _begin(terms: LoginTerms, sock: socket.socket, node: int) -> Steps[tuple[Channel, dict[str, Any], int]]:
    """Return a channel without encryption, the server's offer, and the node; TLS, if used, starts next."""
    try:
        if terms.credentials is None:
            return *(yield from _introduce(terms, sock, node)), node
        return Channel(sock), *(yield from _enrol(terms, sock, node))
    except (TimeoutError, ServerBusyError, AuthenticationError, UnwantedServerError, _NoLoginError):
        raise
    except OSError as error:
        raise _NoLoginError(str(error.strerror or error)) from error


def _enrol(terms: LoginTerms, sock: socket.socket, node: int) -> Steps[tuple[dict[str, Any], int]]:
    """Do the SRP login and sign the key that the server made for the node; return the offer and the node."""
    assert terms.credentials is not None  # noqa: S101 - only called with encryption
    offers: list[dict[str, Any]] = []
    salts: list[bytes] = []
    hellos: list[bytes] = []

    def answer(data: bytes) -> Steps[bytes]:
        nonlocal node
        offers.append(_read_offer(data))
        if offers[0]["version"] != VERSION or _refusal(terms, offers[0]):
            return encoder.pack({"version": VERSION})  # for the server's log
        offers[0]["server"] = proved_id(offers[0], hellos[0])
        if terms.choose_node is not None:
            node = yield from terms.choose_node(offers[0])
        if not node:
            return encoder.pack({"version": VERSION, "withdrawn": True})
        return encoder.pack(_answer(terms, node, offers[0]["key"]))

    try:
        yield from log_in(sock, terms.credentials, answer, salts.append, hellos.append)
    except AuthenticationError as error:
        if not salts:  # refused before the password check
            raise
        raise AuthenticationError(f"{error}: {why_refused(terms.credentials, salts[0])}") from error
    except ConnectionLostError:
        for offer in offers:
            check_version(offer["version"], "the server")
        raise
    check_version(offers[0]["version"], "the server")
    if not node and not _refusal(terms, offers[0]):
        raise UnwantedServerError("this client already has a session on that server, or it is another server")
    return offers[0], node


def _refusal(terms: LoginTerms, offer: dict[str, Any]) -> str:
    """Return why the server accepts no session of this user; empty if it does, or if no new one is wanted."""
    if terms.is_control or terms.back is not None:
        return ""
    return str(offer.get("refused") or "")[:_MAX_REASON]


def _answer(terms: LoginTerms, node: int, key: bytes) -> dict[str, Any]:
    """Return the client's description of a node for its server; `key` is the public key that the server made."""
    authority = terms.authority
    answer: dict[str, Any] = {
        "version": VERSION,
        "network": terms.network_id,
        "network_key": terms.network_key,
        "node": node,
        "certificate": authority.sign(key, node) if authority else b"",
        "authority": authority.certificate if authority else b"",
        "token": link_token(terms.link_key, 0, node) if terms.link_key else None,
        **({"control": True} if terms.is_control else {}),
        **({"exclusive": True} if terms.is_exclusive else {}),
    }
    if terms.back is not None and authority is not None:
        # It follows the other key, which is discarded if the server returns this client to its session.
        answer["back"] = [authority.sign(terms.back.keys[node], node), terms.back.takes_over]
    return answer


def add_node(first: Server, node: int, terms: LoginTerms) -> Steps[Server]:
    """Ask the session of `first` for another node, and return it; no further login is needed.

    Raises `ConnectionLostError` or `ProtocolError` if the session refuses. No connection stays open.
    """
    try:
        command = yield from _join(first, node, terms)
    except ConnectionLostError as error:
        why = f"no further engine: {error}; the server's log may say why"
        raise ConnectionLostError(why) from error
    return terms.make_server(command, first.location)


def _join(first: Server, node: int, terms: LoginTerms) -> Steps[Connection]:
    location = first.location
    channel = yield from dial(
        location.places(),
        Preamble(Purpose.JOIN, terms.network_id, 0, first.node, key=terms.network_key),
        terms.tls,
        terms.peer_timeout,
        client_link(terms.link_key, location.local, first.node),
        note=functools.partial(note_place, first),
    )
    try:
        offer = decoder.unpack((yield from receive_packed(channel)))
        if not (isinstance(offer, dict) and isinstance(offer.get("key"), bytes)):
            raise ConnectionLostError("the server sent an invalid offer")
        yield from send_packed(channel, _answer(terms, node, offer["key"]))
        yield from expect_hello(channel)
    except BaseException:
        channel.close()
        raise
    return Connection(node, first.host, channel, role=Role.CLIENT, limits=terms.limits)


def _introduce(terms: LoginTerms, sock: socket.socket, node: int) -> Steps[tuple[Channel, dict[str, Any]]]:
    """Start a command channel without encryption."""
    yield from steps.send_all(sock, Preamble(Purpose.COMMAND, terms.network_id, 0, node).pack())
    data = yield from steps.receive_exactly(sock, FIRST_WORD_BYTES)
    if not data.startswith(PREAMBLE_MAGIC):
        raise ConnectionLostError("the peer is not a pserver")
    check_first_word(data, "the server")
    data += yield from steps.receive_exactly(sock, PREAMBLE_BYTES - len(data))
    if Preamble.unpack(data, "the server").purpose is not Purpose.ACCEPTED:
        raise _NoLoginError("the server did not accept the connection", data)
    channel = Channel(sock)
    return channel, _read_offer((yield from receive_packed(channel)))


def _read_offer(data: bytes) -> dict[str, Any]:
    """Return the offer of a server. Version 1 did not name its version; offers of other versions are not checked."""
    offer = decoder.unpack(data)
    if isinstance(offer, dict):
        version = offer.setdefault("version", 1)
        if version == VERSION and {"key", "data_port", "addresses"} <= offer.keys():
            return offer
        if version != VERSION and isinstance(version, int):
            return offer
    raise ConnectionLostError("the server sent an invalid offer")
