"""Values that are small in bytes but slow to decode: the receiving call pays for them, within limits."""

import gc
import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pconnect import ConnectionLostError, MessageTooLargeError, bcast, precv, psend, reval
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.protocol.frames import Limits, pack_header
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Unfinished
from pconnect.values.item_limit import ALWAYS_ALLOWED
from tests.support.links import LIMIT, networks
from tests.support.servers import Server
from tests.support.waiting import wait_until

MANY = [[] for _ in range(100_000)]  # type: ignore[var-annotated]


@pytest.fixture
def nets() -> Iterator[list[Network]]:
    with networks(3) as made:
        yield made


def send_lists(network: Network, node: int, count: int) -> None:
    """Send a list of `n` empty lists, like a peer that ignores all limits."""
    head = b"\x90\xdd" + count.to_bytes(4, "big") + b"\x90" * count
    connection = network[node]
    connection.post_encoded([pack_header(Kind.VALUE, 0, len(head), 0) + head])
    mesh = network.mesh
    mesh.event_loop.run_until(lambda: not connection.wants_to_write, time.monotonic() + LIMIT, "room")


def send_all(network: Network, *values: object) -> None:
    for value in values:
        psend(value, network[0])


def in_thread(work: Callable[..., object], *args: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=args)
    thread.start()
    return thread


def wait_for_value(network: Network) -> Connection:
    """Wait until node 1 has sent a value; return its connection."""
    connection = network[1]
    network.mesh.event_loop.run_until(lambda: connection.has_value(0), time.monotonic() + LIMIT, "the value")
    return connection


def test_twenty_megabytes_of_empty_lists_are_refused_before_they_take_memory(nets: list[Network]) -> None:
    thread = in_thread(send_lists, nets[1], 0, 20_000_000)
    psend("from another", nets[2][0])
    assert precv(nets[0][2], timeout=LIMIT) == "from another"
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(
        ConnectionLostError, match=r"more items than 16777216, the limit for max_message_bytes"
    ):
        precv(nets[0][1], timeout=LIMIT)
    seconds, (_, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    thread.join()
    assert peak < 100e6 and seconds < 10
    psend("still", nets[2][0])
    assert precv(nets[0][2], timeout=LIMIT) == "still"


def test_the_sender_is_told_before_anything_is_sent() -> None:
    with networks(2, limits=Limits(max_message_bytes=2**25)) as nets:
        value = [0] * (ALWAYS_ALLOWED + 1)
        text = f"more than {ALWAYS_ALLOWED} items.* = {2**25}: send arrays"
        with pytest.raises(MessageTooLargeError, match=text):
            psend(value, nets[0][1])
        thread = in_thread(psend, np.array(value), nets[0][1])
        assert precv(nets[1][0], timeout=LIMIT).shape == (ALWAYS_ALLOWED + 1,)
        thread.join()
        thread = in_thread(psend, value[:-3], nets[0][1])
        assert precv(nets[1][0], timeout=LIMIT) == value[:-3]
        thread.join()


def test_a_value_is_made_by_the_call_that_takes_it(nets: list[Network]) -> None:
    thread = in_thread(psend, MANY, nets[1][0])
    psend("small", nets[2][0])
    connection = wait_for_value(nets[0])
    assert type(connection.inbox[0][0][0]) is Unfinished
    assert precv(nets[0][2], timeout=LIMIT) == "small"
    assert precv(connection, timeout=LIMIT) == MANY
    thread.join()


def test_a_time_limit_counts_while_a_value_is_made(nets: list[Network]) -> None:
    thread = in_thread(send_all, nets[1], MANY, "next")
    connection = wait_for_value(nets[0])
    with pytest.raises(TimeoutError, match="decoding a large value that has arrived"):
        precv(connection, timeout=0.001)
    assert precv(connection, timeout=0) == MANY
    assert precv(connection, timeout=LIMIT) == "next"
    thread.join()


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Disable garbage collection: Hypothesis has a callback there that would swallow an interrupt."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
def test_ctrl_c_ends_the_making_of_a_value(nets: list[Network]) -> None:
    thread = in_thread(send_lists, nets[1], 0, 10_000_000)
    connection = wait_for_value(nets[0])
    thread.join()
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        precv(connection, timeout=LIMIT)
    assert time.monotonic() - began < 5
    timer.join()
    psend("next", nets[1][0])
    assert precv(connection, timeout=LIMIT) == "next"


def test_results_and_arguments_of_many_items(server: Server) -> None:
    with server.connect(2) as net:
        command = net[1].eval(f"[[] for _ in range({len(MANY)})]")
        wait_until(command.done, "the end")
        with pytest.raises(TimeoutError):
            command.result(0.001)
        assert command.result(LIMIT) == MANY
        assert command.result() is command.result()
        assert net.apply(len, MANY).result(LIMIT) == [len(MANY)] * 2
        assert net.submit(len, MANY).result(LIMIT) == len(MANY)
        assert net.submit(list, MANY).result(LIMIT) == MANY
        commands = reval("x = bcast(None, sockets); y = len(x)", net)
        assert bcast(MANY, net, timeout=LIMIT) is MANY
        commands.result(LIMIT)
        assert net.pull("y") == [len(MANY)] * 2


def test_an_engine_can_be_interrupted_while_it_makes_a_value(server: Server) -> None:
    with server.connect(1) as net:
        command = reval(
            """
            sockets.mesh.event_loop.run_until(lambda: sockets[0].has_value(0), float("inf"), "the value")
            print("begins", flush=True)
            precv(sockets[0])
            """,
            net[1],
        )
        send_lists(net, 1, 10_000_000)
        wait_until(lambda: command.done() or "begins" in command.stdout, "the beginning")
        assert command.cancel()
        assert command.exception(LIMIT) is not None
        assert net[1].eval("1 + 1").result(LIMIT) == 2
