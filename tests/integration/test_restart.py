"""A node gets a new engine and new links, whatever the state of the old one, and other nodes are not affected."""

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from pconnect import (
    Command,
    ConnectError,
    ConnectionLostError,
    EngineDiedError,
    Network,
    RemoteError,
    allgather,
    network_get_info,
    precv,
    psend,
    restart,
    reval,
    sclose,
)
from tests.support.links import interrupt_soon
from tests.support.servers import Server, connect, engine_pids, open_files
from tests.support.waiting import DEADLINE, wait_asleep, wait_gone, wait_until

BUSY = "psend('busy', sockets[0])\nwhile True: pass"
ALL_TO_ALL = """
for node in range(1, len(sockets)):
    if node != sockets.node:
        psend((sockets.node, node), sockets[node])
got = [precv(sockets[node]) for node in range(1, len(sockets)) if node != sockets.node]
psend(np.full(2**17, precv(sockets[0])), sockets[0])
psend(got, sockets[0])
psend(int(allreduce(sockets.node, sockets[1:])), sockets[0])
"""


def assert_all_works(net: Network) -> None:
    """Send values between all nodes both ways; make collective calls of the engines, and with the client."""
    nodes = range(1, len(net))
    reval(ALL_TO_ALL, net)
    psend(3.5, net, timeout=DEADLINE)
    for node in nodes:
        assert (precv(net[node], timeout=DEADLINE) == np.full(2**17, 3.5)).all()
        assert precv(net[node], timeout=DEADLINE) == [(other, node) for other in nodes if other != node]
        assert precv(net[node], timeout=DEADLINE) == sum(nodes)
    reval("allgather(sockets.node, sockets)", net)
    assert allgather(0, net, timeout=DEADLINE) == [0, *nodes]


def has(net: Network, node: int, name: str) -> bool:
    reval(f"psend({name!r} in globals(), sockets[0], tag=5)", net[node])
    return bool(precv(net[node], tag=5, timeout=DEADLINE))


def begin_work(net: Network, node: int) -> None:
    assert precv(net[node], timeout=DEADLINE) == "busy"


def test_a_busy_engine_with_commands_in_its_queue(any_server: Server) -> None:
    with any_server.connect(3) as net:
        reval("kept = sockets.node; import os; directory = os.getcwd()", net).result(DEADLINE)
        connection, before = net[2], engine_pids(net)
        running, queued = reval(BUSY, net[2]), reval("never = 1", net[2])
        begin_work(net, 2)
        restart(net[2], timeout=DEADLINE)
        for command in (running, queued):
            with pytest.raises(EngineDiedError, match=r"the engine of node 2 \(.*\) was restarted"):
                command.result(DEADLINE)
        wait_gone(before[2])
        after = engine_pids(net)
        assert [after[node] == before[node] for node in (1, 2, 3)] == [True, False, True]
        assert net[2] is connection and connection.error is None
        assert [has(net, node, "kept") for node in (1, 2, 3)] == [True, False, True]
        reval("import os; psend(os.getcwd(), sockets[0])", net[2])
        reval("psend(directory, sockets[0])", net[1])
        assert precv(net[2], timeout=DEADLINE) == precv(net[1], timeout=DEADLINE) == str(Path.cwd())
        assert [info["state"] for info in network_get_info(net)] == ["open"] * 4
        kind = "unix" if any_server.local_links else "tls"
        assert net[2].transport == (kind if any_server.use_tls else "plain")
        assert_all_works(net)


def test_again_and_again_leaves_nothing(any_server: Server) -> None:
    with any_server.connect(2) as net:
        pids = []
        reval("import os; psend((os.getpid(), os.getppid()), sockets[0])", net)
        engines, spawners = zip(*[precv(net[node], timeout=DEADLINE) for node in (1, 2)], strict=True)
        supervisors = [
            int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in spawners
        ]
        watched = [*supervisors, *spawners, engines[0], os.getpid()]
        restart(net[2], timeout=DEADLINE)
        assert_all_works(net)
        before = [open_files(pid) for pid in watched]
        for _ in range(20):
            pids.append(engine_pids(net)[2])
            restart(net[2], timeout=DEADLINE)
        assert_all_works(net)
        wait_until(lambda: [open_files(pid) for pid in watched] == before, "the same number of open files")
        last = engine_pids(net)
        assert sclose(net) == []
        wait_gone(*pids, *last.values(), *supervisors, *spawners)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, None])
def test_an_engine_that_died(two_servers: list[Server], number: signal.Signals | None) -> None:
    with connect(two_servers) as net:
        if number is None:
            command = reval("import os; os._exit(3)", net[2])
            with pytest.raises(EngineDiedError):
                command.result(DEADLINE)
        else:
            os.kill(engine_pids(net)[2], number)
        with pytest.raises(EngineDiedError):
            precv(net[2], timeout=DEADLINE)
        wait_until(lambda: network_get_info(net)[2]["state"] == "died", "the report")
        restart(net[2], timeout=DEADLINE)
        assert_all_works(net)
        assert network_get_info(net)[2]["state"] == "open"


def test_the_death_of_the_new_engine_is_reported_as_any(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        restart(net[1], timeout=DEADLINE)
        os.kill(engine_pids(net)[1], signal.SIGKILL)
        with pytest.raises(EngineDiedError, match=r"engine of node 1 .* died: SIGKILL"):
            precv(net[1], timeout=DEADLINE)
        restart(net[1], timeout=DEADLINE)
        assert_all_works(net)


def test_several_at_once_and_all(any_server: Server) -> None:
    with any_server.connect(3) as net:
        reval("kept = 1", net).result(DEADLINE)
        reval(BUSY, net[3])
        begin_work(net, 3)
        restart(net[[1, 3]], timeout=DEADLINE)
        assert [has(net, node, "kept") for node in (1, 2, 3)] == [False, True, False]
        assert_all_works(net)
        restart(net, timeout=DEADLINE)
        assert not any(has(net, node, "kept") for node in (1, 2, 3))
        assert_all_works(net)


def test_another_engine_is_busy_and_finds_its_new_link_afterwards(any_server: Server) -> None:
    with any_server.connect(3) as net:
        busy = reval("kept = 1\n" + BUSY, net[3])
        begin_work(net, 3)
        for _ in range(3):  # the engines that dialled first are dead when node 3 accepts
            restart(net[1], timeout=DEADLINE)
        assert not busy.done()
        reval("psend('queued', sockets[3])", net[1]).result(DEADLINE)  # does not wait for node 3 either
        waiting = reval("psend(precv(sockets[3]), sockets[0])", net[1])
        busy.cancel()
        assert isinstance(busy.exception(DEADLINE), RemoteError)
        reval("psend('late', sockets[1]); psend(precv(sockets[1]), sockets[0])", net[3])
        assert precv(net[3], timeout=DEADLINE) == "queued"
        waiting.result(DEADLINE)
        assert precv(net[1], timeout=DEADLINE) == "late"
        assert has(net, 3, "kept")
        assert_all_works(net)


def test_a_command_that_goes_on_finds_the_new_link_when_it_sends(any_server: Server, tmp_path: Path) -> None:
    with any_server.connect(2) as net:
        reval(
            f"""
            import pathlib, time
            psend('busy', sockets[0])
            while not pathlib.Path({str(tmp_path / "go")!r}).exists():
                time.sleep(0.01)  # simulates work
            psend('from a long command', sockets[1])
            psend(precv(sockets[1]), sockets[0])
            """,
            net[2],
        )
        begin_work(net, 2)
        restart(net[1], timeout=DEADLINE)
        (tmp_path / "go").touch()
        reval("psend((precv(sockets[2]), 'and back'), sockets[2])", net[1])
        assert precv(net[2], timeout=DEADLINE) == ("from a long command", "and back")


def test_who_waits_for_the_old_engine_is_told(any_server: Server) -> None:
    with any_server.connect(4) as net:
        reval(BUSY, net[1])
        begin_work(net, 1)
        waiting = [
            reval("psend('busy', sockets[0]); precv(sockets[1])", net[2]),
            reval("psend('busy', sockets[0]); psend(np.zeros(2**27), sockets[1])", net[3]),
            reval("psend('busy', sockets[0]); barrier(sockets[[1, 4]])", net[4]),
        ]
        for node in (2, 3, 4):
            begin_work(net, node)
        wait_asleep(*list(engine_pids(net).values())[1:])
        restart(net[1], timeout=DEADLINE)
        for command in waiting:
            error = command.exception(DEADLINE)
            assert isinstance(error, RemoteError) and "node 1 " in error.message
            assert error.type_name in {"ConnectionLostError", "CollectiveError"}
        assert_all_works(net)


def test_what_the_old_engine_left_is_forgotten(any_server: Server) -> None:
    with any_server.connect(2) as net:
        reval("psend('old', sockets[0]); psend('old', sockets[1])", net[2]).result(DEADLINE)
        psend("for the old one", net[2])
        failed = reval("1 / 0", net[2])
        wait_until(failed.done, "the failure")
        restart(net[2], timeout=DEADLINE)
        reval("psend('new', sockets[0]); psend('new', sockets[1])", net[2])
        reval("psend(precv(sockets[2]), sockets[0])", net[1])
        assert [precv(net[node], timeout=DEADLINE) for node in (1, 2)] == ["new"] * 2
        assert_all_works(net)


def test_a_server_that_is_gone_is_named_and_the_others_are_restarted(two_servers: list[Server]) -> None:
    with connect([*two_servers, two_servers[0]]) as net:
        reval("kept = 1", net).result(DEADLINE)
        supervisor = two_servers[1].sessions(net)[0]
        os.kill(supervisor, signal.SIGKILL)
        with pytest.raises(ConnectionLostError, match="node 2") as caught:
            restart(net[1:], timeout=DEADLINE)
        assert "node 1" not in str(caught.value)
        assert [has(net, node, "kept") for node in (1, 3)] == [False, False]
        reval(
            "psend(sockets.node, sockets[4 - sockets.node]); x = precv(sockets[4 - sockets.node])",
            net[[1, 3]],
        )
        reval("psend(x, sockets[0])", net[[1, 3]])
        assert [precv(net[node], timeout=DEADLINE) for node in (1, 3)] == [3, 1]
        reval("psend(str(sockets[2].error), sockets[0])", net[1])
        assert "node 2" in precv(net[1], timeout=DEADLINE)


def test_a_daemon_that_is_gone_leads_to_nobody(own_servers: list[Server]) -> None:
    """But nodes with higher numbers can dial: node 2 dials node 1, which cannot dial node 2."""
    with connect(own_servers) as net:
        own_servers[1].process.kill()
        own_servers[1].process.wait(DEADLINE)
        restart(net[1], timeout=DEADLINE)
        reval("precv(sockets[2]); psend('heard', sockets[2])", net[1])
        assert net[2].eval("psend(1, sockets[1]); precv(sockets[1])").result(DEADLINE) == "heard"
        reval("psend('usable', sockets[0])", net[1])
        assert precv(net[1], timeout=DEADLINE) == "usable"
        with pytest.raises(ConnectError, match=r"node 2 \("):
            restart(net[2], timeout=1)
        reval("1", net[2]).result(DEADLINE)  # it had no effect


@pytest.mark.slow
def test_a_server_that_does_not_answer_in_time(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        supervisor = two_servers[1].sessions(net)[0]
        os.kill(supervisor, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError, match="node 2"):
                restart(net, timeout=1.0)
            assert has(net, 1, "precv")
            restart(net[1], timeout=3.0)  # without the other node
        finally:
            os.kill(supervisor, signal.SIGCONT)
        restart(net, timeout=DEADLINE)
        assert_all_works(net)


def test_ctrl_c_leaves_a_node_that_can_be_restarted(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        supervisor = two_servers[1].sessions(net)[0]
        os.kill(supervisor, signal.SIGSTOP)
        interrupt_soon(1.5)  # after a second; there is no earlier query
        try:
            with pytest.raises(KeyboardInterrupt):
                restart(net[2], timeout=4)
            with pytest.raises(EngineDiedError, match="the restart of node 2"):
                reval("1", net[2]).result(DEADLINE)
        finally:
            os.kill(supervisor, signal.SIGCONT)
        restart(net[2], timeout=DEADLINE)
        assert_all_works(net)


def test_a_callback_restarts_the_node_that_is_being_restarted(any_server: Server) -> None:
    with any_server.connect(2) as net:
        command = reval(BUSY, net[1])
        begin_work(net, 1)
        later: list[Command] = []

        def restart_again(_: Command) -> None:
            restart(net[2], timeout=DEADLINE)  # and node 1, whose restart this one interrupts
            later.append(reval("psend('later', sockets[0])", net[1]))

        command.add_done_callback(restart_again)
        restart(net[1], timeout=DEADLINE)
        later[0].result(DEADLINE)  # sent to the current engine
        assert precv(net[1], timeout=DEADLINE) == "later"
        assert_all_works(net)


def test_callbacks_of_all_nodes_restart_all_nodes(any_server: Server) -> None:
    with any_server.connect(2) as net:
        for command in reval(BUSY, net):
            command.add_done_callback(lambda _: restart(net, timeout=DEADLINE))
        for node in (1, 2):
            begin_work(net, node)
        restart(net, timeout=DEADLINE)
        assert_all_works(net)


def test_a_callback_that_restarts_while_the_network_is_closed(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with server.connect(2) as net:
        command = reval(BUSY, net[1])
        begin_work(net, 1)
        command.add_done_callback(lambda _: restart(net[2], timeout=DEADLINE))
        sclose(net)
    assert "the network is being closed" in caplog.text
    caplog.clear()


def test_only_the_client_restarts(server: Server) -> None:
    with server.connect(2) as net:
        reval("from pconnect import restart", net)
        with pytest.raises(RemoteError, match="only the client of a network can do this"):
            reval("restart(sockets[2])", net[1]).result(DEADLINE)
        with pytest.raises(ValueError, match="this node itself"):
            restart(net[0])


def test_a_folder_that_the_server_made_stays(two_servers: list[Server], tmp_path: Path) -> None:
    """The server lacks the client's folder; the new engine finds the files of the old one."""
    with contextlib.ExitStack() as stack:
        with contextlib.chdir(tmp_path):
            net = stack.enter_context(connect(two_servers))
        tmp_path.rename(moved := tmp_path.with_name("moved"))
        restart(net[1], timeout=DEADLINE)
        reval("import os; open('written', 'w').close(); psend(os.getcwd(), sockets[0])", net[1])
        folder = precv(net[1], timeout=DEADLINE)
        assert "pserver-" in folder
        restart(net[1], timeout=DEADLINE)
        reval("import os; psend((os.getcwd(), os.listdir()), sockets[0])", net[1])
        assert precv(net[1], timeout=DEADLINE) == (folder, ["written"])
        moved.rename(tmp_path)
    wait_until(lambda: not Path(folder).exists(), "its removal")


@pytest.mark.parametrize("times", [0, 1])
def test_a_killed_supervisor_takes_everything_with_it(two_servers: list[Server], times: int) -> None:
    with connect(two_servers) as net:
        for _ in range(times):
            restart(net[2], timeout=DEADLINE)
        source = "import os, subprocess; child = subprocess.Popen(['sleep', '1000']).pid\n"
        reval(source + "psend((os.getpid(), os.getppid(), child), sockets[0])", net[2])
        pids = precv(net[2], timeout=DEADLINE)
        os.kill(two_servers[1].sessions(net)[0], signal.SIGKILL)
        wait_gone(*pids)


def test_what_the_old_engine_had_started_ends_with_it(server: Server) -> None:
    with server.connect() as net:
        reval("import subprocess; psend(subprocess.Popen(['sleep', '1000']).pid, sockets[0])", net)
        child = precv(net[1], timeout=DEADLINE)
        restart(net[1], timeout=DEADLINE)
        wait_gone(child)


def test_output_of_both_engines_arrives(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with server.connect() as net:
        reval("print('before', end='')", net).result(DEADLINE)
        reval("print('flood' * 2**20); psend('busy', sockets[0])\nwhile True: print('flood' * 1000)", net)
        restart(net[1], timeout=DEADLINE)
        reval("print('after')", net).result(DEADLINE)
        lines = capsys.readouterr().out.splitlines()
    assert "] before" in lines[0]
    assert lines[-1].endswith("] after")


def test_both_dead_and_only_one_is_restarted(two_servers: list[Server]) -> None:
    with connect([*two_servers, two_servers[0]]) as net:
        for node in (2, 3):
            os.kill(engine_pids(net)[node], signal.SIGKILL)
            with pytest.raises(EngineDiedError):
                precv(net[node], timeout=DEADLINE)
        restart(net[2], timeout=DEADLINE)
        reval("psend(str(sockets[3].error), sockets[0])", net[2])
        assert "node 3" in precv(net[2], timeout=DEADLINE)
        reval("psend(1, sockets[2]); psend(precv(sockets[2]), sockets[0])", net[1])
        reval("psend(precv(sockets[1]) + 1, sockets[1])", net[2])
        assert precv(net[1], timeout=DEADLINE) == 2
        with pytest.raises(EngineDiedError):
            reval("1", net[3]).result(DEADLINE)
        restart(net[3], timeout=DEADLINE)
        assert_all_works(net)
