"""Logins over socket pairs: accepted and refused clients, and the position of the socket afterwards."""

import inspect
import os
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tlslite import keyexchange
from tlslite.api import TLSConnection
from tlslite.mathtls import goodGroupParameters

from srp_tools import login
from srp_tools.certificates import NetworkAuthority, NodeKey
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials
from srp_tools.errors import AuthenticationError, ConnectionLostError
from srp_tools.login import accept_login, log_in
from srp_tools.srp_groups import Group, secret_power
from srp_tools.steps import Steps, Wait, deadline_after, receive_exactly, run, run_all, send_all
from srp_tools.tls import start_tls, tls_context
from srp_tools.verifier import Verifier, make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.verifiers import ALICE, VERIFIER

Pair = tuple[socket.socket, socket.socket]
LIMIT = 30.0  # seconds; only a broken test takes this long


@pytest.fixture(scope="module")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Verifier]:
    folder = Path(tmp_path_factory.mktemp("server")) / "verifiers"
    file = VerifierFile(folder / "tpasswd")
    file.add(VERIFIER)
    return file.lookup


def both(client: Steps[Any], server: Steps[Any]) -> tuple[Any, Any]:
    outcomes = run_all({"client": client, "server": server}, deadline_after(LIMIT))
    return outcomes["client"], outcomes["server"]


def know_alice(user: str) -> Verifier:
    assert user == "alice"
    return VERIFIER


# Accepted and refused clients.


@pytest.mark.parametrize(
    ("offer", "answer"), [(b"offer", b"answer"), (b"o", b"a"), (b"o" * 2**14, b"a" * 2**14)]
)
def test_offer_and_answer(pair: Pair, offer: bytes, answer: bytes) -> None:
    offers: list[bytes] = []

    def respond(received: bytes) -> bytes:
        offers.append(received)
        return answer

    outcomes = both(log_in(pair[0], ALICE, respond), accept_login(pair[1], know_alice, offer))
    assert outcomes == (None, ("alice", answer))
    assert offers == [offer]


def test_tlslite_computes_powers_in_constant_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    exponents: list[int] = []

    def counted(base: int, exponent: int, modulus: int) -> int:
        exponents.append(exponent)
        return secret_power(base, exponent, modulus)

    assert keyexchange.powMod is secret_power
    monkeypatch.setattr(keyexchange, "powMod", counted)
    outcomes = both(log_in(pair[0], ALICE, bytes), accept_login(pair[1], know_alice, b"offer"))
    assert outcomes == (None, ("alice", b"offer"))
    assert len(exponents) == 6  # three on each side: all powers of a login


def test_no_source_is_looked_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "getframeinfo", None)
    outcomes = both(log_in(pair[0], ALICE, bytes), accept_login(pair[1], know_alice, b"offer"))
    assert outcomes == (None, ("alice", b"offer"))


@pytest.mark.parametrize("bits", [2048, 3072])
def test_passwords_of_any_language(pair: Pair, bits: int) -> None:
    someone = Credentials("a.user@example+1", "pässwörd 𝄞")
    verifier = make_verifier(someone, bits)
    outcomes = both(log_in(pair[0], someone, bytes), accept_login(pair[1], lambda _: verifier, b"offer"))
    assert outcomes == (None, ("a.user@example+1", b"offer"))


def refused(pair: Pair, credentials: Credentials, lookup: Callable[[str], Verifier]) -> tuple[str, str]:
    answers: list[bytes] = []
    client, server = both(
        log_in(pair[0], credentials, lambda offer: answers.append(offer) or b"answer"),  # type: ignore[func-returns-value]
        accept_login(pair[1], lookup, b"the offer is for members only"),
    )
    assert isinstance(client, AuthenticationError)
    assert isinstance(server, AuthenticationError)
    assert answers == []
    return str(client), str(server)


def test_wrong_password_and_unknown_user_get_the_same_answer(
    pair: Pair, lookup: Callable[[str], Verifier]
) -> None:
    wrong = refused(pair, Credentials("alice", "wrong"), lookup)
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        unknown = refused((left, right), Credentials("mallory", ALICE.password), lookup)
    assert wrong == unknown
    assert wrong[0] == "the user name or the password was not accepted"


@pytest.mark.parametrize("password", [ALICE.password, "wrong"])
def test_the_client_sees_which_salt_the_server_names(pair: Pair, password: str) -> None:
    verifier, salts = make_verifier(ALICE, 2048), list[bytes]()
    client = log_in(pair[0], Credentials("alice", password), bytes, salts.append)
    both(client, accept_login(pair[1], lambda _: verifier, b"offer"))
    assert salts == [verifier.salt]


def test_the_client_and_the_daemon_see_the_same_clienthello(pair: Pair) -> None:
    sent: list[bytes] = []
    read: list[bytes] = []

    def server() -> Steps[Any]:
        header = yield from receive_exactly(pair[1], 5)
        read.append(header + (yield from receive_exactly(pair[1], int.from_bytes(header[3:], "big"))))
        return (yield from accept_login(pair[1], know_alice, b"offer", read[0]))

    client = log_in(pair[0], ALICE, lambda _: b"answer", on_hello=sent.append)
    assert both(client, server()) == (None, ("alice", b"answer"))
    assert sent == read and b"alice" in sent[0]


def test_a_server_that_does_not_know_the_verifier(pair: Pair) -> None:
    impostor = make_verifier(Credentials("alice", "a guess"), 2048)
    refused(pair, ALICE, lambda _: impostor)


def test_a_server_that_tells_unknown_users_apart_is_not_quoted(pair: Pair) -> None:
    alert = bytes([21, 3, 3, 0, 2, 2, 115])  # RFC 5246, section 7.2: fatal, unknown_psk_identity
    pair[1].send(alert)
    with pytest.raises(AuthenticationError, match=r"^the user name or the password was not accepted$"):
        run(log_in(pair[0], ALICE, bytes), deadline_after(LIMIT))


@pytest.mark.parametrize(("change", "reason"), [(0, "N value is too small"), (2, "Unknown group parameters")])
def test_a_server_with_a_weak_group(pair: Pair, change: int, reason: str) -> None:
    generator, prime = goodGroupParameters[0]
    assert prime.bit_length() == 1024
    weak = Verifier("alice", b"salt", Group(1024, generator, prime + change), 12345)
    client, server = both(
        closing(log_in(pair[0], ALICE, bytes), pair[0]), accept_login(pair[1], lambda _: weak, b"offer")
    )
    assert isinstance(client, ConnectionLostError)
    assert reason in str(client)
    assert isinstance(server, ConnectionLostError)


def test_a_name_that_is_not_text_is_looked_up_as_something_else(pair: Pair) -> None:
    asked: list[str] = []

    def lookup(user: str) -> Verifier:
        asked.append(user)
        return VERIFIER

    def client() -> Steps[None]:
        records = login._RecordSocket(pair[0])
        connection = TLSConnection(records)
        connection.closeSocket = False
        with login._mapped_errors():
            name, password = bytearray(b"alice\xff"), bytearray(b"guess")
            steps = connection.handshakeClientSRP(name, password, settings=login._settings(), async_=True)
            yield from login._drive(records, steps)

    outcomes = both(client(), closing(accept_login(pair[1], lookup, b"offer"), pair[1]))
    assert [type(outcome) for outcome in outcomes] == [ConnectionLostError, ConnectionLostError]
    assert asked == ["alice\\xff"]


def test_an_error_of_the_lookup_is_not_hidden(pair: Pair) -> None:
    def broken(_: str) -> Verifier:
        raise LookupError("the disk is on fire")

    server = accept_login(pair[1], broken, b"offer")
    outcomes = run_all({1: log_in(pair[0], ALICE, bytes), 2: closing(server, pair[1])}, deadline_after(LIMIT))
    assert isinstance(outcomes[2], LookupError)
    assert isinstance(outcomes[1], ConnectionLostError)


def closing(steps: Steps[Any], sock: socket.socket) -> Steps[Any]:
    try:
        return (yield from steps)
    finally:
        sock.close()


# Peers that do not log in.


@pytest.mark.parametrize(
    "words", [b"SSH-2.0-OpenSSH_9.6\r\n", b"GET / HTTP/1.1\r\n\r\n", b"PSRV", bytes(100), b"\xff" * 100]
)
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_peer_that_speaks_something_else(pair: Pair, words: bytes, side: str) -> None:
    pair[1].send(words)
    with pytest.raises(ConnectionLostError, match="does not speak TLS"):
        run(one_side(pair[0], side), deadline_after(LIMIT))


def one_side(sock: socket.socket, side: str) -> Steps[Any]:
    return log_in(sock, ALICE, bytes) if side == "client" else accept_login(sock, know_alice, b"offer")


@pytest.mark.parametrize("side", ["client", "server"])
def test_garbage_that_looks_like_tls(side: str) -> None:
    for seed in range(20):
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.send(bytes([20 + seed % 4, 3, 3, 0, 64]) + os.urandom(64))
            right.close()
            with pytest.raises((ConnectionLostError, AuthenticationError)):  # it may look like an alert
                run(one_side(left, side), deadline_after(LIMIT))


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_record_that_is_too_long(pair: Pair, side: str) -> None:
    pair[1].send(b"\x16\x03\x03\xff\xff")
    with pytest.raises(ConnectionLostError, match="65535 bytes, which is too long"):
        run(one_side(pair[0], side), deadline_after(LIMIT))


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_peer_that_closes_at_once(pair: Pair, side: str) -> None:
    pair[1].close()
    with pytest.raises(ConnectionLostError, match="closed the connection during the login"):
        run(one_side(pair[0], side), deadline_after(LIMIT))


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_silent_peer(pair: Pair, side: str) -> None:
    with pytest.raises(TimeoutError):
        run(one_side(pair[0], side), deadline_after(0.05))


def test_a_server_that_closes_in_the_middle(pair: Pair) -> None:
    def server() -> Steps[None]:
        steps = accept_login(pair[1], know_alice, b"offer")
        yield next(steps)  # the server's part of the handshake is sent
        steps.close()
        pair[1].close()

    client, _ = both(log_in(pair[0], ALICE, bytes), server())
    assert isinstance(client, ConnectionLostError)


def rogue_server(sock: socket.socket, words: bytes) -> Steps[None]:
    """Accept the login correctly, then send `words` instead of an offer, and close."""
    records = login._RecordSocket(sock)
    connection = TLSConnection(records)
    verifiers = login._Verifiers(know_alice)
    handshake = connection.handshakeServerAsync(verifierDB=verifiers, settings=login._settings())
    yield from login._drive(records, handshake)
    yield from login._drive(records, connection.writeAsync(words))
    sock.close()


@pytest.mark.parametrize(
    "words",
    [b"\x40\x01" + b"x" * 100, b"\xff\xff", b"\x00\x05abc", b"\x00"],
    ids=lambda words: words[:2].hex(),
)
def test_offers_that_are_too_long_or_cut(pair: Pair, words: bytes) -> None:
    client, _ = both(log_in(pair[0], ALICE, bytes), rogue_server(pair[1], words))
    assert isinstance(client, ConnectionLostError)


def test_an_offer_that_is_too_long_is_not_sent(pair: Pair) -> None:
    client, server = both(
        log_in(pair[0], ALICE, bytes),
        closing(accept_login(pair[1], know_alice, bytes(2**14 + 1)), pair[1]),
    )
    assert isinstance(client, ConnectionLostError)
    assert type(server) is ValueError
    assert "16385 bytes is too long" in str(server)


def test_an_answer_that_is_too_long(pair: Pair) -> None:
    client, server = both(
        closing(log_in(pair[0], ALICE, lambda _: bytes(2**14 + 1)), pair[0]),
        accept_login(pair[1], know_alice, b"offer"),
    )
    assert type(client) is ValueError
    assert isinstance(server, ConnectionLostError)


# The bytes after the login.


def test_the_socket_is_exactly_behind_the_login(pair: Pair) -> None:
    client_socket, server_socket = pair
    words = os.urandom(10_000)

    def client() -> Steps[bytes]:
        yield from log_in(client_socket, ALICE, bytes)
        yield from send_all(client_socket, words)  # may follow our close_notify in the same read
        return (yield from receive_exactly(client_socket, 5))

    def server() -> Steps[bytes]:
        yield from accept_login(server_socket, know_alice, b"offer")
        yield from send_all(server_socket, b"hello")
        return (yield from receive_exactly(server_socket, len(words)))

    assert both(client(), server()) == (b"hello", words)
    for sock in pair:
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_a_login_that_arrives_byte_by_byte(pair: Pair) -> None:
    """A forwarder passes on one byte at a time, so no read ends at the end of a record."""
    inner, outer = socket.socketpair()
    with inner, outer:
        inner.setblocking(False)
        outer.setblocking(False)
        client_socket, forwarder = pair

        def forward() -> Steps[None]:
            while True:
                for source, target in ((forwarder, inner), (inner, forwarder)):
                    try:
                        target.send(source.recv(1))
                    except BlockingIOError:
                        continue
                yield Wait(forwarder.fileno(), selectors.EVENT_WRITE)

        ends: dict[str, Any] = {}

        def note(name: str, steps: Steps[Any]) -> Steps[None]:
            ends[name] = yield from steps

        def forward_while_needed() -> Steps[None]:
            for wait in forward():
                if len(ends) == 2:
                    return
                yield wait

        steps = {
            1: note("client", log_in(client_socket, ALICE, bytes)),
            2: note("server", accept_login(outer, know_alice, b"offer")),
            3: forward_while_needed(),
        }
        assert run_all(steps, deadline_after(LIMIT)) == dict.fromkeys(steps)
        assert ends == {"client": None, "server": ("alice", b"offer")}


def test_tls_continues_on_the_same_socket(pair: Pair) -> None:
    network_id = os.urandom(16)
    authority = NetworkAuthority(network_id)
    own = authority.own_identity()
    key = NodeKey()

    def client() -> Steps[Channel]:
        def sign(public_key: bytes) -> bytes:
            return (
                len(authority.certificate).to_bytes(2, "big")
                + authority.certificate
                + authority.sign(public_key, 1)
            )

        yield from log_in(pair[0], ALICE, sign)
        context = tls_context(own, server_side=False)
        return (yield from start_tls(pair[0], context, network_id, 1, server_side=False))

    def server() -> Steps[Channel]:
        _, answer = yield from accept_login(pair[1], know_alice, key.public_bytes())
        count = 2 + int.from_bytes(answer[:2], "big")
        identity = key.identity(network_id, 1, answer[count:], answer[2:count])
        context = tls_context(identity, server_side=True)
        return (yield from start_tls(pair[1], context, network_id, 0, server_side=True))

    left, right = both(client(), server())
    assert isinstance(left, Channel) and isinstance(right, Channel)
    assert both(left.send_all(b"over TLS 1.3"), right.receive_exactly(12)) == (None, b"over TLS 1.3")
    left.close()
    right.close()
