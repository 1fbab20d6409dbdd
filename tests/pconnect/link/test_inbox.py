"""What has arrived from a peer, and when that is too much."""

import pytest

from pconnect.errors import ProtocolError
from pconnect.link.inbox import Inbox, finished
from pconnect.protocol.collective_inbox import Key
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message

BODY = [[0, 1], 0, "barrier", 0, None]


def value(content: object, tag: int = 0, size: int = 100) -> Message:
    return Message(Kind.VALUE, tag, content, size)


def test_values_come_in_order_by_tag() -> None:
    inbox = Inbox(1, 2**20)
    for message in (value("a"), value("b", tag=7), value("c")):
        assert not inbox.add(message)
    assert (sorted(inbox.values), inbox.received) == ([0, 7], 3)
    assert [finished(inbox.take_value(tag)[0]) for tag in (0, 7, 0)] == ["a", "b", "c"]
    assert (inbox.values, inbox.waiting_bytes) == ({}, 0)


def test_it_says_when_it_becomes_full_and_when_there_is_room_again() -> None:
    inbox = Inbox(1, 1000)
    assert [inbox.add(value(n)) for n in range(4)] == [False, False, True, False]
    assert inbox.is_full
    assert [inbox.take_value(0) for _ in range(4)] == [(0, False), (1, True), (2, False), (3, False)]
    assert not inbox.is_full


def test_collective_messages_count_as_well() -> None:
    inbox = Inbox(1, 100)
    assert inbox.add(Message(Kind.COLLECTIVE, 5, BODY, 100))
    message, has_changed = inbox.take_collective(Key((0, 1), 0, 5))
    assert (message.call, has_changed, inbox.is_full, inbox.received) == ("barrier", True, False, 1)


def test_a_new_epoch_makes_room() -> None:
    inbox = Inbox(1, 100)
    inbox.add(Message(Kind.COLLECTIVE, 5, BODY, 100))
    assert inbox.begin_epoch(1) and not inbox.is_full
    assert not inbox.add(Message(Kind.COLLECTIVE, 5, BODY, 100))  # it comes late, and is dropped


def test_a_malformed_message_is_not_kept() -> None:
    inbox = Inbox(1, 100)
    with pytest.raises(ProtocolError, match="a malformed COLLECTIVE"):
        inbox.add(Message(Kind.COLLECTIVE, 5, None, 100))
    assert inbox.waiting_bytes == 0
