"""Nodes whose server was killed and restarted, or whose session has ended."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from pconnect import (
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    JobLostError,
    allreduce,
    precv,
    psend,
    reval,
)
from pconnect.growth import logins, reconnecting
from pconnect.growth.adding import changing
from pconnect.growth.kept_values import send_kept_values
from pconnect.growth.reconnecting import is_lost
from pconnect.link.host_names import Host
from pconnect.session.login import log_in_at
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.begun_jobs import begun, note_and_wait, open_gate
from tests.support.networks import assert_works
from tests.support.old_servers import old_at
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until


def kill_sessions(server: Server, net: ClientNetwork, *nodes: int) -> None:
    """Kill the sessions of a network, and wait until the client has noticed."""
    for pid in server.sessions(net):
        os.kill(pid, signal.SIGKILL)
    await_loss(net, *nodes)


def await_loss(net: ClientNetwork, *nodes: int) -> None:
    mesh = client_mesh(net.mesh)
    mesh.event_loop.run_until(
        lambda: all(is_lost(mesh.servers[node]) for node in nodes), time.monotonic() + DEADLINE, "the loss"
    )


def sum_of_nodes(net: ClientNetwork) -> None:
    command = reval("allreduce(sockets.node, sockets)", net)
    assert allreduce(0, net, timeout=DEADLINE) == sum(net.nodes)
    command.result(DEADLINE)


def test_nodes_come_back_under_their_numbers(
    server: Server, tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    with run_server(tmp_path / "second", users=users) as second, connect([server, second, second]) as net:
        lost = net[2], net[3]
        net.push(a=1)
        assert list(net.map(abs, range(-9, 0))) == list(range(9, 0, -1))
        assert net.reconnect() == net.reconnect(1) == []
        waits = net[1].eval("allreduce(1, sockets)")
        kill_sessions(second, net, 2, 3)
        assert waits.exception(DEADLINE) is not None
        with pytest.raises(ConnectionLostError, match=r"to continue: net\.reconnect\(2\), or connect again"):
            net[2].eval("1").result(DEADLINE)
        assert net.reconnect() == [2, 3]
        assert (net[2], net[3]) == lost
        assert [node.error for node in net] == [None] * 4
        assert net.eval("'a' in globals()").result(DEADLINE) == [True, False, False]
        assert_works(net)
        reval("for c in sockets[1:]:\n  if not c.is_own: psend((sockets.node, c.node), c)", net)
        got = net.eval("[precv(c) for c in sockets[1:] if not c.is_own]").result(DEADLINE)
        assert got == [[(k, node) for k in (1, 2, 3) if k != node] for node in (1, 2, 3)]
        sum_of_nodes(net)
        assert list(net[2].map(abs, range(-9, 0))) == list(range(9, 0, -1))
        net[2].restart()
        net[1].restart()
        sum_of_nodes(net)


def test_a_server_that_was_stopped_and_started_again(
    server: Server, tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    with ExitStack() as stack:
        first = ExitStack()
        second = first.enter_context(run_server(tmp_path / "second", users=users))
        net = stack.enter_context(connect([server, second]))
        net.submit(abs, -1).result(DEADLINE)
        first.close()
        await_loss(net, 2)
        with pytest.raises(ConnectError, match=r"node 2 .* no server is listening there"):
            net.reconnect(2, timeout=DEADLINE)
        assert net[1].eval("1").result(DEADLINE) == 1
        ports = f"--cmd-port={second.cmd_port}", f"--data-port={second.data_port}"
        stack.enter_context(run_server(tmp_path / "second", *ports, users=users))
        assert net.reconnect(net[2]) == [2]
        assert_works(net)
        sum_of_nodes(net)
        net.close()


def test_a_session_that_has_not_seen_its_loss_is_waited_for(server: Server) -> None:
    with server.connect(2) as net:
        mesh: Any = client_mesh(net.mesh)
        stopped = server.sessions(net)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        mesh.event_loop.lose(mesh.servers[1].command, ConnectionLostError("a cable"))
        mesh.event_loop.lose(mesh.servers[2].command, ConnectionLostError("a cable"))
        with pytest.raises(ConnectError, match="could not connect to 2 hosts"):
            net.reconnect(timeout=1.0)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert net.reconnect(timeout=DEADLINE) == [1, 2]
        assert_works(net)


def test_what_fails_at_one_server_leaves_nothing_open_at_others(
    server: Server, two_slots: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect([server, two_slots]) as net:
        kept = net.broadcast([1, 2])
        net.mesh.attendance.missing[server.host] = ConnectionRefusedError("it was off")  # type: ignore[attr-defined]
        kill_sessions(server, net, 1)
        kill_sessions(two_slots, net, 2)
        with monkeypatch.context() as patch:
            patch.setattr(logins, "log_in_at", old_at(two_slots))
            with pytest.raises(ConnectError, match=r"node 2 .* it speaks version 1") as caught:
                net.reconnect()
        assert list(caught.value.reasons) == [f"node 2 ({two_slots.host})"]
        assert net[1].eval("1").result(DEADLINE) == 1
        assert net.missing == {}

        def fault(host: Host, *args: Any) -> Any:
            if host.label == two_slots.host:
                raise ZeroDivisionError
            return (yield from log_in_at(host, *args))

        kill_sessions(server, net, 1)
        with monkeypatch.context() as patch:
            patch.setattr(logins, "log_in_at", fault)
            with pytest.raises(ZeroDivisionError):
                net.reconnect()
        wait_until(lambda: not server.sessions(net), "the end of the session that nobody uses")
        with monkeypatch.context() as patch:

            def late(*args: Any) -> dict[int, Exception]:
                return {**send_kept_values(*args), 2: TimeoutError("values were late")}

            patch.setattr(reconnecting, "send_kept_values", late)
            with pytest.raises(ConnectError, match="values were late"):
                net.reconnect()
        assert is_lost(client_mesh(net.mesh).servers[2])
        assert net.reconnect() == [2]
        assert sorted(set(net.map(sum, [kept] * 9))) == [3]
        kept.release()


def test_a_server_that_is_silent_is_lost_only_after_some_seconds(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.connect(1) as net:
        stopped = server.sessions(net)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it to stop")  # noqa: B023
        with (
            changing(client_mesh(net.mesh), "nodes are being tested"),
            pytest.raises(ConfigurationError, match="nodes are being tested"),
        ):
            net.reconnect(timeout=0.2)
        with pytest.raises(
            ConnectError, match="has not answered, and is left unchanged: without an answer for 5 s"
        ):
            net.reconnect(timeout=0.2)
        assert not is_lost(client_mesh(net.mesh).servers[1])
        monkeypatch.setattr(reconnecting, "_ANSWER_SECONDS", 0.1)
        with pytest.raises(ConnectError):
            net.reconnect(timeout=0.5)
        assert is_lost(client_mesh(net.mesh).servers[1])
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        assert net.reconnect(timeout=DEADLINE) == [1]


@pytest.mark.parametrize("retries", [0, 1])
def test_jobs_that_had_begun_are_lost_and_run_again_only_with_retries(
    server: Server, two_slots: Server, tmp_path: Path, retries: int
) -> None:
    """The old session has not noticed that the client is gone, and still runs them."""
    servers = [server, two_slots]
    with connect(servers) as net, ExitStack() as stack:
        mesh: Any = client_mesh(net.mesh)
        job = net.executor(retries=retries).submit(note_and_wait, str(tmp_path))
        wait_until(lambda: bool(begun(tmp_path)), "the job to begin")
        node = job.node or 0
        [stopped] = servers[node - 1].sessions(net)
        os.kill(stopped, signal.SIGSTOP)
        stack.callback(os.kill, stopped, signal.SIGCONT)
        wait_until(lambda: Path(f"/proc/{stopped}/stat").read_text().split()[2] == "T", "it to stop")
        bound = net[node].submit(abs, -1)
        mesh.event_loop.lose(mesh.servers[node].command, ConnectionLostError("a cable"))
        with pytest.raises(ConnectError, match="could not connect"):
            net.reconnect(timeout=1.5)
        if retries:
            wait_until(lambda: len(begun(tmp_path)) == 2, "the job to begin again")
        open_gate(tmp_path)
        if retries:
            assert job.result(DEADLINE) == 2
        else:
            with pytest.raises(JobLostError, match=rf"node {node} .* (a new session|is lost)"):
                job.result(DEADLINE)
        assert (len(begun(tmp_path)), job.losses) == (1 + retries, 1)
        stack.close()
        assert net.reconnect(timeout=DEADLINE) == [node]
        assert (bound.result(DEADLINE), bound.losses) == (1, 0)  # the job has waited


def test_an_executor_that_holds_a_server_holds_it_in_its_new_session(one_slot: Server) -> None:
    with one_slot.connect() as net, one_slot.connect() as other:
        for _ in range(2):
            executor = net.executor(exclusive=True)
            assert executor.submit(abs, -1).result(DEADLINE) == 1
            kill_sessions(one_slot, net, 1)
            assert net.reconnect() == [1]
            assert executor.submit(abs, -2).result(DEADLINE) == 2
            assert [node.is_held for node in client_mesh(net.mesh).scheduler.nodes()] == [True]
            waiting = other.submit(abs, -3)
            for k in range(5):
                assert executor.submit(abs, -k).result(DEADLINE) == k
            assert not waiting.done()
            executor.shutdown()
            assert waiting.result(DEADLINE) == 3


def test_only_whole_networks_and_nodes_of_theirs(server: Server) -> None:
    with server.connect(1) as net:
        with pytest.raises(ConfigurationError, match="whole network"):
            net[1:].reconnect()
        with pytest.raises(ConfigurationError, match="not a node with an engine"):
            net.reconnect(4)
        psend(1, net[1])
        assert net[1].eval("precv(sockets[0])").result(DEADLINE) == 1
        reval("psend(2, sockets[0])", net)
        assert precv(net[1]) == 2
