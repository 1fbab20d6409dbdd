"""The queues of a connection: messages from a peer, and their limit."""

from collections.abc import Iterator

import pytest

from pconnect.errors import ConnectionLostError, ProtocolError
from pconnect.link.queues import Inbox, OutQueue, finished
from pconnect.protocol.collective_inbox import Key, group_of
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from srp_tools.channel import Channel
from tests.support.channels import plain_pair

BODY = [group_of((0, 1)), 0, "barrier", 0, None]


def value(content: object, tag: int = 0, size: int = 100) -> Message:
    return Message(Kind.VALUE, tag, content, size)


def test_values_come_in_order_by_tag() -> None:
    inbox = Inbox(2**20)
    for message in (value("a"), value("b", tag=7), value("c")):
        assert not inbox.add(message)
    assert (sorted(inbox.values), inbox.received) == ([0, 7], 3)
    assert [finished(inbox.take_value(tag)[0]) for tag in (0, 7, 0)] == ["a", "b", "c"]
    assert (inbox.values, inbox.waiting_bytes) == ({}, 0)


def test_it_says_when_it_becomes_full_and_when_there_is_room_again() -> None:
    inbox = Inbox(1000)
    assert [inbox.add(value(n)) for n in range(4)] == [False, False, True, False]
    assert inbox.is_full
    assert [inbox.take_value(0) for _ in range(4)] == [(0, False), (1, True), (2, False), (3, False)]
    assert not inbox.is_full


def test_collective_messages_count_as_well() -> None:
    inbox = Inbox(100)
    assert inbox.add(Message(Kind.COLLECTIVE, 5, BODY, 100))
    message, has_changed = inbox.take_collective(Key(group_of((0, 1)), 0, 5))
    assert (message.call, has_changed, inbox.is_full, inbox.received) == ("barrier", True, False, 1)


def test_a_new_epoch_makes_room() -> None:
    inbox = Inbox(100)
    inbox.add(Message(Kind.COLLECTIVE, 5, BODY, 100))
    assert inbox.begin_epoch(1) and not inbox.is_full
    assert not inbox.add(Message(Kind.COLLECTIVE, 5, BODY, 100))  # it arrives late and is dropped


def test_a_malformed_message_is_not_kept() -> None:
    inbox = Inbox(100)
    with pytest.raises(ProtocolError, match="a malformed COLLECTIVE"):
        inbox.add(Message(Kind.COLLECTIVE, 5, None, 100))
    assert inbox.waiting_bytes == 0


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    left, right = plain_pair()
    yield left, right
    left.close()
    right.close()


def received(channel: Channel) -> bytes:
    buffer = bytearray(2**20)
    return bytes(buffer[: channel.receive_into(memoryview(buffer)) or 0])


def test_messages_go_out_in_order_and_are_counted(pair: tuple[Channel, Channel]) -> None:
    queue = OutQueue()
    queue.put([b"ab", memoryview(b"cd")], is_counted=True)
    queue.put([b"e"], is_counted=False)
    assert queue.buffers and (queue.unsent_bytes, queue.counted) == (5, 1)
    assert not queue.send(pair[0])
    assert not queue.buffers and (queue.sent_bytes, queue.unsent_bytes) == (5, 0)
    assert received(pair[1]) == b"abcde"


def test_it_says_when_the_channel_takes_all_again(pair: tuple[Channel, Channel]) -> None:
    queue, data = OutQueue(), bytes(2**23)
    queue.put([data], is_counted=True)
    sent, told = 0, []
    while queue.buffers:
        told.append(queue.send(pair[0]))
        sent += len(received(pair[1]))
    assert told[-1] and not any(told[:-1])
    assert not queue.send(pair[0])


def test_a_copy_no_longer_depends_on_the_memory(pair: tuple[Channel, Channel]) -> None:
    queue, memory = OutQueue(), bytearray(b"before")
    queue.put([memoryview(memory)], is_counted=True)
    queue.copy()
    memory[:] = b"after!"
    queue.send(pair[0])
    assert received(pair[1]) == b"before"


def test_what_is_dropped_counts_no_more(pair: tuple[Channel, Channel]) -> None:
    queue = OutQueue()
    queue.put([b"abc"], is_counted=True)
    queue.clear()
    assert not queue.buffers and queue.unsent_bytes == 0
    assert not queue.send(pair[0])


def test_a_peer_that_is_gone_is_an_error(pair: tuple[Channel, Channel]) -> None:
    pair[1].close()
    queue = OutQueue()
    queue.put([b"abc"], is_counted=True)
    with pytest.raises(ConnectionLostError):
        while True:
            queue.send(pair[0])
            queue.put([b"abc"], is_counted=True)
