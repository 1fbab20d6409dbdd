"""A peer that knows the password but wants a weaker login than ours gets no login, on either side."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tlslite.api import TLSConnection
from tlslite.mathtls import goodGroupParameters

from srp_tools import login
from srp_tools.credentials import Credentials
from srp_tools.errors import ConnectionLostError
from srp_tools.srp_groups import Group
from srp_tools.steps import Steps, deadline_after, run, run_all
from srp_tools.verifier import Verifier, make_verifier
from tests.support.hellos import hello_of, weak_hellos

LIMIT = 30.0  # seconds; only a broken test takes this long
ALICE = Credentials("alice", "correct horse battery staple")
VERIFIER = make_verifier(ALICE, 2048)
OFFER = b"what nobody may see"

WEAK: dict[str, dict[str, Any]] = {
    "TLS 1.1": {"minVersion": (3, 1), "maxVersion": (3, 2)},
    "TLS 1.3": {"minVersion": (3, 4), "maxVersion": (3, 4)},
    "no encrypt-then-MAC": {"useEncryptThenMAC": False},
    "no extended master secret": {"useExtendedMasterSecret": False, "requireExtendedMasterSecret": False},
    "3DES": {"cipherNames": ["3des"]},
}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield near, far


def settings(changes: dict[str, Any]) -> Any:
    found = login._settings()
    for name, value in changes.items():
        setattr(found, name, value)
    return found


class Weak:
    """A peer that knows the password and wants a weak login."""

    def __init__(self, sock: socket.socket, changes: dict[str, Any]) -> None:
        self.heard = b""
        self._settings = settings(changes)
        self._sock = sock
        self._records = login._RecordSocket(sock)
        self._connection = TLSConnection(self._records)
        self._connection.closeSocket = False

    def client(self) -> Steps[None]:
        user, password = bytearray(b"alice"), bytearray(ALICE.password, "utf-8")
        yield from self._run(
            self._connection.handshakeClientSRP(user, password, settings=self._settings, async_=True)
        )

    def server(self, verifier: Verifier = VERIFIER) -> Steps[None]:
        verifiers = login._Verifiers(lambda _: verifier)
        yield from self._run(
            self._connection.handshakeServerAsync(verifierDB=verifiers, settings=self._settings)
        )

    def _run(self, handshake: Any) -> Steps[None]:
        with self._sock, login._mapped_errors():
            yield from login._drive(self._records, handshake)
            self.heard = yield from login._drive(self._records, self._connection.readAsync(max=100, min=1))


def outcomes(ours: Steps[Any], sock: socket.socket, theirs: Steps[None]) -> tuple[Any, Any]:
    """Return the outcome on both sides; ours closes its connection at the end."""

    def closing() -> Steps[Any]:
        with sock:
            return (yield from ours)

    found = run_all({"ours": closing(), "theirs": theirs}, deadline_after(LIMIT))
    return found["ours"], found["theirs"]


@pytest.mark.parametrize("changes", WEAK.values(), ids=WEAK)
def test_a_client_that_wants_less(pair: tuple[socket.socket, socket.socket], changes: dict[str, Any]) -> None:
    weak = Weak(pair[1], changes)
    ours, theirs = outcomes(login.accept_login(pair[0], lambda _: VERIFIER, OFFER), pair[0], weak.client())
    assert isinstance(ours, ConnectionLostError)
    assert isinstance(theirs, ConnectionLostError) or theirs is None
    assert weak.heard == b""


@pytest.mark.parametrize("changes", WEAK.values(), ids=WEAK)
def test_a_server_that_wants_less(pair: tuple[socket.socket, socket.socket], changes: dict[str, Any]) -> None:
    weak = Weak(pair[1], changes)
    answers: list[bytes] = []
    ours, theirs = outcomes(login.log_in(pair[0], ALICE, answers.append), pair[0], weak.server())  # type: ignore[arg-type]
    assert isinstance(ours, ConnectionLostError)
    assert isinstance(theirs, ConnectionLostError) or theirs is None
    assert answers == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_server_with_a_group_of_less_than_2048_bits(
    pair: tuple[socket.socket, socket.socket], number: int
) -> None:
    generator, prime = goodGroupParameters[number]
    assert prime.bit_length() < login.MIN_GROUP_BITS
    small = Verifier("alice", b"salt", Group(prime.bit_length(), generator, prime), 12345)
    weak = Weak(pair[1], {"minKeySize": 1024})
    ours, _ = outcomes(login.log_in(pair[0], ALICE, bytes), pair[0], weak.server(small))
    assert isinstance(ours, ConnectionLostError)
    assert "N value is too small" in str(ours)


def test_both_strong(pair: tuple[socket.socket, socket.socket]) -> None:
    """This makes sure that no login here is refused for another reason."""
    weak = Weak(pair[1], {})
    outcomes(login.accept_login(pair[0], lambda _: VERIFIER, OFFER), pair[0], weak.client())
    assert weak.heard[2:] == OFFER


def test_a_hello_that_wants_all_is_answered_by_one(pair: tuple[socket.socket, socket.socket]) -> None:
    steps = login.accept_login(pair[0], lambda _: VERIFIER, OFFER, hello_of("alice"))
    next(steps)
    steps.close()
    assert pair[1].recv(2**14)[0] == 22


@pytest.mark.parametrize("hello", weak_hellos().values(), ids=weak_hellos())
def test_a_hello_that_wants_less_is_answered_by_an_alert(
    pair: tuple[socket.socket, socket.socket], hello: bytes
) -> None:
    with pytest.raises(ConnectionLostError):
        run(login.accept_login(pair[0], lambda _: VERIFIER, OFFER, hello), deadline_after(LIMIT))
    pair[0].close()
    said = pair[1].recv(2**14)
    assert (said[0], said[3:6]) == (21, b"\0\2\2"), said  # fatal
    assert pair[1].recv(1) == b""
