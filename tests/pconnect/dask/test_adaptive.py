"""Workers that follow the work, and the nodes that exist."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConfigurationError
from pconnect.dask.adaptive import Bounds
from pconnect.views.network_views import ClientNetwork
from srp_tools.generate import generate_srp_data
from tests.support.servers import Server, connect, engine_pids, make_users, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until


def test_bounds() -> None:
    assert [Bounds(1, 3, 1).within(wanted) for wanted in (0, 2, 9)] == [1, 2, 3]
    assert Bounds(0, None, 1).within(9) == 9
    for minimum, maximum, text in [(-1, None, "minimum=-1"), (2, 1, "maximum=1"), (0, 0, "maximum=0")]:
        with pytest.raises(ConfigurationError, match=text):
            Bounds(minimum, maximum, 1)


def test_bounds_are_for_adaptive_clusters(network: ClientNetwork) -> None:
    with pytest.raises(ConfigurationError, match="minimum and maximum need adaptive=True"):
        network.dask(minimum=1)


@pytest.fixture
def net(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(2) as made:
        yield made


def names(client: Any) -> set[str]:
    return set(client.wishes()[1])


def busy(client: Any, until: Path) -> list[Any]:
    """Submit tasks that all run until a file exists."""

    def wait() -> bool:
        deadline = time.monotonic() + DEADLINE
        while not until.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return until.exists()

    return [client.submit(wait, pure=False) for _ in range(60)]


@pytest.mark.slow
def test_workers_follow_the_work_and_the_nodes(net: ClientNetwork, server: Server, tmp_path: Path) -> None:
    with net.dask(adaptive=True, maximum=3, timeout=DEADLINE) as client:
        assert names(client) == set()
        tasks = busy(client, tmp_path / "go")
        wait_until(lambda: names(client) == {"node1-0", "node2-0"}, "a worker at each node")
        net.add(server.host, timeout=DEADLINE)
        wait_until(lambda: names(client) == {"node1-0", "node2-0", "node3-0"}, "one at the new node")
        net.remove(2)
        wait_until(lambda: names(client) == {"node1-0", "node3-0"}, "that of the removed node to go")
        (tmp_path / "go").touch()
        assert client.gather(tasks) == [True] * len(tasks)
        pids = set(client.run(os.getpid).values())
        del tasks
        wait_until(lambda: names(client) == set(), "all to go")
        wait_gone(*pids)
        assert client.submit(pow, 2, 5).result(DEADLINE) == 32  # a worker starts again
    assert net[1].eval("1").result(DEADLINE) == 1


@pytest.mark.slow
def test_the_minimum_is_started_first_and_killed_workers_are_replaced(net: ClientNetwork) -> None:
    with net.dask(adaptive=True, minimum=2, timeout=DEADLINE) as client:
        assert names(client) == {"node1-0", "node2-0"}
        by_parent = {client.run(os.getppid)[address]: pid for address, pid in client.run(os.getpid).items()}
        os.kill(by_parent[engine_pids(net)[2]], signal.SIGKILL)
        wait_until(lambda: names(client) == {"node1-0", "node2-1"}, "another worker")
        pids = [*client.run(os.getpid).values(), *engine_pids(net).values()]
        net.close()
    wait_gone(*pids)


@pytest.mark.slow
def test_workers_start_on_new_servers_of_the_pool(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    generate_srp_data(member=True, folder=tmp_path / "users", bits=2048)
    state = f"--spool-dir={tmp_path / 'state'}"
    with (
        contextlib.ExitStack() as stack,
        run_server(tmp_path / "a", state, users=users) as alpha,
        connect([alpha], elastic=0.2) as net,
        net.dask(adaptive=True, timeout=DEADLINE) as client,
    ):
        tasks = busy(client, tmp_path / "go")
        wait_until(lambda: names(client) == {"node1-0"}, "the first worker")
        beta = stack.enter_context(run_server(tmp_path / "b", state, f"--join={alpha.host}", users=users))
        wait_until(lambda: names(client) == {"node1-0", "node2-0"}, "one at the new server")
        assert net[2].host == beta.host
        (tmp_path / "go").touch()
        assert client.gather(tasks) == [True] * len(tasks)
