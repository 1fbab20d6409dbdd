"""Each process is killed or stopped during its work: the errors on other nodes, and a complete cleanup."""

import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pconnect import (
    ConnectError,
    ConnectionLostError,
    EngineDiedError,
    Network,
    network_get_info,
    precv,
    psend,
    restart,
    reval,
    sclose,
    select_sockets,
)
from tests.support.clients import ClientProcess
from tests.support.servers import Server, connect, engine_pids
from tests.support.waiting import DEADLINE, wait_gone, wait_until

MIB = 2**20
BUSY = "import time; psend('busy', sockets[0]); time.sleep(1000)"
SENDING = "psend(np.zeros(2**30, np.uint8), sockets[0])"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def assert_goes_on(net: Network, *nodes: int) -> None:
    reval("psend(sockets.node, sockets[0])", net[list(nodes)])
    assert [precv(net[node], timeout=DEADLINE) for node in nodes] == list(nodes)


def assert_logs_in(*servers: Server) -> None:
    with connect(list(servers)) as net:
        assert_goes_on(net, *range(1, len(net)))


# --- the engine ---


def test_engine_in_a_command(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        command = reval(BUSY, net)
        assert [precv(c, timeout=DEADLINE) for c in net[1:]] == ["busy"] * 2
        pids = engine_pids(net)
        kill(pids[2])
        with pytest.raises(EngineDiedError, match=r"engine of node 2 .* died: SIGKILL"):
            precv(net[2], timeout=DEADLINE)
        with pytest.raises(EngineDiedError, match=r"engine of node 2 .* died: SIGKILL"):
            select_sockets(net[[2]], DEADLINE)
        assert [info["state"] for info in network_get_info(net)] == ["open", "open", "died"]
        os.kill(pids[1], signal.SIGINT)
        with pytest.raises(ExceptionGroup) as caught:
            command.result(DEADLINE)
        assert "KeyboardInterrupt" in str(caught.value.exceptions[0])
        assert isinstance(caught.value.exceptions[1], EngineDiedError)
        assert_goes_on(net, 1)
        sclose(net)
        wait_gone(*pids.values())
    assert_logs_in(*two_servers)


def test_engine_while_it_sends_to_the_client(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        # Before: the query receives all that arrives meanwhile, possibly everything.
        pid = engine_pids(net)[1]
        reval("psend('begins', sockets[0]); psend(np.zeros(2**30, np.uint8), sockets[0])", net[1])
        assert precv(net[1], timeout=DEADLINE) == "begins"
        kill(pid)
        with pytest.raises(EngineDiedError, match=r"engine of node 1 .* died: SIGKILL"):
            precv(net[1], timeout=DEADLINE)
        assert_goes_on(net, 2)


def test_engine_while_the_client_sends_to_it(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        reval(BUSY, net[1])
        assert precv(net[1], timeout=DEADLINE) == "busy"
        with pytest.raises(TimeoutError):
            psend(np.zeros(256 * MIB, np.uint8), net[1], timeout=0.2)
        kill(engine_pids(net)[1])
        with pytest.raises(EngineDiedError, match=r"engine of node 1 .* died: SIGKILL"):
            psend("more", net, timeout=DEADLINE)
        reval("psend(precv(sockets[0]), sockets[0])", net[2])
        assert precv(net[2], timeout=DEADLINE) == "more"
        assert_goes_on(net, 2)


def test_engine_that_another_waits_for(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        reval(BUSY, net[2])
        command = reval("psend('waits', sockets[0]); precv(sockets[2])", net[1])
        assert [precv(c, timeout=DEADLINE) for c in net[1:]] == ["waits", "busy"]
        kill(engine_pids(net)[2])
        with pytest.raises(ConnectionLostError, match="node 2") as caught:
            precv(net[2], timeout=DEADLINE)
        assert isinstance(caught.value, EngineDiedError)
        with pytest.raises(
            RuntimeError, match=r"ConnectionLostError on node 1 (?s:.*)node 2 .*net\[2\]\.restart"
        ):
            command.result(DEADLINE)
        assert_goes_on(net, 1)


def test_children_of_an_engine_end_with_the_network(two_servers: list[Server]) -> None:
    with two_servers[0].connect() as net:
        reval("import subprocess; psend(subprocess.Popen(['sleep', '1000']).pid, sockets[0])", net)
        child = precv(net[1], timeout=DEADLINE)
        kill(engine_pids(net)[1])
        sclose(net)
    wait_gone(child)


# --- the supervisor ---


@pytest.mark.parametrize("work", [BUSY, f"psend('busy', sockets[0]); {SENDING}"])
def test_supervisor(two_servers: list[Server], work: str) -> None:
    with connect(two_servers) as net:
        pids = engine_pids(net)  # before: the query receives all that arrives meanwhile, possibly everything
        command = reval(work, net[2])
        assert precv(net[2], timeout=DEADLINE) == "busy"
        kill(two_servers[1].sessions(net)[0])
        wait_gone(pids[2])
        with pytest.raises(ConnectionLostError, match="node 2"):
            command.result(DEADLINE)
        with pytest.raises(ConnectionLostError, match="node 2"):
            precv(net[2], timeout=DEADLINE)
        assert [info["state"] for info in network_get_info(net)] == ["open", "open", "lost"]
        assert_goes_on(net, 1)
        sclose(net)
        wait_gone(*pids.values())
    assert_logs_in(*two_servers)


# --- the client ---

CLIENT = "say(*[info['pid'] for info in network_get_info(net)[1:]])\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        "reval('import time; time.sleep(1000)', net); say('now'); precv(net[1])",
        "reval('np.linalg.eigh(np.random.rand(3000, 3000))', net); say('now'); net[1].mesh.event_loop.poll(1000)",
        f"reval({SENDING!r}, net); select_sockets(net, 0.05); say('now'); signal.pause()",
        "reval('import time; time.sleep(1000)', net); say('now'); psend(np.zeros(2**29, np.uint8), net)",
        "reval('for i in range(10**9): print(i)', net); say('now'); precv(net[1])",
    ],
    ids=["command", "library", "while the client sends to it", "while it sends", "output"],
)
def test_client(server: Server, work: str) -> None:
    with server.connect() as other:
        reval("psend(precv(sockets[0]), sockets[0])", other)
        with ClientProcess(
            CLIENT + work.replace("say('now')", "print('now', flush=True)"), server, server
        ) as client:
            pids = [int(pid) for pid in client.line().split()]
            wait_until(lambda: "now" in client.line(), "the beginning of the work")
            client.process.kill()
            client.process.wait(DEADLINE)
            begin = time.monotonic()
            wait_gone(*pids)
            assert time.monotonic() - begin < 10
        psend("alive", other)
        assert precv(other[1], timeout=DEADLINE) == "alive"
    assert_logs_in(server)


# --- the daemon ---


def test_networks_go_on_when_a_daemon_is_killed(own_servers: list[Server]) -> None:
    with connect(own_servers) as net:
        command = reval("psend('busy', sockets[0]); x = precv(sockets[0])", net)
        assert [precv(c, timeout=DEADLINE) for c in net[1:]] == ["busy"] * 2
        pids = engine_pids(net)
        supervisors = [pid for server in own_servers for pid in server.sessions(net)]
        kill(own_servers[1].process.pid)
        own_servers[1].process.wait(DEADLINE)
        psend("go on", net)
        command.result(DEADLINE)
        reval("psend(x, sockets[3 - sockets.node]); psend(precv(sockets[3 - sockets.node]), sockets[0])", net)
        assert [precv(c, timeout=DEADLINE) for c in net[1:]] == ["go on"] * 2
        with pytest.raises(ConnectError, match="refused"):
            assert_logs_in(own_servers[1])
        assert_logs_in(own_servers[0])
        sclose(net)
        wait_gone(*pids.values(), *supervisors)


@pytest.mark.slow
def test_a_stopped_daemon_names_itself(own_servers: list[Server]) -> None:
    with connect(own_servers) as net:
        command = reval(BUSY, net)
        assert [precv(c, timeout=DEADLINE) for c in net[1:]] == ["busy"] * 2
        pids = engine_pids(net)
        own_servers[1].process.terminate()
        with pytest.raises(ConnectionLostError, match=r"node 2 .*the server was stopped"):
            precv(net[2], timeout=DEADLINE)
        wait_gone(pids[2])
        os.kill(pids[1], signal.SIGINT)
        with pytest.raises(ExceptionGroup):
            command.result(DEADLINE)
        assert_goes_on(net, 1)


@pytest.mark.slow
def test_a_stopped_engine_is_named_by_the_restart_of_another(two_servers: list[Server]) -> None:
    with connect(two_servers) as net:
        stopped = engine_pids(net)[2]
        os.kill(stopped, signal.SIGSTOP)
        try:
            with pytest.raises(ConnectError, match="node 1 could not connect to node 2") as caught:
                restart(net[1], timeout=4.0)
            assert list(caught.value.reasons) == [f"node 1 ({net[1].host})"]
            assert_goes_on(net, 1)
        finally:
            os.kill(stopped, signal.SIGCONT)
        restart(net[1], timeout=math.inf)
        reval("psend(allreduce(sockets.node, sockets[1:]), sockets[0])", net)
        assert [precv(net[node], timeout=DEADLINE) for node in (1, 2)] == [3, 3]


@pytest.mark.slow
def test_no_process_is_left_when_the_server_s_parent_is_gone(
    tmp_path: Path, server: Server, network: Callable[..., Network]
) -> None:
    """`local_network` in a process that is killed leaves neither its server nor its engines."""
    import subprocess
    import sys

    script = (
        "from pconnect import local_network, network_get_info, reval\n"
        "with local_network(2) as net:\n"
        "    reval('import time; time.sleep(1000)', net)\n"
        "    print(*[info['pid'] for info in network_get_info(net)[1:]], flush=True)\n"
        "    net[1].mesh.event_loop.poll(1000)\n"
        "    input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    with process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        daemon = next(tmp_path.rglob("local-*.pid"))
        pids.append(int(daemon.read_text().split()[0]))
        process.kill()
        wait_gone(*pids)
    assert server.process.poll() is None
    assert_goes_on(network(), 1)
