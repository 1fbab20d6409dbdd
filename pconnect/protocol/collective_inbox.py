"""The collective messages that one peer has sent and no call has taken yet. No I/O.

Two kinds of message belong to collectives, and neither is ever seen by `precv`:

- ``COLLECTIVE`` is one message of one call. A *key* names the call: the group of the nodes that take part, the epoch,
  and the number of the call among those of this group in this epoch. Members that are ahead may send for calls that
  have not begun here; so messages wait here by key, in order of arrival.
- ``LEFT`` says that the sender takes part in no more calls of an epoch, and why.

An *epoch* begins with a command of the client, after something went wrong. What belongs to an older one is dropped,
also when it arrives late: so nothing of a failed call is ever taken for a part of a later one.
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
    """What a part is within its call."""

    CALLED = 0  #: "I am in this call", towards the first member; nothing else would tell it early
    DATA = 1  #: a value
    COMPLETE = 2  #: "I have my result, and so have those behind me", towards the first member
    ALL_COMPLETE = 3  #: "so have all", from the first member on


_STEPS = {step.value: step for step in Step}


class Key(NamedTuple):
    """Which call a part belongs to."""

    group: bytes
    epoch: int
    number: int


@functools.lru_cache(maxsize=64)  # a program makes many calls in few groups
def group_of(nodes: tuple[int, ...]) -> bytes:
    """Return the name of a group in messages, which is as short for a thousand nodes as for two.

    Examples
    --------
    >>> len(group_of((0, 1, 2))), group_of((0, 1)) == group_of((1, 0))
    (16, False)
    """
    return hashlib.blake2b(
        b"".join(node.to_bytes(4, "big") for node in nodes), digest_size=_GROUP_BYTES
    ).digest()


class CollectiveMessage(NamedTuple):
    """One message of a call; `call` tells name and options, which have to be the same at all members."""

    call: str
    step: Step
    value: Any
    size: int


class Notice(NamedTuple):
    """Why somebody takes part in no more calls: what happened, and at which node it began."""

    node: int
    text: str


class CollectiveInbox:
    """The parts and notices of one peer."""

    def __init__(self) -> None:
        self.size = 0  #: how much waits here, in bytes
        self.latest = 0  #: the newest epoch of which something has come
        self._epoch = 0
        self._queues: dict[Key, deque[CollectiveMessage]] = {}
        self._notices: dict[int, Notice] = {}

    def add(self, message: Message) -> None:
        """Keep what a message says. Raises `ProtocolError` if it is malformed. Nothing was kept."""
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
        """Drop what belongs to older epochs, now and when it comes late."""
        self._epoch = epoch
        self._queues = {key: queue for key, queue in self._queues.items() if key.epoch >= epoch}
        self._notices = {since: notice for since, notice in self._notices.items() if since >= epoch}
        self.size = sum(part.size for queue in self._queues.values() for part in queue)

    def first(self, key: Key) -> CollectiveMessage | None:
        """Return the oldest part of a call, which stays here."""
        queue = self._queues.get(key)
        return queue[0] if queue else None

    def take(self, key: Key) -> CollectiveMessage:
        """Remove the oldest part of a call and return it."""
        queue = self._queues[key]
        part = queue.popleft()
        self.size -= part.size
        if not queue:
            del self._queues[key]
        return part

    def notice(self, epoch: int) -> Notice | None:
        """Return why the peer left the collectives of an epoch, if it did."""
        return self._notices.get(epoch)

    def is_ahead(self, group: bytes, epoch: int) -> bool:
        """Whether the peer has gone on to a newer epoch, as far as this group can tell."""
        return any(since > epoch for since in self._notices) or any(
            key.epoch > epoch and key.group == group for key in self._queues
        )
