"""The start of a login: with bytes that were read before, within a time limit, or refused."""

import socket
import time
from typing import Any

import pytest

from srp_tools.errors import AuthenticationError, ConnectionLostError, ServerBusyError
from srp_tools.login import accept_login, log_in
from srp_tools.steps import Steps, deadline_after, receive_exactly, run_all, send_all
from srp_tools.verifier import Verifier
from tests.support.hellos import hello_of
from tests.support.verifiers import ALICE, VERIFIER

Pair = tuple[socket.socket, socket.socket]
LIMIT = 30.0  # seconds; only a broken test takes this long


def both(client: Steps[Any], server: Steps[Any]) -> tuple[Any, Any]:
    outcomes = run_all({"client": client, "server": server}, deadline_after(LIMIT))
    return outcomes["client"], outcomes["server"]


def know_alice(user: str) -> Verifier:
    assert user == "alice"
    return VERIFIER


@pytest.mark.parametrize(
    ("alert", "kind", "words"),
    [
        (80, ServerBusyError, "the server is busy: too many clients want to log in"),
        (49, AuthenticationError, "too many logins of this user from this address have failed"),
        (115, AuthenticationError, "the user name or the password was not accepted"),
        (50, ConnectionLostError, "does the peer offer TLS-SRP"),
    ],
)
def test_a_server_that_turns_a_client_away_says_why_by_an_alert(
    pair: Pair, alert: int, kind: type[Exception], words: str
) -> None:
    def server() -> Steps[None]:
        yield from receive_exactly(pair[1], 50)
        yield from send_all(pair[1], bytes([21, 3, 3, 0, 2, 2, alert]))

    client, _ = both(log_in(pair[0], ALICE, bytes), server())
    assert type(client) is kind
    assert words in str(client)


def test_what_the_daemon_has_read_comes_first(pair: Pair) -> None:
    def server() -> Steps[tuple[str, bytes]]:
        header = yield from receive_exactly(pair[1], 5)
        hello = yield from receive_exactly(pair[1], int.from_bytes(header[3:], "big"))
        return (yield from accept_login(pair[1], know_alice, b"offer", header + hello))

    assert both(log_in(pair[0], ALICE, bytes), server()) == (None, ("alice", b"offer"))


def test_a_client_must_prove_itself_in_time(pair: Pair) -> None:
    def client() -> Steps[bytes]:
        yield from send_all(pair[0], hello_of("alice"))
        return (yield from receive_exactly(pair[0], 2**20))

    def server() -> Steps[Any]:
        try:
            return (yield from accept_login(pair[1], know_alice, b"offer", b"", begin + 0.2))
        finally:
            pair[1].close()

    begin = time.monotonic()
    _, outcome = both(client(), server())
    assert isinstance(outcome, TimeoutError)
    assert 0.2 <= time.monotonic() - begin < LIMIT / 2
