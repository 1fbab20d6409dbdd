import socket
from collections.abc import Iterator

import numpy as np
import pytest

from pconnect.errors import ConnectionLostError, ParallelError, ProtocolError, UnavailableTypeError
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import Header
from pconnect.protocol.kinds import Kind, Role
from srp_tools.channel import Channel
from tests.support.hostile import head_of, mark
from tests.support.links import channels, connection_pair

Pair = tuple[Connection, Connection]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = connection_pair()
    yield left, right
    left.close()
    right.close()


def pass_on(left: Connection, right: Connection) -> None:
    """Deliver all queued data."""
    while left.wants_to_write:
        left.flush()
        right.fill()
    right.fill()


def test_values_arrive_in_order_by_tag(pair: Pair) -> None:
    left, right = pair
    for tag, value in ((0, "a"), (7, "b"), (0, "c")):
        left.post(Kind.VALUE, tag, value)
    pass_on(left, right)
    assert right.values_received == left.values_sent == 3
    assert right.has_value(7)
    assert [right.take_value(tag) for tag in (0, 7, 0)] == ["a", "b", "c"]
    assert not right.has_value(0)
    assert right.inbox == {}


def test_a_value_that_cannot_be_made_here_is_an_error_once(pair: Pair) -> None:
    left, right = pair
    head = head_of(mark(64, "a name that is not registered", 1))
    left.post_encoded([Header(Kind.VALUE, 0, len(head), 0).pack() + head])
    left.post(Kind.VALUE, 0, "next")
    pass_on(left, right)
    assert right.has_value(0)
    with pytest.raises(UnavailableTypeError, match="a name that is not registered"):
        right.take_value(0)
    assert right.take_value(0) == "next"
    assert right.error is None and right.inbox == {}


def test_an_array_is_queued_without_a_copy_until_keep_unsent(pair: Pair) -> None:
    left, right = pair
    array = np.ones(2**20)
    left.post(Kind.VALUE, 0, array)
    left.flush()
    assert 0 < left.unsent_bytes < array.nbytes
    size = left.sent_bytes + left.unsent_bytes
    assert array.nbytes < size < array.nbytes + 100
    left.keep_unsent()
    array[:] = 2
    pass_on(left, right)
    assert (left.sent_bytes, left.unsent_bytes) == (size, 0)
    received = right.take_value(0)
    assert isinstance(received, np.ndarray)
    assert (received == 1).all()


def test_the_end_of_the_peer_loses_the_connection_but_not_its_values(pair: Pair) -> None:
    left, right = pair
    lost: list[ParallelError] = []
    right.on_lost = lost.append
    left.post(Kind.VALUE, 0, 1)
    left.flush()
    left.close()
    assert not right.fill()
    right.fill() if right.error is None else None
    assert isinstance(right.error, ConnectionLostError)
    assert lost == [right.error]
    assert right.take_value(0) == 1
    assert "closed: the peer closed the connection" in repr(right)


def test_writing_to_a_peer_that_is_gone(pair: Pair) -> None:
    left, right = pair
    right.close()
    left.post(Kind.VALUE, 0, 1)
    left.flush()
    assert isinstance(left.error, ConnectionLostError)
    assert not left.wants_to_write
    left.post(Kind.VALUE, 0, 2)
    assert left.unsent_bytes == 0
    first = left.error
    left.lose(ConnectionLostError("again"))
    assert left.error is first


def test_what_a_node_may_not_say_ends_the_connection(pair: Pair) -> None:
    left, right = pair
    left.post(Kind.COMMAND, 1, "import os")
    pass_on(left, right)
    assert isinstance(right.error, ProtocolError)
    assert right.fileno() == -1


def test_this_node() -> None:
    own = Connection(0, "client", None)
    assert own.is_own and not own.encrypted
    assert own.fileno() == -1
    own.close()
    assert own.error is None
    assert repr(own) == "<connection to node 0 (client), this node>"


def test_a_plain_link_says_so(pair: Pair) -> None:
    assert not pair[0].encrypted
    assert repr(pair[0]) == "<connection to node 1 (hostB), open>"
    pair[0].close()
    assert "it was closed here" in repr(pair[0])


def test_a_new_link_begins_with_nothing_of_the_old_one(pair: Pair) -> None:
    left, right = pair
    left.post(Kind.VALUE, 0, "old")
    left.post(Kind.COLLECTIVE, 0, [bytes(16), 0, "call()", 1, "old"])
    pass_on(left, right)
    right.post(Kind.VALUE, 0, "unsent")
    before = right.generation
    right.reset()
    right.check_generation(right.generation)
    with pytest.raises(ConnectionLostError, match=r"node 0 \(hostA\) was restarted meanwhile"):
        right.check_generation(before)
    assert right.is_awaited and not right.is_own and right.error is None
    assert "connecting" in repr(right)
    assert (right.inbox, right.waiting_bytes, right.values_received, right.values_sent) == ({}, 0, 0, 0)
    assert not right.has_unsent
    right.post(Kind.VALUE, 0, "queued")
    right.flush()
    assert right.has_unsent and not right.wants_to_write  # nobody must wait for that
    new_left, new_right = connection_pair()
    channel = new_right._channel
    assert channel is not None
    right.open(channel)
    pass_on(right, new_left)
    assert new_left.take_value(0) == "queued"
    new_left.close()


def test_a_callback_that_resets_the_link_gets_nothing_more_of_the_old_one(pair: Pair) -> None:
    """A command's callback may restart the engine whose values are being read."""
    left, right = pair
    far_end, new_channel = channels()
    taken: list[object] = []

    def restart(_tag: int, value: object) -> None:
        taken.append(value)
        right.reset()
        right.open(new_channel)

    right.on_library_value = restart
    for value in ("first", "second"):
        left.post(Kind.VALUE, LIBRARY_TAGS, value)
    left.post(Kind.VALUE, 0, "third")
    left.flush()
    assert not right.fill()
    assert taken == ["first"]
    assert right.error is None and right.fileno() == new_channel.fileno()
    assert (right.inbox, right.values_received) == ({}, 0)
    far_end.close()


def test_a_sender_of_much_data_waits_for_the_link() -> None:
    awaited = Connection(1, "hostB", None, awaited=True)
    awaited.post(Kind.VALUE, 0, bytes(2**19))
    assert not awaited.wants_to_write
    awaited.post(Kind.VALUE, 0, bytes(2**20))
    assert awaited.wants_to_write
    awaited.lose(ConnectionLostError("nobody came"))
    assert not awaited.wants_to_write and not awaited.has_unsent
    assert "closed: nobody came" in repr(awaited)


# Workers.


@pytest.fixture
def worker_pair() -> Iterator[Pair]:
    """Return the client's and the worker's end of a connection."""
    left, right = channels()
    pair = Connection(1, "hostB", left, role=Role.EMPLOYER), Connection(0, "client", right, role=Role.WORKER)
    yield pair
    for connection in pair:
        connection.close()


def test_what_a_worker_has_sent_counts_although_nothing_can_be_sent_to_it(worker_pair: Pair) -> None:
    employer, worker = worker_pair
    taken: list[int] = []
    employer.on_message = lambda message: taken.append(message.tag)
    for number in range(3):
        worker.post(Kind.RESULT, number, [0, None, 0.0, 0.0])
    worker.flush()
    worker.close()
    employer.post(Kind.DROP, 7)
    employer.flush()
    assert employer.error is None and not employer.has_unsent and employer.unsent_bytes == 0
    while employer.fill():
        pass
    assert taken == [0, 1, 2]
    employer.fill()
    assert isinstance(employer.error, ConnectionLostError)


def test_draining_reads_all_however_little_comes_at_once(
    worker_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL returns one record at a time and does not know about the next one."""
    employer, worker = worker_pair
    taken: list[int] = []
    employer.on_message = lambda message: taken.append(message.tag)
    worker.post(Kind.RESULT, 0, [0, None, 0.0, 0.0])
    worker.flush()
    size = worker.sent_bytes
    for number in range(1, 5):
        worker.post(Kind.RESULT, number, [0, None, 0.0, 0.0])
    worker.flush()
    worker.close()
    receive = Channel.receive_into
    monkeypatch.setattr(Channel, "receive_into", lambda self, buffer: receive(self, buffer[:size]))
    event_loop = EventLoop()
    event_loop.add(employer)
    event_loop.drain(employer)
    assert taken == [0, 1, 2, 3, 4]
    assert employer.error is not None
    event_loop.close()


def test_bytes_are_counted_at_both_ends_also_over_a_reset(pair: Pair) -> None:
    left, right = pair
    left.post(Kind.VALUE, 0, b"x" * 1000)
    pass_on(left, right)
    assert right.received_bytes == left.sent_bytes > 1000
    right.reset()
    assert right.received_bytes == left.sent_bytes


# A client's command channel.


def test_a_client_reads_why_its_session_has_ended_although_it_can_send_nothing_any_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends = socket.create_connection(listener.getsockname()), listener.accept()[0]
    for end in ends:
        end.setblocking(False)
    client = Connection(1, "hostB", Channel(ends[0]), role=Role.CLIENT)
    supervisor = Connection(1, "client", Channel(ends[1]), role=Role.SUPERVISOR)
    heard: list[object] = []
    client.on_message = lambda message: heard.append(message.value)
    client.post(Kind.TAKEN)
    client.flush()  # the supervisor does not read it, so its close resets the connection
    supervisor.post(Kind.STOPPING, 0, "it has printed too much")
    supervisor.flush()
    supervisor.close()
    client.post(Kind.TAKEN)
    client.flush()
    assert client.error is None
    while client.fill():
        pass
    assert heard == ["it has printed too much"]
    client.fill()
    assert "the connection was reset" in str(client.error)
    client.close()
