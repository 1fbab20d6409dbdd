"""Networks in one process. If both ends must wait at the same time, one of them waits in a thread."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pconnect import (
    ConfigurationError,
    ConnectionLostError,
    InboxFullError,
    MessageTooLargeError,
    UnavailableTypeError,
    UnsupportedValueError,
    precv,
    psend,
    register_type,
    select_sockets,
)
from pconnect.loop.network import Network
from pconnect.messaging.send_receive import MAX_TAG
from pconnect.protocol.frames import Header, Limits
from pconnect.protocol.kinds import Kind
from pconnect.values import registry
from tests.support.hostile import head_of, mark
from tests.support.links import LIMIT, networks


@pytest.fixture
def nets() -> Iterator[list[Network]]:
    with networks(3) as made:
        yield made


@contextmanager
def at_the_same_time(*works: Callable[[], object]) -> Iterator[list[object]]:
    """Run functions in threads beside the block. Their outcomes are available after it."""
    outcomes: list[object] = [None] * len(works)

    def run(index: int) -> None:
        try:
            outcomes[index] = works[index]()
        except Exception as error:  # noqa: BLE001 - an outcome
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    yield outcomes
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_sending_to_a_network_skips_this_node(nets: list[Network]) -> None:
    psend({"x": 1}, nets[0])
    assert [precv(net[0], timeout=LIMIT) for net in nets[1:]] == [{"x": 1}] * 2


def test_tags_keep_values_apart(nets: list[Network]) -> None:
    for tag in (0, 5, MAX_TAG):
        psend(tag, nets[0][1], tag=tag)
    assert [precv(nets[1][0], tag=tag, timeout=LIMIT) for tag in (MAX_TAG, 0, 5)] == [MAX_TAG, 0, 5]


def test_one_node_in_a_list_is_a_node(nets: list[Network]) -> None:
    psend(1, [nets[0][2]])
    assert precv(nets[2][[0]], timeout=LIMIT) == 1  # type: ignore[arg-type]


def send_head(network: Network, head: bytes) -> None:
    """Send data to node 1 that our encoder never writes."""
    network[1].post_encoded([Header(Kind.VALUE, 0, len(head), 0).pack() + head])
    network.mesh.event_loop.flush(network[1])


def test_a_value_that_cannot_be_made_here_is_an_error_once(nets: list[Network]) -> None:
    send_head(nets[0], head_of([mark(64, "a name that is not registered", 1)]))
    psend("next", nets[0][1])
    with pytest.raises(UnavailableTypeError, match=r"call pconnect\.register_type here"):
        precv(nets[1][0], timeout=LIMIT)
    assert precv(nets[1][0], timeout=LIMIT) == "next"
    psend("back", nets[1][0])
    assert precv(nets[0][1], timeout=LIMIT) == "back"


def test_a_malformed_value_of_a_package_loses_its_connection_only(nets: list[Network]) -> None:
    send_head(nets[0], head_of(mark(40, "csr_array", [2**40, 2], 1, 2, 3)))
    with pytest.raises(
        ConnectionLostError, match=r"node 0 \(host0\) is lost: wrong parts for a sparse array"
    ):
        precv(nets[1][0], timeout=LIMIT)
    psend(1, nets[2][1])
    assert precv(nets[1][2], timeout=LIMIT) == 1


def test_both_send_first_more_than_the_system_takes(nets: list[Network]) -> None:
    array = np.random.default_rng(0).random(2**21)

    def other() -> Any:
        psend(array, nets[1][0], timeout=LIMIT)
        return precv(nets[1][0], timeout=LIMIT)

    with at_the_same_time(other) as outcomes:
        psend(-array, nets[0][1], timeout=LIMIT)
        assert np.array_equal(precv(nets[0][1], timeout=LIMIT), array)
    assert np.array_equal(outcomes[0], -array)  # type: ignore[arg-type]


def test_a_ring(nets: list[Network]) -> None:
    def node(net: Network) -> Callable[[], Any]:
        def turn() -> Any:
            psend(np.full(2**20, net.node), net[(net.node + 1) % 3], timeout=LIMIT)
            return precv(net[net.node - 1], timeout=LIMIT)[-1]

        return turn

    with at_the_same_time(*map(node, nets)) as outcomes:
        pass
    assert outcomes == [2, 0, 1]


def test_what_is_left_of_a_half_sent_value_is_as_it_was(nets: list[Network]) -> None:
    array = np.zeros(2**21)
    with pytest.raises(TimeoutError, match=r"room to send to node 1 \(host1\)"):
        psend(array, nets[0][1], timeout=0.05)
    array[:] = 1
    with at_the_same_time(lambda: [precv(nets[1][0], timeout=LIMIT) for _ in range(2)]) as outcomes:
        psend("next", nets[0][1], timeout=LIMIT)
    received: Any = outcomes[0]
    assert not received[0].any()
    assert received[1] == "next"


def test_ctrl_c_while_sending_keeps_the_rest(nets: list[Network]) -> None:
    array = np.zeros(2**21)
    timer = threading.Timer(0.1, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        psend(array, nets[0][1], timeout=LIMIT)
    timer.join()
    array[:] = 1
    with at_the_same_time(lambda: precv(nets[1][0], timeout=LIMIT)) as outcomes:
        psend(None, nets[0][1], timeout=LIMIT)
    assert not np.any(outcomes[0])  # type: ignore[call-overload]


def test_nothing_is_sent_of_what_cannot_be(nets: list[Network]) -> None:
    with pytest.raises(UnsupportedValueError, match=r"value\['a'\]\[1\]"):
        psend({"a": [1, object()]}, nets[0])
    assert not nets[0][1].wants_to_write
    assert nets[0][1].values_sent == 0


def test_a_slow_receiver_slows_the_sender() -> None:
    array = np.arange(2**17)  # 1 MiB
    sent = []
    with networks(2, limits=Limits(max_inbox_bytes=3 * 2**20)) as nets:
        connection = nets[1][0]

        def send() -> None:
            for number in range(40):
                psend(array + number, nets[0][1], timeout=LIMIT)
                sent.append(number)

        with at_the_same_time(send) as outcomes:
            with pytest.raises(InboxFullError):
                precv(connection, tag=1, timeout=LIMIT)
            assert 3 * 2**20 <= connection.waiting_bytes < 5 * 2**20
            assert len(sent) < 30
            assert [int(precv(connection, timeout=LIMIT)[0]) for _ in range(40)] == list(range(40))
        assert outcomes == [None]
        assert connection.waiting_bytes == 0


def test_a_full_inbox_is_an_error_for_a_wait_with_another_tag() -> None:
    with networks(3, limits=Limits(max_inbox_bytes=60_000)) as nets:
        for _ in range(3):
            psend(bytes(40_000), nets[0][1])
        psend("after", nets[0][1], tag=5)
        connection = nets[1][0]
        text = r"node 0 \(host0\) has sent 8\d{4} bytes .*\(tags 0; 0 bytes for collective calls\).* max_inbox_bytes"
        with pytest.raises(InboxFullError, match=text):
            precv(connection, tag=5, timeout=LIMIT)
        with pytest.raises(InboxFullError, match=text):
            select_sockets(connection, LIMIT, tag=5)
        assert select_sockets(nets[1], 0.05, tag=5) == []  # the other node could still send
        assert [len(precv(connection, timeout=LIMIT)) for _ in range(3)] == [40_000] * 3
        assert precv(connection, tag=5, timeout=LIMIT) == "after"


def test_too_large_a_value() -> None:
    with networks(2, limits=Limits(max_message_bytes=1000)) as nets:
        with pytest.raises(MessageTooLargeError, match="max_message_bytes = 1000"):
            psend(bytes(1001), nets[0])
        psend(bytes(500), nets[0])
        assert precv(nets[1][0], timeout=LIMIT) == bytes(500)


def test_no_value_in_time(nets: list[Network]) -> None:
    with pytest.raises(TimeoutError, match=r"a value from node 2 \(host2\)"):
        precv(nets[0][2], timeout=0.01)
    psend(1, nets[2][0])
    assert precv(nets[0][2], timeout=LIMIT) == 1


def test_a_lost_peer_is_named_and_the_others_remain_usable(nets: list[Network]) -> None:
    psend("last words", nets[1][0])
    nets[1].mesh.event_loop.close()
    assert precv(nets[0][1], timeout=LIMIT) == "last words"
    with pytest.raises(ConnectionLostError, match=r"node 1 \(host1\) is lost"):
        precv(nets[0][1], timeout=LIMIT)
    with pytest.raises(ConnectionLostError, match=r"node 1 \(host1\) is lost"):
        psend(1, nets[0])
    assert precv(nets[2][0], timeout=LIMIT) == 1


@pytest.mark.parametrize("tag", [-1, 2**32])
def test_tags_have_limits(nets: list[Network], tag: int) -> None:
    with pytest.raises(ConfigurationError, match="a tag must be a number from 0"):
        psend(1, nets[0], tag=tag)
    with pytest.raises(ConfigurationError, match="a tag must be a number from 0"):
        precv(nets[0][1], tag=tag)
    with pytest.raises(ConfigurationError, match="a tag must be a number from 0"):
        select_sockets(nets[0], 0, tag=tag)


def test_what_connections_are_not(nets: list[Network]) -> None:
    for wrong in ([], ["net"]):
        with pytest.raises(ConfigurationError, match="connections must be a network"):
            psend(1, wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="more than one network"):
        psend(1, [nets[0][1], nets[1][0]])
    for own in (nets[0][0], nets[0][:1]):
        with pytest.raises(ConfigurationError, match="node 0 is this node itself"):
            psend(1, own)
    with pytest.raises(ConfigurationError, match="from one node, but these are 2"):
        precv(nets[0])  # type: ignore[arg-type]


def test_select_gives_indices_of_what_was_asked(nets: list[Network]) -> None:
    psend(1, nets[2][0])
    assert select_sockets(nets[0], LIMIT) == [2]
    assert select_sockets(nets[0][1:], 0) == [1]
    assert select_sockets(nets[0][2], 0) == [0]
    assert select_sockets(nets[0], 0, tag=1) == []


def test_select_sees_complete_values_only(nets: list[Network]) -> None:
    with pytest.raises(TimeoutError):
        psend(np.zeros(2**21), nets[1][0], timeout=0.05)
    assert select_sockets(nets[0], 0.05) == []
    with at_the_same_time(lambda: psend(None, nets[1][0], timeout=LIMIT)):
        assert select_sockets(nets[0], LIMIT) == [1]


def test_select_takes_fractions(nets: list[Network]) -> None:
    begin = time.monotonic()
    assert select_sockets(nets[0], 0.25) == []
    assert 0.25 <= time.monotonic() - begin < 5


def test_select_with_a_negative_limit_waits_for_a_value(nets: list[Network]) -> None:
    def send_late() -> None:
        time.sleep(0.2)
        psend(1, nets[1][0], timeout=LIMIT)

    with at_the_same_time(send_late):
        assert select_sockets(nets[0], -1) == [1]


def test_select_names_a_lost_peer_once(nets: list[Network]) -> None:
    nets[1].mesh.event_loop.close()
    with pytest.raises(ConnectionLostError, match="node 1"):
        select_sockets(nets[0], LIMIT)
    assert select_sockets(nets[0], 0.01) == []
    nets[2].mesh.event_loop.close()
    for named in ("node 2", "node 1", "node 1"):
        with pytest.raises(ConnectionLostError, match=named):
            select_sockets(nets[0], LIMIT)


def test_names_of_many_nodes_are_cut() -> None:
    with networks(8) as nets, pytest.raises(TimeoutError, match=r"node 5 \(host5\), \.\.\.$"):
        psend(np.zeros(2**21), nets[0], timeout=0.05)


def interrupt_at_line(number: int) -> Callable[..., Any]:
    """Return a trace function that presses Ctrl-C before the given line is run."""
    left = number

    def trace(*_: object) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            signal.raise_signal(signal.SIGINT)
        return trace

    return trace


class Slow:
    """A value that takes long to decode."""


def test_ctrl_c_interrupts_the_making_of_a_value(
    nets: list[Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_makers", {})

    def make(_: object) -> Slow:
        signal.raise_signal(signal.SIGINT)
        made.append(True)
        return Slow()

    register_type(Slow, "test.Slow", lambda _: 0, make)
    psend(Slow(), nets[1][0])
    psend("next", nets[1][0])
    with pytest.raises(KeyboardInterrupt):
        precv(nets[0][1], timeout=LIMIT)
    assert made == []
    assert precv(nets[0][1], timeout=LIMIT) == "next"


def test_an_interrupt_leaves_a_value_taken_or_not(nets: list[Network]) -> None:
    """At any point: the rest of an interrupted value must not look like another value."""
    connection, before, interrupted = nets[1][0], sys.gettrace(), 0
    for number in range(1, 200):
        psend(number, nets[0][1])
        nets[1].mesh.event_loop.run_until(lambda: connection.has_value(0), math.inf, "the value")
        sys.settrace(interrupt_at_line(number))
        try:
            precv(connection, timeout=LIMIT)
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(before)
        if connection.has_value(0):
            assert precv(connection, timeout=LIMIT) == number
        assert (connection.inbox, connection.waiting_bytes) == ({}, 0)
    assert interrupted > 20
