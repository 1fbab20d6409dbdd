"""Values, errors and output of commands, and time limits, between real processes."""

import os
import signal
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from pconnect import (
    Network,
    RemoteError,
    network_get_info,
    precv,
    psend,
    reval,
    sclose,
    select_sockets,
)
from tests.support.servers import engine_pids
from tests.support.waiting import DEADLINE, TRIES, wait_gone, wait_until

MakeNetwork = Callable[..., Network]
LONG = 60.0


def test_an_error_comes_after_the_values_that_were_sent_before_it(network: MakeNetwork) -> None:
    net = network(2)
    reval("psend('one', sockets[0]); psend(np.arange(10**6), sockets[0]); 1 / 0", net[1])
    assert precv(net[1], timeout=DEADLINE) == "one"
    assert precv(net[1], timeout=DEADLINE).size == 10**6
    with pytest.raises(RemoteError) as caught:
        precv(net[1], timeout=DEADLINE)
    assert caught.value.type_name == "ZeroDivisionError"
    assert caught.value.node == 1
    reval("psend('two', sockets[0])", net)
    assert [precv(c, timeout=DEADLINE) for c in net[1:]] == ["two", "two"]


def test_an_error_that_was_asked_for_is_not_raised_again(network: MakeNetwork) -> None:
    net = network()
    with pytest.raises(RemoteError):
        reval("1 / 0", net).result(DEADLINE)
    reval("psend('after', sockets[0])", net)
    assert precv(net[1], timeout=DEADLINE) == "after"


def test_errors_of_several_nodes_come_together(network: MakeNetwork) -> None:
    net = network(3)
    with pytest.raises(ExceptionGroup) as caught:
        reval("if sockets.node != 2: raise ValueError(f'at {sockets.node}')", net).result(DEADLINE)
    assert [error.node for error in caught.value.exceptions if isinstance(error, RemoteError)] == [1, 3]
    for error, text in zip(caught.value.exceptions, ("at 1", "at 3"), strict=True):
        assert f"ValueError: {text}" in str(error)


def test_everything_printed_arrives(network: MakeNetwork, capfd: pytest.CaptureFixture[str]) -> None:
    net = network()
    reval(
        """
        import os, subprocess, sys
        print("from print")
        subprocess.run(["echo", "from a child"], check=True)
        os.write(1, b"from C\\n")
        print("an error", file=sys.stderr)
        print("no end", end="")
        """,
        net,
    ).result(DEADLINE)
    sys.stdout.flush()
    out, err = capfd.readouterr()
    host = net[1].host
    assert sorted(out.splitlines()) == sorted(
        f"[1 {host}] {text}" for text in ("from print", "from a child", "from C", "no end")
    )
    assert err == f"[1 {host}] an error\n"


def test_output_without_end_holds_up_neither_server_nor_client(network: MakeNetwork) -> None:
    net = network(2)
    command = reval("for i in range(4000): print('x' * 4999)", net[1])  # 20 MB: more than all buffers
    time.sleep(1)  # the client receives nothing, so the engine ends up waiting in its print
    reval("psend('meanwhile', sockets[0])", net[2])
    assert precv(net[2], timeout=DEADLINE) == "meanwhile"
    command.result(DEADLINE)


def test_time_limits_leave_a_connection_usable(network: MakeNetwork) -> None:
    net = network(2)
    waiting = reval("precv(sockets[0])", net[1])
    waits: tuple[Callable[[], object], ...] = (
        lambda: precv(net[1], timeout=0.05),
        lambda: waiting.result(0.05),
    )
    for wait in waits:
        seconds = []
        for _ in range(TRIES):
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                wait()
            seconds.append(time.monotonic() - begin)
        assert 0.05 <= min(seconds) < 0.95  # a wait wakes up every second in any case
    psend("wakes the command", net[1])
    reval("psend(sockets.node, sockets[0])", net)
    assert [precv(c, timeout=DEADLINE) for c in net[1:]] == [1, 2]


def test_select_sockets_takes_fractions_of_seconds(network: MakeNetwork) -> None:
    net = network(2)
    for limit in (0.1, 0):
        seconds = []
        for _ in range(TRIES):
            begin = time.monotonic()
            assert select_sockets(net, limit) == []
            seconds.append(time.monotonic() - begin)
        assert limit <= min(seconds) < 0.95  # a wait wakes up every second in any case
    reval("psend('ready', sockets[0])", net[2])
    assert select_sockets(net, DEADLINE) == [2]
    assert select_sockets(net[1:], DEADLINE) == [1]
    assert precv(net[2], timeout=DEADLINE) == "ready"


def test_select_sockets_waits_for_complete_messages(network: MakeNetwork) -> None:
    net = network()
    reval("a = np.ones(2**27, np.uint8)", net).result(DEADLINE)
    reval("psend(a, sockets[0])", net)
    assert select_sockets(net, DEADLINE) == [1]
    assert precv(net[1], timeout=0).nbytes == 2**27


def test_half_sent_value_is_finished_later_as_it_was(network: MakeNetwork) -> None:
    net = network()
    values = np.arange(2**23)  # 64 MiB: more than the buffers of the system
    busy = reval("import signal; psend(1, sockets[0]); signal.pause()", net)
    assert precv(net[1], timeout=DEADLINE) == 1
    with pytest.raises(TimeoutError):
        psend(values, net, timeout=0.2)
    assert net[1].wants_to_write
    values[:] = 0
    reval("b = precv(sockets[0]); psend(bool((b == np.arange(2**23)).all()), sockets[0])", net)
    reval("psend(precv(sockets[0]), sockets[0])", net)
    # The engine receives nothing while it pauses; a signal ends the pause.
    os.kill(engine_pids(net)[1], signal.SIGINT)
    with pytest.raises(RemoteError, match="KeyboardInterrupt"):
        busy.result(DEADLINE)
    psend("next", net)
    assert precv(net[1], timeout=DEADLINE) is True
    assert precv(net[1], timeout=DEADLINE) == "next"


@pytest.mark.slow
def test_both_ends_send_256_mib_first(network: MakeNetwork) -> None:
    net = network()
    reval("psend(np.full(2**28, 1, np.uint8), sockets[0], timeout=60); b = precv(sockets[0])", net)
    psend(np.full(2**28, 2, np.uint8), net, timeout=LONG)
    arrived = precv(net[1], timeout=LONG)
    assert arrived.nbytes == 2**28
    assert (arrived == 1).all()
    reval("psend((b.nbytes, bool((b == 2).all())), sockets[0])", net)
    assert precv(net[1], timeout=LONG) == (2**28, True)


def test_ring_of_four_sends_64_mib_on(network: MakeNetwork) -> None:
    net = network(4)
    reval(
        """
        following, before = sockets[sockets.node % 4 + 1], sockets[(sockets.node - 2) % 4 + 1]
        psend(np.full(2**26, sockets.node, np.uint8), following)
        b = precv(before)
        psend((b.nbytes, int(b[0]), bool((b == b[0]).all())), sockets[0])
        """,
        net,
    )
    assert [precv(c, timeout=LONG) for c in net[1:]] == [(2**26, node, True) for node in (4, 1, 2, 3)]


def test_sclose_ends_a_busy_engine_and_tells_which_had_to_be_killed(network: MakeNetwork) -> None:
    net = network(3)
    reval("import time; psend('busy', sockets[0]); time.sleep(1000)", net[2])
    reval(
        """
        import time
        def stubborn():
            psend('stubborn', sockets[0])
            while True:
                try: time.sleep(1000)
                except KeyboardInterrupt: pass
        stubborn()
        """,
        net[3],
    )
    assert [precv(net[node], timeout=DEADLINE) for node in (2, 3)] == ["busy", "stubborn"]
    pids = engine_pids(net).values()
    begin = time.monotonic()
    assert sclose(net) == [3]
    assert time.monotonic() - begin < 5
    wait_gone(*pids)


def test_info_counts_commands_under_way(network: MakeNetwork) -> None:
    net = network()
    command = reval("precv(sockets[0])", net)
    reval("x = 1", net)
    assert network_get_info(net)[1]["queued"] == 2
    psend(None, net)
    command.result(DEADLINE)
    wait_until(lambda: network_get_info(net)[1]["queued"] == 0, "the end of the commands")
