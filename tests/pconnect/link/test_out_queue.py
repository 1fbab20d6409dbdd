"""What waits to be sent."""

from collections.abc import Iterator

import pytest

from pconnect.errors import ConnectionLostError
from pconnect.link.out_queue import OutQueue
from srp_tools.channel import Channel
from tests.support.channels import plain_pair


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
