"""Connecting: several nodes, several networks, many clients, IPv6."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect import Network, network_get_info, precv, psend, reval, sclose
from tests.support.servers import Server, engine_pids, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

MakeNetwork = Callable[..., Network]


def test_every_node_reaches_every_other(network: MakeNetwork) -> None:
    net = network(4)
    reval(
        """
        others = [c for c in sockets if not c.is_own]
        for c in others: psend((sockets.node, c.node), c)
        got = [precv(c) for c in others]
        psend([c.transport for c in others], sockets[0])
        """,
        net,
    )
    psend("hello", net)
    for connection in net[1:]:
        node = connection.node
        assert precv(connection) == (node, 0)
        assert precv(connection) == ["unix"] * 4
        reval("psend(got, sockets[0])", connection)
        assert precv(connection) == ["hello", *[(other, node) for other in range(1, 5) if other != node]]


def test_same_host_twice_is_two_engines_with_workspaces_of_their_own(network: MakeNetwork) -> None:
    net = network(2)
    reval("x = 'first'", net[1]).result()
    reval("x = 'second'", net[2]).result()
    reval("import os; psend((x, os.getpid()), sockets[0])", net)
    (first, pid1), (second, pid2) = precv(net[1]), precv(net[2])
    assert (first, second) == ("first", "second")
    assert pid1 != pid2
    assert engine_pids(net) == {1: pid1, 2: pid2}


def test_an_error_in_the_with_block_closes_the_network_and_reaches_the_caller(server: Server) -> None:
    with pytest.raises(KeyError, match="mine"), server.connect(2) as net:
        raise KeyError("mine")
    assert net.closed


def test_two_networks_at_once(network: MakeNetwork) -> None:
    one, two = network(2), network(2)
    assert one.network_id != two.network_id
    for number, net in enumerate((one, two)):
        reval(f"x = {number}; psend(x, sockets[3 - sockets.node])", net)
    for net in (one, two):
        reval("psend((x, precv(sockets[3 - sockets.node])), sockets[0])", net)
    assert [precv(c) for c in one[1:]] == [(0, 0)] * 2
    pids = engine_pids(one).values()
    assert sclose(one) == []
    wait_gone(*pids)
    assert [precv(c) for c in two[1:]] == [(1, 1)] * 2
    reval("psend('alive', sockets[0])", two)
    assert [precv(c) for c in two[1:]] == ["alive"] * 2


_MANY = """
import os, sys
from pconnect import pconnect, precv, psend, reval
host, count = sys.argv[1], int(sys.argv[2])
start, go = os.pipe()
children = []
for number in range(count):
    if not (child := os.fork()):
        os.close(go)
        try:
            os.read(start, 1)  # all begin at the same moment
            with pconnect(host, timeout=60) as net:
                command = reval("psend(precv(sockets[0]) * 2, sockets[0])", net)
                psend(number, net[1])
                assert precv(net[1], timeout=60) == 2 * number
            os._exit(0)
        except BaseException as error:
            print(f"client {number}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
    children.append(child)
os.close(go)
print(sum(os.waitpid(child, 0)[1] == 0 for child in children))
"""


@pytest.mark.slow
def test_32_clients_at_once(server: Server) -> None:
    credentials = server.credentials
    answer = subprocess.run(
        [sys.executable, "-c", _MANY, server.host, "32"],
        env=os.environ | {"PCONNECT_USER": credentials.user, "PCONNECT_PASSWORD": credentials.password},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (answer.stdout, answer.stderr) == ("32\n", "")


@pytest.mark.slow
def test_ipv6(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", bind="::1") as server:
        assert server.host.startswith("[::1]:")
        with server.connect(2) as net:
            reval("psend(sockets.node, sockets[3 - sockets.node])", net)
            reval("psend(precv(sockets[3 - sockets.node]), sockets[0])", net)
            assert [precv(c, timeout=DEADLINE) for c in net[1:]] == [2, 1]
            assert {info["address"] for info in network_get_info(net)[1:]} == {"::1"}


def test_without_tls(plain_server: Server) -> None:
    with plain_server.connect(2) as net:
        reval("psend(sockets.node, sockets[3 - sockets.node])", net)
        reval("psend(precv(sockets[3 - sockets.node]), sockets[0])", net)
        assert [precv(c, timeout=DEADLINE) for c in net[1:]] == [2, 1]
        assert not any(c.encrypted for c in net)
        assert {c.transport for c in net[1:]} == {"plain"}


def test_the_engine_is_in_the_client_s_directory(
    network: MakeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = network()
    reval("import os; psend(os.getcwd(), sockets[0])", net)
    assert precv(net[1]) == str(tmp_path)
    info = network_get_info(net)[1]
    assert info["directory"] == str(tmp_path)
    assert info["directory_is_clients"] is True


def test_without_the_client_s_directory_it_is_in_a_private_one_that_is_removed(
    network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the client were on a machine with other folders.
    monkeypatch.setattr(Path, "cwd", staticmethod(lambda: Path("/no/such/folder")))
    net = network()
    reval("import os; open('left', 'w').close(); psend(os.getcwd(), sockets[0])", net)
    directory = Path(precv(net[1]))
    info = network_get_info(net)[1]
    assert info["directory"] == str(directory)
    assert info["directory_is_clients"] is False
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "left").exists()
    sclose(net)
    wait_gone(info["pid"])
    assert_removed(directory)


def test_the_private_directory_of_a_killed_engine_is_removed(
    network: MakeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "cwd", staticmethod(lambda: Path("/no/such/folder")))
    net = network()
    reval("import os; psend(os.getcwd(), sockets[0]); open('left', 'w').close(); os._exit(3)", net)
    directory = Path(precv(net[1]))
    sclose(net)
    assert_removed(directory)


def assert_removed(directory: Path) -> None:
    wait_until(lambda: not directory.exists(), f"the removal of {directory}")
