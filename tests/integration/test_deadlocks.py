"""Deadlocks between real processes: each is reported within seconds, with no false alarms."""

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pconnect import (
    DeadlockError,
    Network,
    RemoteError,
    barrier,
    bcast,
    precv,
    psend,
    restart,
    reval,
    select_sockets,
)
from tests.support.deadlocks import HURRY, hurry
from tests.support.waiting import DEADLINE

MakeNetwork = Callable[..., Network]
SOON = 30.0  # seconds; it takes one on a quiet machine
LONG = 3 * HURRY.period  # seconds; time for three rounds of queries


@pytest.fixture
def network(network: MakeNetwork) -> MakeNetwork:
    def make(n: int = 1) -> Network:
        net = network(n)
        hurry(net)
        return net

    return make


def named(wait: Callable[[], object]) -> DeadlockError:
    """Return the error that soon ends a wait without a time limit."""
    begin = time.monotonic()
    with pytest.raises(DeadlockError) as caught:
        wait()
    assert time.monotonic() - begin < SOON
    assert not isinstance(caught.value, RemoteError)
    return caught.value


def assert_usable(net: Network) -> None:
    """Fail unless all nodes accept commands and values, also from each other, and make collective calls."""
    reval("psend(precv(sockets[0]) + sockets.node, sockets[0])", net)
    psend(100, net)
    assert [precv(c, timeout=DEADLINE) for c in net[1:]] == [100 + c.node for c in net[1:]]
    command = reval(
        "psend(sockets.node, sockets); total = sum(precv(c) for c in sockets[1:] if not c.is_own)", net
    )
    psend(0, net)
    command.result(DEADLINE)
    for connection in net[1:]:
        assert precv(connection, timeout=DEADLINE) == connection.node
    reval("precv(sockets[0])\nbarrier(sockets)", net)
    barrier(net, timeout=DEADLINE)


def pairs(error: DeadlockError) -> list[tuple[int, str, tuple[int, ...]]]:
    return [(line.node, line.kind, line.waits_for) for line in error.waits]


# --- deadlocks ---


def test_the_client_and_an_engine_wait_for_each_other(network: MakeNetwork) -> None:
    net = network(2)
    command = reval("def f():\n    return precv(sockets[0], tag=3)\nf()", net[1])
    error = named(lambda: precv(net[1]))
    assert pairs(error) == [(0, "precv", (1,)), (1, "precv", (0,))]
    assert f"node 1 ({net[1].host}) waits in precv(tag=3) for node 0, in command {command.number}: " in str(
        error
    )
    with pytest.raises(DeadlockError, match="return precv") as caught:
        command.result(DEADLINE)
    assert isinstance(caught.value, RemoteError)
    assert caught.value.waits == error.waits
    assert_usable(net)


@pytest.mark.parametrize("size", [2, 3])
def test_engines_wait_for_each_other_in_a_circle(network: MakeNetwork, size: int) -> None:
    net = network(size)
    commands = reval(f"x = precv(sockets[sockets.node % {size} + 1])", net)
    error = named(commands[0].result)
    assert pairs(error)[1:] == [(node, "precv", (node % size + 1,)) for node in range(1, size + 1)]
    assert [line.command for line in error.waits] == [None, *[commands.source] * size]
    assert pairs(error)[0] == (0, "the end of a command", (1,))
    assert_usable(net)  # the failures were reported


def test_the_client_waits_for_the_end_of_a_command_that_waits_for_the_client(network: MakeNetwork) -> None:
    net = network(3)
    reval("psend(precv(sockets[2]), sockets[3])", net[1])
    reval("psend(precv(sockets[0]), sockets[1])", net[2])
    command = reval("precv(sockets[1])", net[3])
    assert pairs(named(command.result)) == [
        (0, "the end of a command", (3,)),
        (1, "precv", (2,)),
        (2, "precv", (0,)),
        (3, "precv", (1,)),
    ]
    assert_usable(net)


def test_one_of_many_commands_never_ends(network: MakeNetwork) -> None:
    net = network(2)
    command = reval("if sockets.node == 1: precv(sockets[0])\nelse: __import__('time').sleep(60)", net)
    error = named(command.result)
    assert pairs(error) == [(0, "the end of a command", (1,)), (1, "precv", (0,))]
    command[1].cancel()
    with pytest.raises(ExceptionGroup, match="failed on 2 nodes"):
        command.result(DEADLINE)
    assert_usable(net)


def test_a_command_that_waits_its_turn_never_begins(network: MakeNetwork) -> None:
    net = network()
    reval("precv(sockets[0])", net)
    second = reval("y = 5", net[1])
    assert pairs(named(second.result)) == [(0, "the end of a command", (1,)), (1, "precv", (0,))]
    second.result(DEADLINE)  # now its turn has come
    assert_usable(net)


@pytest.mark.parametrize("wait", [lambda net: precv(net[1]), select_sockets])
def test_engines_that_have_nothing_to_do(network: MakeNetwork, wait: Callable[[Network], object]) -> None:
    net = network(2)
    reval("x = 1", net).result(DEADLINE)
    psend("with a tag that nobody asks for", net, tag=9)
    error = named(lambda: wait(net))
    assert error.waits[1][2:] == (None, "idle", (0,))
    assert "runs no command and waits for one" in str(error)
    reval("precv(sockets[0], tag=9)", net).result(DEADLINE)
    assert_usable(net)


def test_a_collective_call_and_a_receive_wait_for_each_other(network: MakeNetwork) -> None:
    net = network(3)
    reval("bcast(None, sockets[1:], root=1)", net[[1, 3]])
    stuck = reval("precv(sockets[1])", net[2])
    assert pairs(named(stuck.result)) == [
        (0, "the end of a command", (2,)),
        (1, "bcast", (2,)),
        (2, "precv", (1,)),
        (3, "bcast", (2,)),
    ]
    assert_usable(net)


def test_the_client_in_a_collective_call(network: MakeNetwork) -> None:
    net = network(2)
    reval("bcast(None, sockets, root=2)", net[1])
    reval("precv(sockets[1])", net[2])
    error = named(lambda: bcast(None, net, root=2))
    assert pairs(error) == [(0, "bcast", (2,)), (1, "bcast", (2,)), (2, "precv", (1,))]
    assert_usable(net)


def test_a_command_may_catch_it_and_go_on(network: MakeNetwork) -> None:
    net = network()
    source = "try:\n    precv(sockets[0])\nexcept RuntimeError as error:\n    psend(type(error).__name__, sockets[0])"
    command = reval(source, net[1])
    named(command.result)
    command.result(DEADLINE)
    assert precv(net[1], timeout=DEADLINE) == "DeadlockError"
    assert_usable(net)


def test_an_engine_in_the_place_of_one_that_owed_an_answer(network: MakeNetwork) -> None:
    net = network(2)
    reval("while True: pass", net[2])
    reval(f"import time\ntime.sleep({LONG})\npsend('slept', sockets[0])", net[1])
    assert precv(net[1]) == "slept"  # meanwhile the client has queried all nodes
    restart(net[2])
    reval("precv(sockets[1])", net[2])
    command = reval("precv(sockets[2])", net[1])
    assert pairs(named(command.result)) == [
        (0, "the end of a command", (1,)),
        (1, "precv", (2,)),
        (2, "precv", (1,)),
    ]
    assert_usable(net)


def test_a_child_of_an_engine_that_prints_all_the_time_changes_nothing(network: MakeNetwork) -> None:
    net = network()
    source = """
    import subprocess, sys
    prints = "import time\\nwhile True: print(2000 * 'x', flush=True); time.sleep(0.01)"
    child = subprocess.Popen([sys.executable, "-c", prints])
    try:
        precv(sockets[0])
    finally:
        child.kill()
        child.wait()
    """
    command = reval(source, net[1])
    assert pairs(named(command.result)) == [(0, "the end of a command", (1,)), (1, "precv", (0,))]
    assert_usable(net)


# --- no deadlocks ---


@pytest.mark.parametrize(
    "work",
    [f"b = time.monotonic()\nwhile time.monotonic() < b + {LONG}: pass", f"time.sleep({LONG})"],
)
def test_an_engine_that_is_busy_for_long(network: MakeNetwork, work: str) -> None:
    net = network(2)
    relay = reval("psend(precv(sockets[1]), sockets[0])", net[2])
    reval(f"import time\n{work}\npsend('late', sockets[2])", net[1])
    assert precv(net[2]) == "late"
    relay.result(DEADLINE)


def test_values_that_take_long_on_their_way(network: MakeNetwork) -> None:
    net = network(2)
    reval("import time\nfor _ in range(3): psend(np.ones(2**22), sockets[2])", net[1])  # 32 MiB each
    reval(
        f"import time\nfor _ in range(3):\n    time.sleep({HURRY.period})\n    x = precv(sockets[1])\n"
        "psend(x, sockets[0])",
        net[2],
    )
    value: Any = precv(net[2])
    assert value.sum() == 2**22


def test_an_array_that_nobody_takes_for_a_while(network: MakeNetwork) -> None:
    net = network()
    command = reval(
        f"import time\ntime.sleep({LONG})\nx = precv(sockets[0])\npsend(x[-1], sockets[0])", net[1]
    )
    psend(np.arange(2**23), net[1])
    command.result()
    assert precv(net[1]) == 2**23 - 1


@pytest.mark.parametrize(
    "wait",
    [
        f"precv(sockets[{{}}], timeout={LONG})",
        f"if not select_sockets(sockets[[{{}}]], {LONG}): raise TimeoutError",
        f"barrier(sockets[[1, 2]], timeout={LONG})",
        "signal.alarm(2)\n    precv(sockets[{}])",
    ],
)
def test_waits_that_end_by_themselves(network: MakeNetwork, wait: str) -> None:
    net = network(2)
    reval("import signal\ndef late(*_): raise TimeoutError\nsignal.signal(signal.SIGALRM, late)", net)
    commands = []
    for node, other in ((1, 2), (2, 1)):
        text = "precv(sockets[1])" if "barrier" in wait and node == 2 else wait.format(other)
        source = f"try:\n    {text}\nexcept TimeoutError:\n    psend('passed', sockets)\nfinally:\n    signal.alarm(0)"
        commands.append(reval(source, net[node]))
    assert precv(net[select_sockets(net)[0]]) == "passed"
    # The value from the first one frees the other, unless its own limit has passed too.
    for command in commands:
        command.result()


@pytest.mark.parametrize("wait", [precv, lambda node, timeout: reval("1", node).result(timeout)])
def test_a_wait_of_the_client_with_a_limit(network: MakeNetwork, wait: Callable[..., object]) -> None:
    """The call times out and says who waits for whom. No command is ended: the client may send the missing value."""
    net, begin = network(2), time.monotonic()
    commands = [
        reval("x = precv(sockets[2])", net[1]),
        reval("y = precv(sockets[0]); psend(y, sockets[1])", net[2]),
    ]
    with pytest.raises(TimeoutError) as caught:
        wait(net[1], timeout=LONG)
    assert time.monotonic() - begin >= LONG
    assert not isinstance(caught.value, DeadlockError)
    assert re.search(
        r"waiting for .*: deadlock: no node can make progress:\n  node 0 \(client\) waits .* node 1\n"
        r"  node 1 .* waits in precv for node 2, in command .*\n  node 2 .* waits in precv for node 0, in",
        str(caught.value),
    )
    assert select_sockets(net[[1]], 3 * HURRY.period) == []
    psend(5, net[2])
    assert [command.result(DEADLINE) for command in commands] == [None, None]
    assert_usable(net)


def test_a_time_limit_says_nothing_of_a_deadlock_that_was_ended(network: MakeNetwork) -> None:
    net = network()
    command = reval("x = precv(sockets[0])", net[1])
    with pytest.raises(TimeoutError, match="deadlock: no node can make progress"):
        command.result(LONG)
    psend(1, net[1])
    command.result(DEADLINE)
    reval("import time; time.sleep(2)", net[1])
    with pytest.raises(TimeoutError, match=r"waiting for a value from node 1 \(\S+\)$"):
        precv(net[1], timeout=LONG)


def test_a_command_with_a_time_limit(network: MakeNetwork) -> None:
    net = network()
    command = reval("precv(sockets[0])", net[1], time_limit=LONG)
    with pytest.raises(TimeoutError, match=f"the time limit of {LONG:g} s passed"):
        command.result()


def test_a_slow_ring(network: MakeNetwork) -> None:
    net = network(3)
    source = f"""
    import time
    before, after = sockets[(sockets.node - 2) % 3 + 1], sockets[sockets.node % 3 + 1]
    for step in range(3):
        if sockets.node > 1 or step: x = precv(before)
        else: x = 0
        time.sleep({HURRY.period / 2})
        psend(x + 1, after)
    """
    reval(source, net).result()
    reval("psend(precv(sockets[3]), sockets[0])", net[1])
    assert precv(net[1]) == 9


def test_the_right_value_comes_after_one_with_another_tag(network: MakeNetwork) -> None:
    net = network(2)
    reval("psend(precv(sockets[2], tag=1), sockets[0])", net[1])
    reval(
        f"import time\npsend('wrong', sockets[1], tag=2)\ntime.sleep({LONG})\npsend('right', sockets[1], tag=1)",
        net[2],
    )
    assert precv(net[1]) == "right"


def test_a_function_that_the_end_of_another_command_calls(network: MakeNetwork) -> None:
    net = network(2)
    reval("psend(precv(sockets[0]), sockets[0])", net[1])
    helper = reval(f"import time\ntime.sleep({LONG})", net[2])
    helper.add_done_callback(lambda _: psend("from the callback", net[1]))
    assert precv(net[1]) == "from the callback"


def test_a_thread_of_the_user_counts_as_busy(network: MakeNetwork) -> None:
    net = network()
    source = f"""
    import _thread, threading
    try:
        threading.Timer({LONG}, _thread.interrupt_main).start()
        precv(sockets[0])
    except KeyboardInterrupt:
        psend("by the thread", sockets[0])
    """
    reval(source, net[1])
    assert precv(net[1]) == "by the thread"
