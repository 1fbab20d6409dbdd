"""Engines' parts in making a mesh, with the handing over done by the test instead of a daemon."""

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pconnect.connection import Connection
from pconnect.dial import dial
from pconnect.frames import PREAMBLE_BYTES, Preamble, Purpose
from pserver.mesh import Setup, connect_mesh
from srp_tools.certificates import Identity, NetworkAuthority, NodeKey
from srp_tools.channel import Channel, tls_context
from srp_tools.waiting import deadline_after, run

LIMIT = 20.0
NETWORK = secrets.token_bytes(16)
AUTHORITY = NetworkAuthority(NETWORK)


def identity(node: int) -> list[bytes]:
    key = NodeKey()
    made = key.identity(NETWORK, node, AUTHORITY.sign(key.public_bytes(), node), AUTHORITY.certificate)
    return [made.key_pem, made.certificate, made.authority]


def setup(node: int, ports: list[int], *, use_tls: bool, timeout: float = LIMIT) -> Setup:
    nodes = [{"host": f"host{n}", "addresses": [["127.0.0.1", port]]} for n, port in enumerate(ports, 1)]
    return Setup(
        NETWORK,
        nodes,
        node,
        identity(node) if use_tls else None,
        directory="/",
        directory_is_clients=True,
        session_folder="/",
        limits=[2**20, 2**20],
        peer_timeout=30.0,
        timeout=timeout,
    )


@contextmanager
def hand_over() -> Iterator[tuple[int, socket.socket]]:
    """Take connections at a port and pass each with its preamble to the end that is given."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            with sock:
                data = sock.recv(PREAMBLE_BYTES, socket.MSG_WAITALL)
                if not data:
                    return
                socket.send_fds(ours, [data], [sock.fileno()])

    with socket.create_server(("127.0.0.1", 0)) as listener, ours, theirs:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port, theirs
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join(LIMIT)


def join(
    results: dict[int, tuple[list[Connection], dict[int, str]]], words: Setup, handover: socket.socket
) -> threading.Thread:
    def work() -> None:
        results[words.node] = connect_mesh(words, handover)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def call(port: int, from_node: int, *, use_tls: bool, as_node: int | None = None) -> Channel:
    """Open the data connection of a node to node 1; with TLS it may have the certificate of another."""
    context = None
    if use_tls:
        key_pem, certificate, authority = identity(from_node if as_node is None else as_node)
        own = Identity(NETWORK, from_node, key_pem, certificate, authority)
        context = tls_context(own, server_side=False)
    steps = dial([("127.0.0.1", port)], Preamble(Purpose.DATA, NETWORK, from_node, 1), context, 30.0)
    return run(steps, deadline_after(LIMIT))


@pytest.mark.parametrize("use_tls", [True, False])
def test_two_engines_and_a_client(use_tls: bool) -> None:
    results: dict[int, tuple[list[Connection], dict[int, str]]] = {}
    with hand_over() as (port_1, handover_1), hand_over() as (port_2, handover_2):
        ports = [port_1, port_2]
        threads = [
            join(results, setup(1, ports, use_tls=use_tls), handover_1),
            join(results, setup(2, ports, use_tls=use_tls), handover_2),
        ]
        clients = [call(port_1, 0, use_tls=use_tls)]
        steps = dial(
            [("127.0.0.1", port_2)],
            Preamble(Purpose.DATA, NETWORK, 0, 2),
            tls_context(AUTHORITY.own_identity(), server_side=False) if use_tls else None,
            30.0,
        )
        clients.append(run(steps, deadline_after(LIMIT)))
        for thread in threads:
            thread.join(LIMIT)
    for node, (connections, errors) in results.items():
        assert errors == {}
        assert [connection.is_own for connection in connections] == [n == node for n in range(3)]
        assert [connection.host for connection in connections] == ["client", "host1", "host2"]
        assert all(c.encrypted == use_tls for c in connections if not c.is_own)
        for connection in connections:
            connection.close()
    assert len(results) == 2
    for client in clients:
        client.close()


def test_a_stranger_is_refused_and_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    results: dict[int, tuple[list[Connection], dict[int, str]]] = {}
    with hand_over() as (port, handover):
        thread = join(results, setup(1, [port], use_tls=True), handover)
        with pytest.raises(ConnectionError, match="no data connection to node 1"):
            call(port, 0, use_tls=True, as_node=5)
        with pytest.raises(ConnectionError, match="no data connection to node 1"):
            call(port, 4, use_tls=True)
        client = call(port, 0, use_tls=True)
        thread.join(LIMIT)
    connections, errors = results[1]
    assert errors == {}
    for connection in connections:
        connection.close()
    client.close()
    told = capsys.readouterr().err
    assert "node 0 was refused" in told
    assert "node 4 was refused: it is not expected" in told


def test_who_does_not_come_and_who_cannot_be_reached_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        closed = sock.getsockname()[1]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        connections, errors = connect_mesh(setup(1, [closed, closed], use_tls=False, timeout=0.2), theirs)
    assert errors[0] == "node 0 did not connect to node 1"
    assert errors[2].startswith("node 1 could not connect to node 2: ")
    assert "Connection refused" in errors[2]
    assert all(connection.is_own for connection in connections)


def test_a_daemon_that_is_gone_hands_nothing_over() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    _, errors = connect_mesh(setup(1, [1], use_tls=False), theirs)
    assert errors == {0: "node 0 did not connect to node 1"}
