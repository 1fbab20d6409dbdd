"""Nodes that are added to networks of real servers, while work continues."""

import threading
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pconnect import (
    CollectiveError,
    ConfigurationError,
    ConnectError,
    allreduce,
    precv,
    psend,
    restart,
    reval,
)
from pconnect.growth import adding, outcomes
from pconnect.growth.adding import changing, tell_change
from pconnect.growth.kept_values import send_kept_values
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.networks import assert_works
from tests.support.old_servers import old_at
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("added"), "--slots=2", users=users) as running:
        yield running


def sum_of_nodes(net: ClientNetwork) -> None:
    """Have all nodes add their numbers."""
    command = reval("allreduce(sockets.node, sockets)", net)
    assert allreduce(0, net, timeout=DEADLINE) == sum(net.nodes)
    command.result(DEADLINE)


@pytest.mark.parametrize("options", [{}, {"local_links": False}, {"resume": True}])
def test_new_nodes_are_members_like_all_others(
    server: Server, second: Server, tmp_path: Path, options: dict[str, Any]
) -> None:
    more = {"resume": tmp_path / "file"} if options.pop("resume", False) else options
    with pytest.warns(RuntimeWarning, match="--orphan-timeout") if "resume" in more else nullcontext():
        net = connect([server, server], **more)
    with net:
        jobs = net.executor()
        part, before = net[1:], net[2]
        net.push(a=1)
        assert net.add([second.host, server.host]) == [3, 4]
        assert (len(net), net.nodes, part.nodes, net[2] is before) == (5, [0, 1, 2, 3, 4], [1, 2], True)
        assert net.eval("(len(sockets), sockets[3].host)").result(DEADLINE) == [(5, second.host)] * 4
        # Between engines, in both directions.
        reval("for c in sockets[1:]:\n  if not c.is_own: psend((sockets.node, c.node), c)", net)
        got = net.eval("[precv(c) for c in sockets[1:] if not c.is_own]").result(DEADLINE)
        assert got == [[(k, node) for k in (1, 2, 3, 4) if k != node] for node in (1, 2, 3, 4)]
        sum_of_nodes(net)
        assert net[1:3].pull("a") == [1, 1]
        assert net[3].eval("'a' in globals()").result(DEADLINE) is False
        assert sorted(set(jobs.map(lambda _: 7, range(20)))) == [7]
        assert net.submit(lambda: 8).result(DEADLINE) == 8
        restart(net[3])
        restart(net[1])
        assert_works(net)
        sum_of_nodes(net)


def test_an_engine_that_computes_is_not_waited_for(server: Server, second: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with connect([server]) as net:
        busy = reval(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)", net)
        assert net.add(second.host) == [2]
        assert net[2].eval("sockets.node").result(DEADLINE) == 2
        sent = reval("psend('early', sockets[1])", net[2])
        gate.touch()
        busy.result(DEADLINE)
        assert net[1].eval("precv(sockets[2])").result(DEADLINE) == "early"
        sent.result(DEADLINE)


def test_a_map_that_runs_takes_up_new_slots(second: Server, one_slot: Server) -> None:
    with connect([one_slot]) as net:
        where = "import time, os; time.sleep(0.01)"
        results = net.map(f"lambda k: (exec({where!r}), __import__('os').getppid())[1]", range(1000))
        engines = {next(results)}
        net.add(second.host)
        wait_until(lambda: next(results) not in engines, "jobs at the new node")
        results.close()  # type: ignore[attr-defined]


def test_collective_calls_of_all_fail_clearly(server: Server, second: Server) -> None:
    with connect([server, server]) as net:
        waits = reval("allreduce(1, sockets)", net[1])
        parts = reval("allreduce(1, sockets[[1, 2]])", net[2])
        net.add(second.host)
        assert isinstance(waits.exception(DEADLINE), CollectiveError)
        assert "node 3" in str(waits.exception(0)) and "was added to the network" in str(waits.exception(0))
        with pytest.raises(CollectiveError, match=r"node 3 .* was added to the network"):
            allreduce(1, net, timeout=DEADLINE)
        assert parts.exception(DEADLINE) is not None
        sum_of_nodes(net)


def test_what_cannot_be_added_leaves_all_as_it_was(server: Server, second: Server) -> None:
    with connect([server]) as net:
        with pytest.raises(ConnectError, match="no server is listening there"):
            net.add([second.host, ("127.0.0.1", 1)], timeout=DEADLINE)
        with pytest.raises(ConfigurationError, match="hosts is empty"):
            net.add([])
        with pytest.raises(ConfigurationError, match="whole network"):
            net[1:].add(second.host)
        wait_until(lambda: not second.status_now()["sessions"], "the session that was not wanted to end")
        assert net.nodes == [0, 1]
        assert net.add(second.host) == [2]
        assert_works(net)


def test_a_node_that_does_not_become_a_member_leaves_its_number_empty(server: Server, second: Server) -> None:
    with connect([server]) as net:
        mesh: Any = client_mesh(net.mesh)
        dial, mesh.mesh_setup.__dict__["dial"] = mesh.mesh_setup.dial, _refuse
        with pytest.raises(ConnectError, match="nobody is let in"):
            net.add(second.host)
        mesh.mesh_setup.__dict__["dial"] = dial
        assert (len(net), net.nodes) == (2, [0, 1])
        with pytest.raises(IndexError, match=r"node 2 .* was removed from this network"):
            net[2]
        assert net.add(second.host) == [3]
        assert net.nodes == [0, 1, 3]
        assert net.eval("(sockets.nodes, sockets[3].node)").result(DEADLINE) == [([0, 1, 3], 3)] * 2
        sum_of_nodes(net)
        restart(net[1])
        sum_of_nodes(net)


def _refuse(*_: Any, **__: Any) -> Any:
    raise ConnectionRefusedError("nobody is let in")
    yield


def test_one_change_at_a_time(server: Server, second: Server) -> None:
    with connect([server]) as net:
        mesh = client_mesh(net.mesh)
        with changing(mesh, "nodes are being added"):
            for call in (lambda: net.add(second.host), lambda: restart(net[1])):
                with pytest.raises(ConfigurationError, match="nodes are being added"):
                    call()
        told: list[int] = []
        mesh.growth.on_change.append(lambda: told.append(len(net)))
        tell_change(mesh)
        net.add(second.host)
        assert told == [2, 3]
        psend(5, net[2])
        assert net[2].eval("precv(sockets[0])").result(DEADLINE) == 5
        reval("psend(6, sockets[0])", net[2])
        assert precv(net[2], timeout=DEADLINE) == 6


def test_another_thread_adds(server: Server, second: Server) -> None:
    with connect([server]) as net:
        waits = net.eval("precv(sockets[0])")
        thread = threading.Thread(target=net.add, args=(second.host,))
        thread.start()
        thread.join(DEADLINE)
        assert net.nodes == [0, 1, 2]
        psend(1, net[1])
        assert waits.result(DEADLINE) == [1]


def test_a_node_that_gets_its_values_too_late_is_no_member(
    server: Server, second: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect([server]) as net:
        value = net.broadcast([1, 2])
        assert list(net.map(sum, [value])) == [3]

        def late(mesh: ClientMesh, numbers: Collection[int], _: float) -> dict[int, Exception]:
            for number in numbers:  # keep the engine busy, so that the value waits
                reval("import signal; signal.pause()", mesh.connections[number])
            return send_kept_values(mesh, numbers, 0.0)

        with monkeypatch.context() as patch:
            patch.setattr(adding, "send_kept_values", late)
            with pytest.raises(
                ConnectError, match=r"timed out sending it the values of net\.broadcast"
            ) as caught:
                net.add(second.host)
        assert list(caught.value.reasons) == [second.host]
        assert (net.nodes, sorted(net.mesh.removed)) == ([0, 1], [2])
        assert net.eval("sockets.nodes").result(DEADLINE) == [[0, 1]]
        wait_until(lambda: not second.sessions(net), "the end of its session")

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(adding, "send_kept_values", interrupted)
            with pytest.raises(KeyboardInterrupt):
                net.add(second.host)
        assert net.nodes == [0, 1]
        assert net.add(second.host) == [4]
        assert list(net[4].map(sum, [value])) == [3]


def test_a_server_of_another_version_is_a_reason_and_nothing_stays_open(
    server: Server, second: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect([server]) as net:
        with monkeypatch.context() as patch:
            patch.setattr(outcomes, "log_in_at", old_at(second))
            for hosts in ([second.host, server.host], [second.host, f"localhost:{server.cmd_port}"]):
                with pytest.raises(ConnectError, match="it speaks version 1") as caught:
                    net.add(hosts)
                assert list(caught.value.reasons) == [second.host]
        assert net.nodes == [0, 1]
        wait_until(lambda: len(server.sessions(net)) == 1, "the end of the other session")
        net.mesh.attendance.missing[second.host] = ConnectionRefusedError("it was off")  # type: ignore[attr-defined]
        net.add([second.host])
        assert net.missing == {}
