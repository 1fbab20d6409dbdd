"""Starting a cluster on real engines: refused options, failures, and that no process remains."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import (
    ConfigurationError,
    EngineDiedError,
    ProcessFailedError,
    RemoteError,
    VersionWarning,
    reval,
)
from pconnect.dask.cluster import hosts_of
from pconnect.routes.location import Location
from pconnect.views.network_views import ClientNetwork
from tests.support.links import Client
from tests.support.servers import Server, engine_pids
from tests.support.waiting import DEADLINE, wait_until

NO_PACKAGES = "import sys; kept = list(sys.path); sys.path[:] = [p for p in kept if 'site-packages' not in p]"


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "network" in request.fixturenames:
        net: ClientNetwork = request.getfixturevalue("network")
        wait_until(lambda: not children(net), "the end of the processes")


def children(net: ClientNetwork) -> set[int]:
    """Return the processes that engines have started."""
    found = set()
    for pid in engine_pids(net).values():
        found |= {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return found


def test_a_worker_that_cannot_start(network: ClientNetwork) -> None:
    with pytest.raises(
        ProcessFailedError, match=r"Dask worker node2-0 on node 2 .* could not start"
    ) as caught:
        network[[2]].dask(memory_limit="much", scheduler_node=1, timeout=DEADLINE)
    assert "exit status 1; its last output:\n" in str(caught.value)
    assert "much" in str(caught.value)
    assert children(network) == set()  # without a delay
    assert network.eval("1").result(DEADLINE) == [1, 1]


def test_a_process_that_is_not_ready_in_time(network: ClientNetwork) -> None:
    with pytest.raises(
        TimeoutError, match=r"timed out after 0\.3 s waiting for the Dask scheduler on node 1 \("
    ):
        network.dask(timeout=0.3)
    assert children(network) == set()


def test_a_busy_engine(network: ClientNetwork) -> None:
    command = reval("import time; time.sleep(1000)", network[2])
    begin = time.monotonic()
    with pytest.raises(
        TimeoutError, match=r"timed out after 0\.2 s starting Dask: no answer from node 2 \(127"
    ):
        network.dask(timeout=0.2)
    assert time.monotonic() - begin < DEADLINE / 2
    command.cancel()
    assert isinstance(command.exception(DEADLINE), RemoteError)


def test_a_node_without_dask(network: ClientNetwork) -> None:
    network[2].eval(NO_PACKAGES).result(DEADLINE)
    with pytest.raises(
        ConfigurationError, match=r"on node 2 \(.*\): run pip install 'pserver\[dask\]' there"
    ):
        network.dask(timeout=DEADLINE)
    network[2].eval("sys.path[:] = kept").result(DEADLINE)


def test_another_version_at_a_node(network: ClientNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "distributed-2024.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: distributed\nVersion: 2024.1\n")
    network[2].call("lambda folder: __import__('sys').path.insert(0, folder)", [str(tmp_path)]).result(
        DEADLINE
    )
    with pytest.raises(VersionWarning, match=r"is [\d.]+ on the client, but 2024.1 on node 2 \("):
        network.dask(timeout=DEADLINE)
    network[2].call("lambda folder: __import__('sys').path.remove(folder)", [str(tmp_path)]).result(DEADLINE)


def test_an_engine_that_dies_during_the_start(server: Server) -> None:
    with server.connect(2) as net:
        os.kill(engine_pids(net)[2], signal.SIGKILL)
        with pytest.raises(EngineDiedError, match="engine of node 2"):
            net.dask(timeout=DEADLINE)
        assert children(net[:2]) == set()


def test_where_processes_listen(client: Client) -> None:
    servers = [far.server for far in client[1]]
    for server, address in zip(servers, ["127.0.0.1", "::1"], strict=True):
        server.location = Location(address, 2, 1, ["203.0.113.7", address])
    assert hosts_of(servers) == {1: ["127.0.0.1"], 2: ["::1"]}
    servers[1].location = servers[1].location._replace(address="203.0.113.9")
    assert hosts_of(servers) == {1: ["203.0.113.7"], 2: ["203.0.113.9", "203.0.113.7"]}
    servers[0].location = servers[0].location._replace(told=[])
    assert hosts_of(servers)[1] == ["127.0.0.1"]
    for server in servers:
        server.location = Location("/run/user/quiet.logins", 0, 0)
    assert hosts_of(servers) == {1: ["127.0.0.1"], 2: ["127.0.0.1"]}
