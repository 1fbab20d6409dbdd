from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.protocol.collective_inbox import CollectiveInbox, CollectiveMessage, Key, Notice, Step, group_of
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message

NODES = (0, 1, 2)
GROUP = group_of(NODES)


@pytest.fixture
def parts() -> CollectiveInbox:
    return CollectiveInbox()


def part(
    value: object, *, nodes: tuple[int, ...] = NODES, epoch: int = 0, number: int = 0, size: int = 0
) -> Message:
    return Message(Kind.COLLECTIVE, number, [group_of(nodes), epoch, "barrier()", 1, value], size)


def left(epoch: int, text: str = "why") -> Message:
    return Message(Kind.LEFT, 0, [epoch, 2, text])


def test_parts_wait_by_call_in_the_order_of_arrival(parts: CollectiveInbox) -> None:
    for message in (part("a"), part("b", number=1), part("c"), part("d", nodes=(2, 1))):
        parts.add(message)
    key = Key(GROUP, 0, 0)
    assert parts.first(key) == CollectiveMessage("barrier()", Step.DATA, "a", 0)
    assert [parts.take(key).value, parts.take(key).value] == ["a", "c"]
    assert parts.first(key) is None
    assert parts.take(Key(GROUP, 0, 1)).value == "b"
    assert parts.take(Key(group_of((2, 1)), 0, 0)).value == "d"


def test_the_first_notice_of_an_epoch_counts(parts: CollectiveInbox) -> None:
    parts.add(left(0, "first"))
    parts.add(left(0, "second"))
    assert parts.notice(0) == Notice(2, "first")
    assert parts.notice(1) is None


def test_a_new_epoch_drops_what_is_old_also_if_it_comes_late(parts: CollectiveInbox) -> None:
    parts.add(part("old"))
    parts.add(left(0))
    parts.add(part("new", epoch=5))
    parts.begin(5)
    parts.add(part("late", epoch=4))
    parts.add(left(4))
    assert parts.first(Key(GROUP, 0, 0)) is parts.first(Key(GROUP, 4, 0)) is None
    assert parts.notice(0) is parts.notice(4) is None
    assert parts.take(Key(GROUP, 5, 0)).value == "new"


def test_how_much_waits(parts: CollectiveInbox) -> None:
    for message in (part("a", size=10), part("b", size=20), part("c", epoch=5, size=40), left(5)):
        parts.add(message)
    assert parts.size == 70
    parts.take(Key(GROUP, 0, 0))
    assert parts.size == 60
    parts.begin(5)
    assert parts.size == 40
    parts.add(part("late", epoch=4, size=80))
    parts.take(Key(GROUP, 5, 0))
    assert parts.size == 0


def test_the_newest_epoch_of_which_something_came(parts: CollectiveInbox) -> None:
    assert parts.latest == 0
    parts.add(part("new", epoch=3))
    parts.add(part("old", epoch=2))
    assert parts.latest == 3
    parts.add(left(4))
    assert parts.latest == 4


def test_a_peer_that_is_ahead(parts: CollectiveInbox) -> None:
    parts.add(part("for others", nodes=(1, 2), epoch=3))
    assert not parts.is_ahead(GROUP, 0)
    assert parts.is_ahead(group_of((1, 2)), 0)
    assert not parts.is_ahead(group_of((1, 2)), 3)
    parts.add(left(4))
    assert parts.is_ahead(GROUP, 3)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((Kind.COLLECTIVE, value) for value in (None, [], "text", [GROUP, 0, "call", 1], {0: 1})),
        (Kind.COLLECTIVE, [[0, 1, 2], 0, "call", 1, None]),
        (Kind.COLLECTIVE, [GROUP[1:], 0, "call", 1, None]),
        (Kind.COLLECTIVE, [GROUP, 0.5, "call", 1, None]),
        (Kind.COLLECTIVE, [GROUP, 0, b"call", 1, None]),
        (Kind.COLLECTIVE, [GROUP, 0, "call", 4, None]),
        *((Kind.LEFT, value) for value in (None, [0, 1], [0, "1", "text"], ["0", 1, "text"], [0, 1, None])),
    ],
)
def test_what_is_malformed_is_refused(parts: CollectiveInbox, kind: Kind, value: Any) -> None:
    with pytest.raises(ProtocolError, match=f"malformed {kind.name}"):
        parts.add(Message(kind, 0, value))
