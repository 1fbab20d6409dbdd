"""Dask clusters on real engines: results, access control, and a complete cleanup after any kind of end."""

import asyncio
import os
import re
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from distributed.comm import connect as connect_comm
from distributed.security import Security

from pconnect import ConfigurationError, Network, RemoteError, precv, reval, sclose
from pconnect.files.code_sync import sync_code
from pconnect.views.network_views import ClientNetwork
from srp_tools.certificates import NetworkAuthority, PemIdentity
from srp_tools.credentials import Credentials
from tests.support.clients import ClientProcess
from tests.support.servers import Server, engine_pids, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until


@pytest.fixture(scope="module")
def net(server: Server) -> Iterator[ClientNetwork]:
    with server.connect(2) as net:
        yield net


@pytest.fixture(scope="module")
def client(net: ClientNetwork) -> Iterator[Any]:
    """Yield a cluster that many tests share."""
    with net.dask(timeout=DEADLINE) as client:
        yield client


def process_ids(client: Any) -> list[int]:
    """Return the process numbers of the scheduler and of the workers."""
    return [client.run_on_scheduler(os.getpid), *client.run(os.getpid).values()]


def authority_of(net: Network) -> NetworkAuthority:
    authority: NetworkAuthority = net.mesh.mesh_setup.authority  # type: ignore[attr-defined]
    return authority


# --- results ---


def test_arrays(client: Any) -> None:  # noqa: ARG001 - it becomes Dask's current client
    x = da.random.default_rng(1).random((400, 40), chunks=(100, 40))
    left, values, right = dask.compute(*da.linalg.svd(x))
    serial = np.asarray(x.compute(scheduler=dask.get))
    np.testing.assert_allclose(values, np.linalg.svd(serial, compute_uv=False))
    np.testing.assert_allclose(left * values @ right, serial, atol=1e-10)
    assert x.sum().compute() == pytest.approx(serial.sum())


def test_a_graph_of_tasks_uses_all_workers(client: Any) -> None:
    workers = list(client.nthreads())
    assert len(workers) == 2

    square = dask.delayed(lambda x: x * x)
    total = dask.delayed(sum)([square(x) for x in range(20)])
    assert total.compute() == sum(x * x for x in range(20))
    # A value of one worker that the other needs travels between the two.
    there = client.submit(np.arange, 1000, workers=workers[0])
    assert client.submit(np.sum, there, workers=workers[1]).result(DEADLINE) == 499500


@pytest.mark.slow
def test_data_frames(client: Any) -> None:  # noqa: ARG001
    frames = pytest.importorskip("dask.dataframe")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"group": [n % 3 for n in range(30)], "x": range(30)})
    sums = frames.from_pandas(frame, npartitions=4).groupby("group").x.sum().compute()
    assert sums.sort_index().tolist() == frame.groupby("group").x.sum().tolist()


def test_the_engines_are_usable_meanwhile(net: ClientNetwork, client: Any) -> None:
    slow = client.submit(time.sleep, 0.3)
    assert net.eval("sockets.node").result(DEADLINE) == [1, 2]
    reval("psend(sockets.node, sockets[0])", net)
    assert [precv(connection, timeout=DEADLINE) for connection in net[1:]] == [1, 2]
    slow.result(DEADLINE)


def workers_of(client: Any) -> set[tuple[str, int, int]]:
    """Return name, threads and memory limit of each worker, as the scheduler knows them.

    `scheduler_info` is not reliable: the client itself may just have overwritten it with an answer without workers.
    """

    def look(dask_scheduler: Any) -> set[tuple[str, int, int]]:
        return {(w.name, w.nthreads, w.memory_limit) for w in dask_scheduler.workers.values()}

    found: set[tuple[str, int, int]] = client.run_on_scheduler(look)
    return found


def test_where_workers_run(net: ClientNetwork, client: Any) -> None:
    directory = net[1].eval("import os; os.getcwd()").result(DEADLINE)
    assert set(client.run(os.getcwd).values()) == {directory}
    assert {name for name, *_ in workers_of(client)} == {"node1-0", "node2-0"}
    assert "NetworkClient" in client._repr_html_()


def test_what_tasks_print_is_shown_as_output_of_the_node(
    net: ClientNetwork, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    client.submit(os.system, "echo from a task", workers="node2-0", pure=False).result(DEADLINE)

    def is_shown() -> bool:
        net.eval("0").result(DEADLINE)
        shown.append(capsys.readouterr().out)
        return "from a task" in "".join(shown)

    shown: list[str] = []
    wait_until(is_shown, "the output")
    assert re.search(r"\[2 [^]]*\].*from a task", "".join(shown))


@pytest.mark.slow
def test_synced_code_can_be_imported_by_workers_and_scheduler(server: Server, tmp_path: Path) -> None:
    module = tmp_path / "tides_of_dask.py"
    module.write_text("def height(): return 7")
    with server.connect(1) as net:
        sync_code(module, net, timeout=DEADLINE)
        with net.dask(timeout=DEADLINE) as client:

            def height() -> int:
                import tides_of_dask  # type: ignore[import-not-found]

                return int(tides_of_dask.height())

            assert client.submit(height).result(DEADLINE) == 7
            assert client.run_on_scheduler(height) == 7


@pytest.mark.slow
def test_another_cluster_at_a_part_with_the_scheduler_elsewhere(net: ClientNetwork, client: Any) -> None:
    options: dict[str, Any] = {"workers": 2, "threads": 3, "memory_limit": "200 MiB", "scheduler_node": 1}
    with net[[2]].dask(timeout=DEADLINE, set_as_default=False, **options) as part:
        assert workers_of(part) == {("node2-0", 3, 200 * 2**20), ("node2-1", 3, 200 * 2**20)}
        assert set(part.run(os.getppid).values()) == {engine_pids(net)[2]}
        assert part.run_on_scheduler(os.getppid) == engine_pids(net)[1]
        assert part.submit(abs, -1).result(DEADLINE) == 1
    assert client.submit(abs, -3).result(DEADLINE) == 3


# --- access control and open ports ---


def security(identity: PemIdentity, authority: str) -> Security:
    return Security(
        require_encryption=True,
        tls_ca_file=authority,
        tls_client_cert=identity.certificate,
        tls_client_key=identity.key,
        tls_min_version=ssl.TLSVersion.TLSv1_3,
    )


def say_hello(address: str, **arguments: Any) -> None:
    """Connect as Dask does, including the other end's answer."""

    async def connect_once() -> None:
        comm = await connect_comm(address, timeout=2, **arguments)
        comm.abort()

    asyncio.run(connect_once())


def test_strangers_are_refused_by_scheduler_and_workers(
    net: ClientNetwork, client: Any, server: Server
) -> None:
    own = authority_of(net)
    text = own.own_role("client").authority
    with server.connect(1) as other:
        foreign = authority_of(other).own_role("client")
    addresses = [client.scheduler.address, *client.nthreads()]
    assert len(addresses) == 3
    for address in addresses:
        assert address.startswith("tls://127.0.0.1:")
        say_hello(address, **security(own.own_role("client"), text).get_connection_args("client"))
        for stranger in (security(foreign, foreign.authority), security(foreign, text)):
            with pytest.raises(OSError, match=r"certificate does not match|alert|closed"):
                say_hello(address, **stranger.get_connection_args("client"))
        with pytest.raises(OSError, match="closed"):
            say_hello(address.replace("tls:", "tcp:"))
    assert client.submit(abs, -2).result(DEADLINE) == 2


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_client_without_our_certificates_is_refused(client: Any, scheme: str) -> None:
    address = client.scheduler.address.replace("tls:", f"{scheme}:")
    stranger = Security.temporary() if scheme == "tls" else None
    with pytest.raises(OSError, match=r"does not match|reset|closed"):
        distributed.Client(address, security=stranger, timeout=0.5, set_as_default=False)


def listening(pids: list[int]) -> set[str]:
    """Return the local addresses that processes listen on, in any family, in the kernel's notation."""
    inodes = {str(path.readlink()) for pid in pids for path in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes and (fields[3] == "0A" or table.startswith("udp")):
                found.add(fields[1])
    return found


def test_nothing_listens_but_tls(client: Any) -> None:
    ports = {int(a.rpartition(":")[2]) for a in [client.scheduler.address, *client.nthreads()]}
    # 127.0.0.1 in this machine's byte order; no other port serves web pages
    assert listening(process_ids(client)) == {f"0100007F:{port:04X}" for port in ports}


def sockets_of(pid: int) -> set[str]:
    links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return {link for link in links if link.startswith("socket:")}


def test_processes_have_none_of_the_engine_s_connections_and_no_keys_to_be_seen(
    net: ClientNetwork, client: Any
) -> None:
    engines = set().union(*(sockets_of(pid) for pid in engine_pids(net).values()))
    assert engines
    for pid in process_ids(client):
        assert not engines & sockets_of(pid)
        for place in ("cmdline", "environ"):
            assert b"PRIVATE KEY" not in Path(f"/proc/{pid}/{place}").read_bytes()


def test_keys_never_touch_the_disk(client: Any) -> None:
    # A client inside a task connects with the worker's key, and reads its file again for that.
    def ask_scheduler() -> int:
        with distributed.worker_client() as own:
            return int(own.submit(abs, -5).result())

    assert client.submit(ask_scheduler).result(DEADLINE) == 5

    def key_of(dask_worker: Any) -> str:
        return str(dask_worker.security.tls_worker_key)

    assert all(key.startswith("/proc/self/fd/") for key in client.run(key_of).values())
    assert client.security.tls_client_key.startswith("/proc/self/fd/")


def test_not_without_encryption(plain_server: Server) -> None:
    with plain_server.connect(1) as net, pytest.raises(ConfigurationError, match="no encryption"):
        net.dask()


# --- ends ---


@pytest.mark.slow
def test_the_block_ends_all(net: ClientNetwork) -> None:
    folder = Path(net[1].eval("str(session_files.parent)").result())
    before = set(folder.iterdir())
    with net[[1]].dask(timeout=DEADLINE, set_as_default=False) as client:
        pids = process_ids(client)
        future = client.submit(time.sleep, 1000, pure=False)
        wait_until(lambda: any(client.processing().values()), "the task")
        assert set(folder.iterdir()) > before
        begin = time.monotonic()
    assert time.monotonic() - begin < 10
    assert future.cancelled()  # running computations are abandoned
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # not even a zombie
    assert set(folder.iterdir()) == before
    client.close()  # a second call does nothing
    assert net.eval("1").result(DEADLINE) == [1, 1]


@pytest.mark.slow
def test_closing_does_not_wait_for_an_engine_that_is_busy(net: ClientNetwork) -> None:
    client = net[[1]].dask(timeout=DEADLINE, set_as_default=False)
    pids = process_ids(client)
    future = client.submit(time.sleep, 1000, pure=False)
    command = reval("import time; time.sleep(1000)", net[1])
    begin = time.monotonic()
    client.close()
    assert future.cancelled()
    assert not command.done()
    wait_gone(*pids)
    assert time.monotonic() - begin < 10
    command.cancel()
    assert isinstance(command.exception(DEADLINE), RemoteError)
    assert net[1].eval("1").result(DEADLINE) == 1


@pytest.mark.slow
def test_a_scheduler_that_hangs_is_killed(net: ClientNetwork) -> None:
    client = net[[1]].dask(timeout=DEADLINE, set_as_default=False)
    pids = process_ids(client)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    client.close()
    wait_gone(*pids, timeout=0)


@pytest.mark.slow
def test_the_network_ends_all_that_is_open(server: Server) -> None:
    with server.connect(2) as net:
        client = net.dask(timeout=DEADLINE, set_as_default=False)
        pids = process_ids(client)
        sclose(net)
    assert client.status == "closed"
    wait_gone(*pids)
    client.close()


@pytest.mark.slow
def test_an_engine_that_is_killed_takes_its_processes_along(server: Server) -> None:
    with server.connect(2) as net:
        client = net.dask(timeout=DEADLINE, set_as_default=False)
        scheduler, *workers = process_ids(client)
        where = {client.run(os.getppid)[address]: pid for address, pid in client.run(os.getpid).items()}
        engines = engine_pids(net)
        os.kill(engines[2], signal.SIGKILL)
        wait_gone(where[engines[2]])
        # Work on the other node continues.
        wait_until(lambda: len(client.nthreads()) == 1, "the loss to be noticed")
        assert client.submit(abs, -1).result(DEADLINE) == 1
        client.close()
        wait_gone(scheduler, *workers)


CLUSTER = """
client = net.dask()
say(client.run_on_scheduler(os.getpid), *client.run(os.getpid).values())
time.sleep(1000)
"""


@pytest.mark.slow
def test_nothing_is_left_of_a_client_that_is_killed(server: Server) -> None:
    with ClientProcess(CLUSTER, server) as process:
        pids = [int(pid) for pid in process.line(90).split()]
        process.process.kill()
        wait_gone(*pids)
    assert len(pids) == 2


INTERRUPTED = """
from pathlib import Path
def children():
    return [Path(f"/proc/{each['pid']}/task/{each['pid']}/children").read_text() for each in network_get_info(net)[1:]]
say("ready")
try:
    net.dask()
except KeyboardInterrupt:
    deadline = time.monotonic() + 20
    while any(children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    say(children(), net.eval("sockets.node").result())
"""


@pytest.mark.slow
def test_an_interrupt_while_it_starts_leaves_nothing_but_the_network(server: Server) -> None:
    with ClientProcess(INTERRUPTED, server, server) as process:
        assert process.line(90) == "ready"
        process.interrupt_while_waiting()
        assert process.line(90) == "['', ''] [1, 2]"


@pytest.mark.slow
def test_nothing_is_left_of_a_server_that_is_stopped(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with (
        run_server(tmp_path / "stopped", users=users) as server,
        ClientProcess(CLUSTER, server) as process,
    ):
        pids = [int(pid) for pid in process.line(90).split()]
        server.process.terminate()
        wait_gone(*pids)
    assert len(pids) == 2


@pytest.mark.slow
def test_at_an_address_of_version_6(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with (
        run_server(tmp_path / "six", bind="::1", users=users) as server,
        server.connect(1) as net,
        net.dask(timeout=DEADLINE, set_as_default=False) as client,
    ):
        assert client.scheduler.address.startswith("tls://[::1]:")
        assert client.submit(abs, -1).result(DEADLINE) == 1
