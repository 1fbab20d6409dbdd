"""Peers that TLS accepts, and peers that it refuses."""

import socket
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from srp_tools.certificates import NetworkAuthority, NodeKey
from srp_tools.channel import Channel
from srp_tools.errors import AuthenticationError, ConnectionLostError
from srp_tools.steps import Steps, deadline_after, run, run_all
from srp_tools.tls import TlsContexts, start_tls, tls_context
from tests.support.channels import AUTHORITY, LIMIT, NETWORK_ID, handshake, socket_pair, tls_pair


def attempt(left: Steps[Channel], right: Steps[Channel]) -> tuple[Channel | Exception, Channel | Exception]:
    ends = run_all({"left": left, "right": right}, deadline_after(LIMIT))
    return ends["left"], ends["right"]


def close_all(*ends: object) -> None:
    for end in ends:
        if isinstance(end, Channel):
            end.close()


@pytest.mark.parametrize("server_side", [False, True])
def test_an_error_that_others_have_left_in_openssl_is_not_ours(server_side: bool) -> None:
    with pytest.raises(ValueError, match="unknown object"):
        ssl._ASN1Object("no number")
    tls_context(AUTHORITY.own_identity(), server_side=server_side)


@pytest.mark.parametrize("server_side", [False, True])
def test_another_node_than_expected(server_side: bool) -> None:
    one, other = socket_pair()
    careful, wrong = attempt(
        handshake(one, 1, 3, server_side=server_side),
        handshake(other, 2, 1, server_side=not server_side),
    )
    assert isinstance(careful, AuthenticationError)
    assert str(careful) == "the peer is not node 3 of this network"
    assert one.fileno() == -1
    close_all(wrong)


def test_a_renewed_certificate_is_shown_from_then_on() -> None:
    tls = TlsContexts(AUTHORITY.own_identity())
    contexts = tls.client, tls.server
    assert (tls.client, tls.server) == contexts
    renewed = AUTHORITY.renew(0)
    tls.renew(renewed)
    one, other = socket_pair()
    accepting = start_tls(one, tls.server, NETWORK_ID, 2, server_side=True)
    left, right = attempt(accepting, handshake(other, 2, 0, server_side=False))
    assert isinstance(left, Channel) and isinstance(right, Channel)
    shown: Any = right._sock
    assert shown.getpeercert(binary_form=True) == renewed
    assert tls.client not in contexts
    close_all(left, right)


def test_another_network_of_the_same_authority() -> None:
    one, other = socket_pair()
    same_key = NetworkAuthority(NETWORK_ID)
    careful = handshake(one, 1, 2, server_side=True, authority=same_key)
    same_key.network_id = bytes(16)
    ends = attempt(careful, handshake(other, 2, 1, server_side=False, authority=same_key))
    assert isinstance(ends[0], AuthenticationError)
    close_all(*ends)


def test_a_server_of_a_foreign_authority() -> None:
    one, other = socket_pair()
    client, server = attempt(
        handshake(one, 1, 2, server_side=False),
        handshake(other, 2, 1, server_side=True, authority=NetworkAuthority(NETWORK_ID)),
    )
    assert isinstance(client, AuthenticationError)
    assert "does not belong to this network" in str(client)
    assert isinstance(server, ConnectionLostError)
    assert one.fileno() == other.fileno() == -1


def test_a_client_of_a_foreign_authority_learns_it_at_its_first_read() -> None:
    one, other = socket_pair()
    foreign = NetworkAuthority(NETWORK_ID)
    key = NodeKey()
    # The client trusts the server, but has no certificate of the same network.
    certificate = foreign.sign(key.public_bytes(), 1)
    identity = key.identity(NETWORK_ID, 1, certificate, AUTHORITY.certificate)
    context = tls_context(identity, server_side=False)
    client, server = attempt(
        start_tls(one, context, NETWORK_ID, 2, server_side=False), handshake(other, 2, 1, server_side=True)
    )
    assert isinstance(server, AuthenticationError)
    assert isinstance(client, Channel)
    with pytest.raises(ConnectionLostError):
        run(client.receive_exactly(1), deadline_after(LIMIT))
    client.close()


@pytest.mark.parametrize("server_side", [False, True])
def test_a_plain_peer_against_tls(server_side: bool) -> None:
    one, other = socket_pair()
    other.send(b"SSH-2.0-OpenSSH_9.6\r\n" * 10)
    with pytest.raises(ConnectionLostError):
        run(handshake(one, 1, 2, server_side=server_side), deadline_after(LIMIT))
    assert one.fileno() == -1
    other.close()


@pytest.mark.parametrize("server_side", [False, True])
def test_a_peer_that_hangs_up(server_side: bool) -> None:
    one, other = socket_pair()
    other.close()
    with pytest.raises(ConnectionLostError, match="the peer closed the connection"):
        run(handshake(one, 1, 2, server_side=server_side), deadline_after(LIMIT))
    assert one.fileno() == -1


def test_a_silent_peer_costs_no_socket() -> None:
    one, other = socket_pair()
    with pytest.raises(TimeoutError):
        run(handshake(one, 1, 2, server_side=True), deadline_after(0.05))
    assert one.fileno() == -1
    other.close()


def test_a_handshake_through_small_buffers() -> None:
    one, other = socket_pair()
    for sock in (one, other):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    while True:
        try:
            one.send(bytes(100))  # fills the buffer, so that the first write must wait
        except BlockingIOError:
            break

    def late() -> Steps[Channel]:
        drained = 0
        while True:
            try:
                drained += len(other.recv(100_000))
            except BlockingIOError:
                break
        return (yield from handshake(other, 2, 1, server_side=True))

    ends = run_all({1: handshake(one, 1, 2, server_side=False), 2: late()}, deadline_after(LIMIT))
    assert isinstance(ends[1], Channel) and isinstance(ends[2], Channel)
    close_all(*ends.values())


def test_without_memory_files_no_key_file_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for end in tls_pair():
        end.close()
    assert list(tmp_path.iterdir()) == []
