"""A client that comes back in the same process; in namespaces, with another address: tests/hostile/test_laptop.py."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import (
    ConnectError,
    ConnectionLostError,
    JobLostError,
    allreduce,
    precv,
    reval,
)
from pconnect.resume.same_client import return_to_nodes
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.begun_jobs import begun, note_and_wait, open_gate
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("patient")
    with run_server(folder, "--orphan-timeout=10", "--slots=2", users=users) as running:
        yield running


def cut(net: ClientNetwork) -> None:
    """Lose all connections of the network and of its jobs, as when the client gets another address."""
    mesh = client_mesh(net.mesh)
    why = ConnectionLostError("a cable")
    for server in mesh.servers.values():
        mesh.event_loop.lose(server.command, why)
        mesh.event_loop.lose(server.data, why)
    if mesh.scheduler is not None:
        loop = mesh.scheduler._thread.event_loop

        def cut_jobs() -> None:
            for node in mesh.scheduler.nodes():
                for worker in list(node.workers.values()):
                    loop.lose(worker.connection, why)
                if node.channel is not None:
                    loop.lose(node.channel, why)

        mesh.scheduler.call(cut_jobs)


def test_nothing_is_lost(patient: Server, tmp_path: Path) -> None:
    with connect([patient] * 3, resume=tmp_path / "file") as net:
        net.push(x=5)
        nodes = list(net)
        command = net[1].eval("psend('ready', sockets[0]); x = precv(sockets[2]); 'done'")
        assert precv(net[1], timeout=DEADLINE) == "ready"
        cut(net)
        with pytest.raises(ConnectionLostError, match=r"a cable; to continue: net\.reconnect\(1\)"):
            command.result(DEADLINE)
        assert net.reconnect() == [1, 2, 3]
        assert list(net) == nodes
        reval("psend(6, sockets[1])", net[2])
        assert [found.result(DEADLINE) for found in net.commands] == ["done"]
        assert net.pull("x") == [6, 5, 5]
        reval("allreduce(sockets.node, sockets)", net)
        assert allreduce(0, net, timeout=DEADLINE) == 6
        # Changes are also saved for another process.
        net.remove(2)
        assert net.add(patient.host) == [4]
        cut(net)
        assert net.reconnect() == [1, 3, 4]
        cut(net)
        with connect([patient] * 3, resume=tmp_path / "file") as other:
            assert (other.resumed, other.nodes, other[1].pull("x")) == (True, [0, 1, 3, 4], 6)
            with pytest.raises(IndexError, match=r"node 2 \(\(removed\)\) was removed"):
                other[2]
            assert other.add(patient.host) == [5]
            assert other.eval("sockets.nodes").result(DEADLINE) == [[0, 1, 3, 4, 5]] * 4
        net.mesh.event_loop.close()


def _add_x(k: int) -> int:
    time.sleep(0.01)
    return k + x  # type: ignore[name-defined,no-any-return] # noqa: F821 - defined in the workspaces


def test_jobs_go_on_by_themselves(patient: Server, tmp_path: Path) -> None:
    with connect([patient] * 2, resume=tmp_path / "file") as net:
        net.push(x=5)
        results = net.map(_add_x, range(200))
        got = [next(results) for _ in range(20)]
        cut(net)
        assert [*got, *results] == [k + 5 for k in range(200)]
        assert repr(net).count("it runs jobs again") == 2
        assert net.reconnect() == [1, 2]
        assert list(net.map(_add_x, range(3))) == [5, 6, 7]
        cut(net)
        assert net.submit(_add_x, 1).result(DEADLINE) == 6
        assert net.close() == [1, 2]
    wait_until(lambda: not patient.status_now()["sessions"], "the ends of the sessions")


@pytest.mark.parametrize("retries", [0, 1, None])
def test_a_job_that_had_begun_runs_again_but_not_without_retries(
    patient: Server, tmp_path: Path, retries: int | None
) -> None:
    """The session ended the worker, so it is unknown how far the job had run."""
    with connect([patient], resume=tmp_path / "file") as net:
        job = net.executor(retries=retries).submit(note_and_wait, str(tmp_path))
        wait_until(lambda: bool(begun(tmp_path)), "the job to begin")
        cut(net)
        if retries != 0:
            wait_until(lambda: len(begun(tmp_path)) == 2, "it to begin again")
            open_gate(tmp_path)
            assert job.result(DEADLINE) == 2
        else:
            with pytest.raises(JobLostError, match="when the connection was lost"):
                job.result(DEADLINE)
        open_gate(tmp_path)
        assert net.submit(abs, -1).result(DEADLINE) == 1
        times, losses = {0: (1, 1), 1: (2, 1), None: (2, 0)}[retries]
        assert (begun(tmp_path), job.losses) == ([False] * times, losses)


def test_without_an_orphan_timeout_the_error_says_so(server: Server, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="--orphan-timeout"):
        net = connect([server] * 2, resume=tmp_path / "file")
    with net:
        cut(net)
        words = r"started without --orphan-timeout, .* net\.reconnect\(2, fresh=True\) begins a new one"
        with pytest.raises(ConnectError, match=words):
            net.reconnect()
        assert net.reconnect(fresh=True) == [1, 2]
        assert net.eval("sockets.nodes").result(DEADLINE) == [[0, 1, 2]] * 2
        assert return_to_nodes(client_mesh(net.mesh), [], time.monotonic() + DEADLINE) == {}
