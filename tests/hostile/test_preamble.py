"""Attackers who have seen a network's number, or sit between its nodes, do no harm, and its user sees nothing."""

import contextlib
import dataclasses
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pconnect import ConnectError, Network, pconnect, precv, restart, reval
from pconnect.errors import ConnectionLostError
from pconnect.link.dialing import dial
from pconnect.link.nonces import new_nonce
from pconnect.protocol.frames import PREAMBLE_BYTES, Preamble, Purpose
from srp_tools.certificates import NetworkAuthority
from srp_tools.steps import deadline_after, run
from srp_tools.tls import TlsContexts
from tests.support.networks import assert_neighbours_talk
from tests.support.proxies import BACK, FORTH, Meddling, change, cut, delay, leave, proxy_to
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE

STRANGERS = 300
PATIENCE = 3.0  # seconds for attempts that cannot succeed


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("attacked") / "server") as running:
        yield running


@pytest.fixture
def net(attacked: Server, capfd: pytest.CaptureFixture[str]) -> Iterator[Network]:
    """Yield a network of three engines; check afterwards that it works and that its user has seen nothing."""
    with attacked.connect(3, local_links=False) as made:
        yield made
        assert_works(made)
    assert capfd.readouterr() == ("", "")


def assert_works(net: Network) -> None:
    assert_neighbours_talk(net)
    assert net.submit(pow, 2, 5).result(DEADLINE) == 32  # type: ignore[attr-defined]


def setup_of(net: Network) -> Any:
    return net.mesh.mesh_setup  # type: ignore[attr-defined]


def preamble_of(net: Network, from_node: int, to_node: int, *, with_key: bool) -> Preamble:
    key = setup_of(net).network_key if with_key else secrets.token_bytes(32)
    return Preamble(Purpose.DATA, setup_of(net).network_id, from_node, to_node, key=key)


def visit(server: Server, *words: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.data_port), DEADLINE)
    for word in words:
        sock.sendall(word)
    return sock


def assert_closed(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert sock.recv(100) == b""


def test_a_stolen_number_keeps_nobody_from_an_engine_that_computes(attacked: Server, net: Network) -> None:
    computing = reval("import time\nend = time.time() + 3\nwhile time.time() < end: pass", net[1])
    with contextlib.ExitStack() as stack:
        for number in range(STRANGERS):
            purpose = Purpose.JOIN if number % 3 == 0 else Purpose.DATA
            preamble = preamble_of(net, 2, 1, with_key=False)
            preamble = dataclasses.replace(preamble, purpose=purpose, endpoint=number % 2)
            stack.enter_context(visit(attacked, preamble.pack(new_nonce())))
        restart(net[2], timeout=DEADLINE)
        assert_works(net)
    computing.result(DEADLINE)
    attacked.wait_for_log("it does not have the key of the network")


@contextlib.contextmanager
def between(net: Network, node: int, meddling: Meddling) -> Iterator[Any]:
    """Make the client dial a node through a proxy."""
    server = net.mesh.servers[node]  # type: ignore[attr-defined]
    location = server.location
    with proxy_to(location.data_port, meddling) as proxy:
        port = proxy.port  # the only address, so nothing bypasses the proxy
        server.location = location._replace(
            data_port=port, cmd_port=port, told_ports=(port, port), proven=None
        )
        yield proxy
        server.location = location


def test_a_preamble_that_was_seen_opens_nothing(attacked: Server, net: Network) -> None:
    with between(net, 1, leave) as proxy:
        restart(net[1], timeout=DEADLINE)
    [seen] = proxy.heard
    before = attacked.log.count("its preamble was used before")
    computing = reval("import time\nend = time.time() + 3\nwhile time.time() < end: pass", net[1])
    for _ in range(STRANGERS):
        with visit(attacked, seen[:PREAMBLE_BYTES]) as sock:
            assert_closed(sock)
    restart(net[2], timeout=DEADLINE)
    computing.result(DEADLINE)
    attacked.wait_for_log("its preamble was used before", before + 1)


@pytest.mark.parametrize("who", ["another network", "another node"])
def test_the_key_alone_does_not_make_a_node(attacked: Server, net: Network, who: str) -> None:
    """This simulates a stolen key."""
    setup = setup_of(net)
    tls = (
        setup.tls if who == "another node" else TlsContexts(NetworkAuthority(setup.network_id).own_identity())
    )
    told = "refused a data connection that claims to be node 2"
    before = attacked.log.count(told)
    steps = dial([("127.0.0.1", attacked.data_port)], preamble_of(net, 2, 1, with_key=True), tls, 30.0)
    with pytest.raises(ConnectionLostError):
        run(steps, deadline_after(DEADLINE))
    attacked.wait_for_log(told, before + 1)


@pytest.mark.parametrize("with_key", [False, True])
def test_a_preamble_that_is_too_short_or_too_long(attacked: Server, net: Network, with_key: bool) -> None:
    with contextlib.ExitStack() as stack:
        for size in range(PREAMBLE_BYTES):
            sock = stack.enter_context(
                visit(attacked, preamble_of(net, 2, 1, with_key=with_key).pack(new_nonce())[:size])
            )
            sock.shutdown(socket.SHUT_WR)
            assert_closed(sock)
        long = preamble_of(net, 2, 1, with_key=with_key).pack(new_nonce()) + bytes(2**20)
        with contextlib.suppress(ConnectionError):
            assert_closed(stack.enter_context(visit(attacked, long)))


PLACES = [(way, where) for way in (FORTH, BACK) for where in (0, 7, 60, 70, 150, 400, 900)]


@pytest.mark.parametrize("meddle", [change, cut])
@pytest.mark.parametrize(("way", "where"), PLACES)
def test_a_proxy_at_a_data_connection(net: Network, meddle: Any, way: int, where: int) -> None:
    meddling = meddle(way, where)
    with between(net, 1, meddling) as proxy:
        with contextlib.suppress(ConnectError, ConnectionLostError, TimeoutError):
            restart(net[1], timeout=PATIENCE)
            # A tampered byte arrives after the bytes that set up the connection, if at all.
            with contextlib.suppress(ConnectionError, TimeoutError):
                reval("psend('genuine', sockets[0])", net[1])
                assert precv(net[1], timeout=PATIENCE) == "genuine"
        proxy.meddling = leave
        restart(net[1], timeout=DEADLINE)


def test_a_slow_proxy_at_a_data_connection(net: Network) -> None:
    with between(net, 1, delay(0.1)) as proxy:
        restart(net[1], timeout=DEADLINE)
        assert_works(net)
        proxy.meddling = leave


@pytest.mark.parametrize("meddle", [change, cut])
@pytest.mark.parametrize(("way", "where"), [(way, where) for way, where in PLACES if where != 7])
def test_a_proxy_at_the_login(attacked: Server, meddle: Any, way: int, where: int) -> None:
    with proxy_to(attacked.cmd_port, meddle(way, where)) as proxy:
        host = f"127.0.0.1:{proxy.port}"
        with pytest.raises((ConnectError, PermissionError)):
            log_in(attacked, host, PATIENCE)
        proxy.meddling = leave
        with log_in(attacked, host, DEADLINE) as net:
            assert net.submit(pow, 2, 5).result(DEADLINE) == 32


def test_a_slow_proxy_at_the_login(attacked: Server) -> None:
    with (
        proxy_to(attacked.cmd_port, delay(0.05)) as proxy,
        log_in(attacked, f"127.0.0.1:{proxy.port}", DEADLINE) as net,
    ):
        assert net.eval("1 + 1").result(DEADLINE) == [2]


def log_in(server: Server, host: str, timeout: float) -> Any:
    user, password = server.credentials.user, server.credentials.password
    return pconnect([host], user=user, password=password, timeout=timeout, local_links=False)
