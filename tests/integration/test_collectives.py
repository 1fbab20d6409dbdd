"""Collective calls between real engines and the client: values, deaths, errors, and recovery afterwards."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pconnect import (
    CollectiveError,
    ConnectionLostError,
    Network,
    RemoteError,
    allgather,
    allreduce,
    alltoall,
    barrier,
    bcast,
    gather,
    precv,
    psend,
    reduce,
    reval,
    scatter,
)
from tests.support.clients import ClientProcess
from tests.support.servers import Server, engine_pids
from tests.support.waiting import DEADLINE

CALLS = {
    "barrier": "barrier(group)",
    "bcast": "bcast(np.zeros(10), group)",
    "scatter": "scatter([1, 2, 3, 4], group)",
    "gather": "gather(1, group)",
    "allgather": "allgather(1, group)",
    "alltoall": "alltoall([1, 2, 3, 4], group)",
    "reduce": "reduce(1, group)",
    "allreduce": "allreduce(np.zeros(100_000), group)",
}
NAMES: dict[str, Any] = {
    "np": np, "barrier": barrier, "bcast": bcast, "scatter": scatter, "gather": gather, "allgather": allgather,
    "alltoall": alltoall, "reduce": reduce, "allreduce": allreduce,
}  # fmt: skip


def call_here(call: str, group: Network, timeout: float = DEADLINE) -> Any:
    return eval(call.replace("group)", f"group, timeout={timeout})"), NAMES | {"group": group})


@pytest.fixture(scope="module")
def net(server: Server) -> Iterator[Network]:
    """Yield four engines that no test kills."""
    with server.connect(4) as made:
        yield made


@pytest.fixture(scope="module")
def mortal(server: Server) -> Iterator[Network]:
    """Yield two engines that survive and one more to kill for each call."""
    with server.connect(2 + len(CALLS)) as made:
        yield made


def assert_goes_on(group: Network) -> None:
    """Run the next cell."""
    engines = [node for node in group.nodes if node != 0]
    command = reval(f"x = allreduce(sockets.node, sockets[{group.nodes}], timeout=20)", group)
    assert allreduce(0, group, timeout=DEADLINE) == sum(engines)
    command.result(DEADLINE)


def test_all_calls_between_client_and_engines(net: Network) -> None:
    command = reval(
        """
        node = sockets.node
        barrier(sockets)
        found = [
            bcast(None, sockets).sum(),
            scatter(None, sockets, axis=0).tolist(),
            gather(np.full(node, node), sockets, axis=0),
            allgather({node}, sockets),
            alltoall([(node, k) for k in range(5)], sockets),
            reduce(np.arange(3) * node, sockets, op="max"),
            allreduce(np.full((2, 200_000), float(node)), sockets)[1, -1],
        ]
        psend(found, sockets[0])
        """,
        net,
    )
    barrier(net, timeout=DEADLINE)
    big = np.random.default_rng(0).integers(0, 9, 5_000_000)
    assert bcast(big, net, timeout=DEADLINE) is big
    assert scatter(np.arange(7), net, axis=0, timeout=DEADLINE).tolist() == [0, 1]
    joined = gather(np.zeros(0, int), net, axis=0, timeout=DEADLINE)
    assert joined.tolist() == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]
    assert allgather({0}, net, timeout=DEADLINE) == [{0}, {1}, {2}, {3}, {4}]
    assert alltoall("abcde", net, timeout=DEADLINE) == ["a", *((k, 0) for k in range(1, 5))]
    assert reduce(np.arange(3), net, op="max", timeout=DEADLINE).tolist() == [0, 4, 8]
    assert allreduce(np.zeros((2, 200_000)), net, timeout=DEADLINE)[1, -1] == 10
    command.result(DEADLINE)
    parts = [[0, 1], [2, 3], [4], [5], [6]]
    for node in range(1, 5):
        everywhere = [{0}, {1}, {2}, {3}, {4}]
        to_it = ["abcde"[node], *((k, node) for k in range(1, 5))]
        assert precv(net[node]) == [big.sum(), parts[node], None, everywhere, to_it, None, 10.0]


def test_engines_alone_and_operators_of_their_workspace(net: Network) -> None:
    reval("def farther(a, b): return max(a, b, key=abs)", net).result(DEADLINE)
    reval(
        "psend(allreduce((-1) ** sockets.node * sockets.node, sockets[1:4], op='farther'), sockets[0])",
        net[1:4],
    )
    assert [precv(connection, timeout=DEADLINE) for connection in net[1:4]] == [-3] * 3
    command = reval("h = reduce(np.full(5, 2.0), sockets[[4, 0]], op='np.hypot', root=-1)", net[4])
    assert np.array_equal(reduce(np.ones(5), net[[4, 0]], op=np.hypot, root=1), np.hypot(2.0, np.ones(5)))
    command.result(DEADLINE)


@pytest.mark.parametrize("index", range(len(CALLS)), ids=CALLS)
def test_a_killed_engine_is_named_by_all_and_the_others_go_on(mortal: Network, index: int) -> None:
    """Node 2 joins late, when the others are inside the call; it then learns of the death."""
    net, victim, call = mortal, 3 + index, list(CALLS.values())[index]
    nodes = [[0, 1, 2, victim], [victim, 1, 0, 2], [2, victim, 1, 0]][index % 3]
    source = f"""
    import time
    group = sockets[{nodes}]
    if sockets.node == 2: precv(sockets[0], tag=5)
    else: psend("goes in", sockets[0], tag=5)
    try: {call}
    except Exception as error: outcome = str(error); raise
    """
    command = reval(source, net[[1, 2, victim]])
    for node in (1, victim):
        assert precv(net[node], tag=5, timeout=DEADLINE) == "goes in"
    threading.Timer(0.1, os.kill, [engine_pids(net)[victim], signal.SIGKILL]).start()
    begin = time.monotonic()
    with pytest.raises((ConnectionLostError, CollectiveError, RemoteError), match=rf"node {victim} \("):
        call_here(call, net[nodes])
    assert time.monotonic() - begin < 8
    psend("come", net[2], tag=5)
    with pytest.raises(ExceptionGroup) as caught:
        command.result(DEADLINE)
    assert len(caught.value.exceptions) == 3
    for error in caught.value.exceptions:
        assert f"node {victim} (" in str(error)
    assert_goes_on(net[:3])


FAILURES = {
    "before": ("if sockets.node == 2: raise ValueError('bad')\nallreduce(1, sockets)", 0),
    "in the middle": ("allreduce(1, sockets); x = [1][sockets.node == 2]; allreduce(1, sockets)", 1),
    "in the operator": (
        "def op(a, b): return a + b if sockets.node != 2 else a.bad\nallreduce(1, sockets, op=op)",
        0,
    ),
}


@pytest.mark.parametrize(("source", "good"), FAILURES.values(), ids=FAILURES)
def test_a_command_that_fails_shows_its_traceback_where_the_client_waits(
    net: Network, source: str, good: int
) -> None:
    command = reval(source, net)
    for _ in range(good):
        assert allreduce(1, net, timeout=DEADLINE) == 5
    op: Any = (lambda a, b: a + b) if "op=op" in source else "sum"
    with pytest.raises(RemoteError, match="Error on node 2 ") as caught:
        allreduce(1, net, op=op, timeout=DEADLINE)
    assert caught.value.type_name in {"ValueError", "IndexError", "AttributeError"}
    assert "Traceback" in caught.value.remote_traceback
    with pytest.raises(ExceptionGroup) as group:
        command.result(DEADLINE)
    for error in group.value.exceptions:
        assert caught.value.type_name in str(error)
    assert_goes_on(net)


def test_engines_learn_from_each_other_that_a_command_failed(net: Network) -> None:
    """The client is not a member, so only the failed engine can report the error."""
    command = reval("if sockets.node == 2: raise ValueError('bad')\nbarrier(sockets[1:])", net)
    with pytest.raises(ExceptionGroup, match="on 4 nodes") as caught:
        command.result(DEADLINE)
    for error in caught.value.exceptions:
        assert "ValueError: bad" in str(error)
    assert_goes_on(net)


def test_an_error_after_a_call_is_still_raised_by_the_next_wait(net: Network) -> None:
    reval("allreduce(1, sockets); 1 / 0", net)
    assert allreduce(1, net, timeout=DEADLINE) == 5
    with pytest.raises(RemoteError, match="ZeroDivisionError on node 3"):
        precv(net[3], timeout=DEADLINE)
    assert_goes_on(net)


def test_an_error_that_is_caught_there_is_told_and_the_next_command_begins_anew(net: Network) -> None:
    source = "try: allreduce(np.zeros(sockets.node), sockets)\nexcept Exception as error: psend(str(error), sockets[0])"
    command = reval(source, net)
    with pytest.raises(CollectiveError, match="array of shape"):
        allreduce(np.zeros(1), net, timeout=DEADLINE)
    command.result(DEADLINE)
    for connection in net[1:]:
        assert "array of shape (" in precv(connection)
    assert_goes_on(net)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_time_limits_at_the_client_and_in_an_engine(net: Network, call: str) -> None:
    call = call.replace("[1, 2, 3, 4]", "[1, 2, 3, 4, 5]")
    command = reval(f"group = sockets\nif sockets.node == 3: precv(sockets[0])\n{call}", net)
    with pytest.raises(
        TimeoutError, match=r"of nodes 0, 1, 2, 3, 4 timed out after .* waiting for .*node 3 \("
    ):
        call_here(call, net, timeout=0.1)
    psend("come", net[3])
    with pytest.raises(ExceptionGroup, match="on 4 nodes"):
        command.result(DEADLINE)
    assert_goes_on(net)


@pytest.mark.slow
def test_ctrl_c_at_the_client(server: Server) -> None:
    script = """
command = reval('''
import time
if sockets.node == 2: time.sleep(1000)
outcome = "not interrupted"
try: allreduce(np.zeros(10), sockets)
except BaseException as error: outcome = type(error).__name__; raise
''', net)
try:
    say("waits")
    allreduce(np.zeros(10), net)
except KeyboardInterrupt:
    say("KeyboardInterrupt")
try:
    command.result(10)
except Exception as error:
    say(len(error.exceptions))
reval("y = allreduce(sockets.node, sockets)", net)
say(allreduce(10, net, timeout=10))
say("closed", sclose(net))
"""
    with ClientProcess(script, server, server) as client:
        assert client.line() == "waits"
        client.interrupt_while_waiting()
        assert client.line(2) == "KeyboardInterrupt"
        assert client.line() == "2"
        assert client.line() == "13"
        assert client.line() == "closed []"
