"""Peers that dial an engine. test_links covers TLS, and what engines do with the connections."""

import contextlib
import secrets
import socket
from collections.abc import Callable

import pytest

from pconnect.errors import AuthenticationError, ConnectionLostError
from pconnect.protocol.frames import HELLO
from pserver.engine.greeting import greet, has_hung_up, meet, meet_called, not_expected
from srp_tools.certificates import NetworkAuthority, NodeKey
from srp_tools.channel import Channel
from srp_tools.steps import Steps, deadline_after, run, run_all
from srp_tools.tls import TlsContexts
from tests.support.waiting import DEADLINE, wait_until


def accepted() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a TCP connection, the accepted one last."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialled = socket.create_connection(listener.getsockname())
        return dialled, listener.accept()[0]


def test_a_peer_hears_that_it_is_welcome_or_is_hung_up_on() -> None:
    dialled, sock = accepted()
    with dialled:
        sock.setblocking(False)
        run(greet(sock, None, bytes(16), 1, None), deadline_after(DEADLINE)).close()
        assert dialled.recv(100) == HELLO

    def refuse() -> None:
        raise not_expected()

    dialled, sock = accepted()
    with dialled:
        with pytest.raises(ConnectionLostError, match="this node is not expected"):
            run(greet(sock, None, bytes(16), 1, None, check=refuse), deadline_after(DEADLINE))
        assert dialled.recv(100) == b""


def test_one_that_has_hung_up_is_seen_without_reading() -> None:
    dialled, sock = accepted()
    with sock:
        assert not has_hung_up(sock)
        dialled.close()
        wait_until(lambda: has_hung_up(sock), "the end of the connection")


NETWORK = secrets.token_bytes(16)
AUTHORITY = NetworkAuthority(NETWORK)
Meeting = dict[int, Channel | Exception]


def contexts(node: int) -> TlsContexts:
    key = NodeKey()
    return TlsContexts(
        key.identity(NETWORK, node, AUTHORITY.sign(key.public_bytes(), node), AUTHORITY.certificate)
    )


def met(*wanted: tuple[int, int], use_tls: bool = True, check: Callable[[], None] = lambda: None) -> Meeting:
    """Let two nodes meet. `wanted`: for each, its number and the number that it expects."""
    ends = accepted()
    steps: dict[int, Steps[Channel]] = {}
    for sock, (own, other) in zip(ends, wanted, strict=True):
        sock.setblocking(False)
        steps[own] = meet(sock, contexts(own) if use_tls else None, NETWORK, (own, other), check=check)
    return run_all(steps, deadline_after(DEADLINE))


@pytest.mark.parametrize("use_tls", [True, False])
@pytest.mark.parametrize("wanted", [((1, 2), (2, 1)), ((2, 1), (1, 2))])
def test_two_meet_whoever_of_them_has_dialled(wanted: tuple[tuple[int, int], ...], use_tls: bool) -> None:
    found = met(*wanted, use_tls=use_tls)
    for channel in found.values():
        assert isinstance(channel, Channel) and channel.encrypted is use_tls
        assert channel.transport == "relay"
        channel.close()


def test_a_relay_can_bring_nobody_else() -> None:
    """A relay may connect any two nodes: each one checks the other's certificate."""
    found = met((1, 2), (3, 1))
    assert isinstance(found[1], AuthenticationError) and "not node 2" in str(found[1])
    other = found[3]  # it is connected to the node that it expects, and loses the connection
    if isinstance(other, Channel):
        with contextlib.closing(other), pytest.raises(ConnectionLostError):
            run(other.receive_exactly(1), deadline_after(DEADLINE))


def test_who_is_not_expected_any_more_is_turned_away() -> None:
    def refuse() -> None:
        raise not_expected()

    assert all(
        isinstance(outcome, ConnectionLostError) for outcome in met((1, 2), (2, 1), check=refuse).values()
    )


def test_who_is_called_confirms_in_clear_that_the_relay_is_right() -> None:
    relay, sock = accepted()
    with relay, contextlib.ExitStack() as stack:
        sock.setblocking(False)
        outcome = run(meet_called(sock, None, NETWORK, (2, 1)), deadline_after(DEADLINE))
        stack.callback(outcome.close)
        assert relay.recv(len(HELLO)) == HELLO  # for the relay
        assert relay.recv(len(HELLO)) == HELLO  # from the node with the higher number, for the other
