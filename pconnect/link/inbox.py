"""What one peer has sent and nobody has taken yet. No I/O."""

from collections import deque

from pconnect.protocol.collective_inbox import CollectiveInbox, CollectiveMessage, Key
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, Unfinished

_VALUE = Kind.VALUE  # looked up once: members of an enumeration take long to find
_VALUE_BYTES = 2**8  # what a value takes in memory beside its own size, about


class Inbox:
    """The values of one peer, by tag, and its messages for collective calls.

    Parameters
    ----------
    node
        Number of the peer.
    max_bytes
        With so much in it, the inbox is full.

    Attributes
    ----------
    values
        By tag, the oldest first, each with its size.
    collectives
        What belongs to collective calls.
    received
        How many messages have come that the sender counts, see `pconnect.protocol.wait_states.UNCOUNTED_KINDS`.
    is_full
        Whether no more should be taken in. The caller stops reading, so that the sender has to wait.
    """

    __slots__ = ("_max_bytes", "_values_bytes", "collectives", "is_full", "received", "values")

    def __init__(self, node: int, max_bytes: float) -> None:
        self.values: dict[int, deque[tuple[object, int]]] = {}
        self.collectives = CollectiveInbox(node)
        self.received = 0
        self.is_full = False
        self._values_bytes = 0
        self._max_bytes = max_bytes

    @property
    def waiting_bytes(self) -> int:
        """How much is here."""
        return self._values_bytes + self.collectives.size

    def add(self, message: Message) -> bool:
        """Keep a message that belongs here, or raise as `CollectiveInbox.add`; return whether `is_full` has changed."""
        self.received += 1
        if message.kind is _VALUE:
            size = message.size + _VALUE_BYTES
            queue = self.values.get(message.tag)
            if queue is None:
                queue = self.values[message.tag] = deque()
            queue.append((message.value, size))
            self._values_bytes += size
        else:
            self.collectives.add(message)
        # `_look`, without the calls: this is done for every message.
        if self.is_full or self._values_bytes + self.collectives.size < self._max_bytes:
            return False
        self.is_full = True
        return True

    def set_limit(self, max_bytes: float) -> bool:
        """Set with how much it is full; return whether `is_full` has changed."""
        self._max_bytes = max_bytes
        return self._look()

    def take_value(self, tag: int) -> tuple[object, bool]:
        """Remove the oldest value with a tag; return it, and whether `is_full` has changed."""
        queue = self.values[tag]
        value, size = queue.popleft()
        if not queue:
            del self.values[tag]
        self._values_bytes -= size
        return value, self.is_full and self._look()

    def take_collective(self, key: Key) -> tuple[CollectiveMessage, bool]:
        """Remove the oldest message of a collective call; return it, and whether `is_full` has changed."""
        return self.collectives.take(key), self._look()

    def begin_epoch(self, epoch: int) -> bool:
        """Drop what belongs to collective calls of older epochs; return whether `is_full` has changed."""
        self.collectives.begin(epoch)
        return self._look()

    def _look(self) -> bool:
        before, self.is_full = self.is_full, self.waiting_bytes >= self._max_bytes
        return before != self.is_full


def finished(value: object) -> object:
    """Return the value that has arrived.

    Raises
    ------
    UnreadableValueError, ProtocolError
        It cannot be made here, or is malformed.
    """
    return value.finish() if type(value) is Unfinished else value
