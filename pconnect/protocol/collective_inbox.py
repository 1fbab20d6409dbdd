"""The collective messages of one peer that no call has taken yet. Sans-I/O.

Collective calls have two kinds of messages, which `precv` never returns:

- ``COLLECTIVE`` is one message of one call. A *key* identifies the call: the group of its members, the epoch, and the
  number of the call among those of this group in this epoch. Members that are ahead may send messages for calls that
  have not begun on this node, so messages wait here by key, in order of arrival.
- ``LEFT`` announces that the sender takes part in no more calls of an epoch, and the reason.

An *epoch* begins with a command of the client after something went wrong. Messages of older epochs are dropped, even if
they arrive late. So no message of a failed call can ever be mistaken for a part of a later one.
"""

import enum
import functools
import hashlib
from collections import deque
from typing import Any, NamedTuple

from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message

_GROUP_BYTES = 16
COLLECTIVE_KINDS = frozenset({Kind.COLLECTIVE, Kind.LEFT})


class Step(enum.IntEnum):
    """The role of a message within its call."""

    CALLED = 0  #: "I am in this call", to the parent; without it, a mismatch would be noticed late
    DATA = 1  #: a value
    COMPLETE = 2  #: "I have my result, and so have the members behind me", to the parent
    ALL_COMPLETE = 3  #: "All members have their results", from the first member to the others


_STEPS = {step.value: step for step in Step}


class Key(NamedTuple):
    """Identifies the call to which a message belongs."""

    group: bytes
    epoch: int
    number: int


@functools.lru_cache(maxsize=64)  # a program makes many calls in a few groups
def group_of(nodes: tuple[int, ...]) -> bytes:
    """Return the identifier of a group in messages. It has the same length for groups of any size.

    Examples
    --------
    >>> len(group_of((0, 1, 2))), group_of((0, 1)) == group_of((1, 0))
    (16, False)
    """
    return hashlib.blake2b(
        b"".join(node.to_bytes(4, "big") for node in nodes), digest_size=_GROUP_BYTES
    ).digest()


class CollectiveMessage(NamedTuple):
    """One message of a call. `call` has the name and the options, which must be the same on all members."""

    call: str
    step: Step
    value: Any
    size: int


class Notice(NamedTuple):
    """Why a node has left the collective calls: the error, and the node where it occurred."""

    node: int
    text: str


class CollectiveInbox:
    """The collective messages and notices of one peer."""

    def __init__(self) -> None:
        self.size = 0  #: size of the stored messages in bytes
        self.latest = 0  #: the newest epoch of any message
        self._epoch = 0
        self._queues: dict[Key, deque[CollectiveMessage]] = {}
        self._notices: dict[int, Notice] = {}

    def add(self, message: Message) -> None:
        """Store the contents of a message. Raises `ProtocolError` if it is malformed, and then stores nothing."""
        match message.kind, message.value:
            case Kind.COLLECTIVE, [bytes() as group, int() as epoch, str() as call, int() as step, value] if (
                len(group) == _GROUP_BYTES and step in _STEPS
            ):
                if epoch >= self._epoch:
                    self.latest = max(self.latest, epoch)
                    key = Key(group, epoch, message.tag)
                    self._queues.setdefault(key, deque()).append(
                        CollectiveMessage(call, _STEPS[step], value, message.size)
                    )
                    self.size += message.size
            case Kind.LEFT, [int() as epoch, int() as node, str() as text]:
                if epoch >= self._epoch:
                    self.latest = max(self.latest, epoch)
                    self._notices.setdefault(epoch, Notice(node, text))
            case _:
                raise ProtocolError(f"a malformed {message.kind.name}")

    def begin(self, epoch: int) -> None:
        """Drop all messages of older epochs, now and when they arrive."""
        self._epoch = epoch
        self._queues = {key: queue for key, queue in self._queues.items() if key.epoch >= epoch}
        self._notices = {since: notice for since, notice in self._notices.items() if since >= epoch}
        self.size = sum(part.size for queue in self._queues.values() for part in queue)

    def first(self, key: Key) -> CollectiveMessage | None:
        """Return the oldest message of a call without removing it."""
        queue = self._queues.get(key)
        return queue[0] if queue else None

    def take(self, key: Key) -> CollectiveMessage:
        """Remove and return the oldest message of a call."""
        queue = self._queues[key]
        part = queue.popleft()
        self.size -= part.size
        if not queue:
            del self._queues[key]
        return part

    def notice(self, epoch: int) -> Notice | None:
        """Return why the peer left the collective calls of an epoch, or ``None`` if it did not."""
        return self._notices.get(epoch)

    def is_ahead(self, group: bytes, epoch: int) -> bool:
        """Whether the peer is in a newer epoch, as far as this group can tell."""
        return any(since > epoch for since in self._notices) or any(
            key.epoch > epoch and key.group == group for key in self._queues
        )
