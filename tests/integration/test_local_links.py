"""Links between processes of one account on this machine, and intrusion attempts by other accounts."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect import Network, precv, reval
from pconnect.link.local_link import TOKEN_BYTES
from pconnect.link.nonces import new_nonce
from pconnect.protocol.frames import JOB_CHANNEL, Preamble, Purpose
from tests.support.accounts import NOBODY, in_child, needs_root
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE


def test_without_local_links_all_is_encrypted(server: Server) -> None:
    with server.connect(2, local_links=False) as net:
        reval("psend([c.transport for c in sockets], sockets[0])", net)
        assert [precv(c) for c in net[1:]] == [["tls", None, "tls"], ["tls", "tls", None]]
        assert [c.transport for c in net] == [None, "tls", "tls"]
        assert net.submit(pow, 2, 5).result(DEADLINE) == 32


def test_engines_of_two_servers_of_one_account(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        reval("psend([c.transport for c in sockets], sockets[0])", net)
        assert [precv(c) for c in net[1:]] == [["unix", None, "unix"], ["unix", "unix", None]]


def test_without_the_socket_of_a_server_tls_is_used(own_servers: list[Server]) -> None:
    for path in (own_servers[0].folder / "pserver").glob("*.socket"):
        path.unlink()
    with connect(own_servers) as net:
        assert [c.transport for c in net] == [None, "tls", "unix"]
        assert net[1].submit(pow, 2, 5).result(DEADLINE) == 32


@needs_root
@pytest.mark.parametrize("endpoint", [0, JOB_CHANNEL, JOB_CHANNEL + 1])
def test_another_account_that_guesses_path_and_network_gets_nothing(tmp_path: Path, endpoint: int) -> None:
    with run_server(tmp_path / "server") as server, server.connect(2) as net:
        net.submit(pow, 2, 5).result(DEADLINE)
        path = next((server.folder / "pserver").glob("*.socket"))
        # Bypasses the permissions of the test's folders.
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        name = f"/proc/self/fd/{folder}/{path.name}"
        try:
            assert "PermissionError" in in_child(NOBODY, attempt(name, net, endpoint))
            # Even with open permissions, the server checks the account of each client.
            path.parent.chmod(0o711)
            path.chmod(0o666)
            assert in_child(NOBODY, attempt(name, net, endpoint)) == "nothing"
        finally:
            os.close(folder)
        server.wait_for_log("user id 65534")
        assert_works(net)


@pytest.mark.parametrize("endpoint", [0, JOB_CHANNEL, JOB_CHANNEL + 1])
def test_this_account_without_the_token_gets_nothing(tmp_path: Path, endpoint: int) -> None:
    with run_server(tmp_path / "server") as server, server.connect(2) as net:
        net.submit(pow, 2, 5).result(DEADLINE)
        path = next((server.folder / "pserver").glob("*.socket"))
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            assert attempt(f"/proc/self/fd/{folder}/{path.name}", net, endpoint)() == "nothing"
        finally:
            os.close(folder)
        assert_works(net)


def attempt(name: str, net: Network, endpoint: int) -> Callable[[], str]:
    """Return a function that tries to join as the client of a network, and returns the server's answer."""

    def run() -> str:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(name)
            try:
                key = net.mesh.mesh_setup.network_key  # type: ignore[attr-defined]
                preamble = Preamble(Purpose.DATA, net.mesh.network_id, 0, 1, endpoint, key)
                sock.sendall(preamble.pack(new_nonce()))
                sock.sendall(bytes(TOKEN_BYTES))
                return sock.recv(1000).decode("latin-1") or "nothing"
            except (BrokenPipeError, ConnectionResetError):
                return "nothing"

    return run


def assert_works(net: Network) -> None:
    reval("psend(sockets.node, sockets[3 - sockets.node])", net)
    reval("psend(precv(sockets[3 - sockets.node]), sockets[0])", net)
    assert [precv(c, timeout=DEADLINE) for c in net[1:]] == [2, 1]
    assert net.submit(pow, 2, 6).result(DEADLINE) == 64  # type: ignore[attr-defined]
