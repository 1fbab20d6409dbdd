"""Networks that change during work, with all users of their slots: maps, joblib, pools, exclusive servers."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import pytest
from joblib import Parallel, delayed

from pconnect import ServerRefusedError
from pconnect.growth.reconnecting import is_lost
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until

Results = Iterator[tuple[int, int]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[list[Server]]:
    """Yield two servers that allow exclusive use."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        run_server(folder / "a", "--slots=1", "--allow-exclusive", users=users) as first,
        run_server(folder / "b", "--slots=2", "--allow-exclusive", users=users) as second,
    ):
        yield [first, second]


def kill_session(server: Server, net: ClientNetwork, node: int) -> None:
    for pid in server.sessions(net):
        os.kill(pid, signal.SIGKILL)
    mesh = client_mesh(net.mesh)
    mesh.event_loop.run_until(lambda: is_lost(mesh.servers[node]), time.monotonic() + DEADLINE, "the loss")


def task(k: int) -> tuple[int, int]:
    time.sleep(0.01)
    return k, os.getppid()


def by_map(net: ClientNetwork, count: int) -> Results:
    return iter(net.map(task, range(count), retries=2))


def by_pool(net: ClientNetwork, count: int) -> Results:
    return iter(net.pool(retries=2).imap(task, range(count)))


def by_joblib(net: ClientNetwork, count: int) -> Results:
    with joblib.parallel_config("pserver", network=net, retries=2):
        parallel = Parallel(return_as="generator", batch_size=1, timeout=DEADLINE)
        return iter(parallel(delayed(task)(k) for k in range(count)))


@pytest.mark.slow
@pytest.mark.parametrize("begin", [by_map, by_pool, by_joblib])
def test_work_goes_on_while_nodes_come_and_go(
    pair: list[Server], begin: Callable[[ClientNetwork, int], Results]
) -> None:
    first, second = pair
    count = 400
    with connect([first]) as net:
        results = begin(net, count)
        got = [next(results)]
        own = {got[0][1]}

        def comes_from_another() -> bool:
            got.append(next(results))
            return got[-1][1] not in own

        net.add(second.host)
        wait_until(comes_from_another, "work at the new node")
        net.remove(1)
        own.add(got[-1][1])
        kill_session(second, net, 2)
        net.reconnect()
        wait_until(comes_from_another, "work in the new session")
        got += results
        assert [k for k, _ in got] == list(range(count))


def test_who_has_servers_alone_has_those_alone_that_come_later(pair: list[Server]) -> None:
    first, second = pair
    with connect([first], exclusive=True) as net:
        net.add(second.host)

        def is_refused() -> None:
            with pytest.raises(ServerRefusedError, match="uses it exclusively"):
                connect([second])

        is_refused()
        kill_session(second, net, 2)
        assert net.reconnect() == [2]
        is_refused()
        net.remove(2)
        with connect([second]) as other:
            assert other.eval("1").result(DEADLINE) == [1]
