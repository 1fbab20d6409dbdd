"""The two queues of a connection: received messages, and bytes to send."""

import math
import time
from collections import deque
from collections.abc import Sequence

from pconnect.errors import ConnectionLostError
from pconnect.protocol.collective_inbox import CollectiveInbox, CollectiveMessage, Key
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, Unfinished
from pconnect.values.item_limit import Look
from srp_tools.channel import Channel
from srp_tools.steps import describe_seconds

_VALUE = Kind.VALUE  # looked up once, because looking up enumeration members is slow
_VALUE_BYTES = 2**8  # approximate memory of a value in addition to its own size


class Inbox:
    """The values from one peer, by tag, and its messages for collective calls.

    `max_bytes`: the inbox is full when it contains this many bytes.
    """

    __slots__ = (
        "_max_bytes", "_values_bytes", "collectives", "is_full", "received", "received_bytes", "values",
    )  # fmt: skip

    def __init__(self, max_bytes: float) -> None:
        #: By tag, oldest first, each with its size.
        self.values: dict[int, deque[tuple[object, int]]] = {}
        self.collectives = CollectiveInbox()  #: the messages for collective calls
        #: Number of messages that the sender counts, see `pconnect.protocol.wait_states.UNCOUNTED_KINDS`.
        self.received = 0
        self.received_bytes = 0  #: number of bytes read, of any kind
        #: Whether the inbox is full. The caller then stops reading, so that the sender must wait.
        self.is_full = False
        self._values_bytes = 0
        self._max_bytes = max_bytes

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes in the inbox."""
        return self._values_bytes + self.collectives.size

    def add(self, message: Message) -> bool:
        """Store a message. Raises the errors of `CollectiveInbox.add`. Return whether `is_full` has changed."""
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
        # `_look` without the calls, because this runs for every message.
        if self.is_full or self._values_bytes + self.collectives.size < self._max_bytes:
            return False
        self.is_full = True
        return True

    def set_limit(self, max_bytes: float) -> bool:
        """Set the size at which the inbox is full. Return whether `is_full` has changed."""
        self._max_bytes = max_bytes
        return self._look()

    def take_value(self, tag: int) -> tuple[object, bool]:
        """Remove the oldest value with a tag. Return it, and whether `is_full` has changed."""
        queue = self.values[tag]
        value, size = queue.popleft()
        if not queue:
            del self.values[tag]
        self._values_bytes -= size
        return value, self.is_full and self._look()

    def put_back(self, tag: int, value: Unfinished) -> bool:
        """Return a value that was just taken to the front of its queue. Return whether `is_full` has changed."""
        size = value.size + _VALUE_BYTES
        self.values.setdefault(tag, deque()).appendleft((value, size))
        self._values_bytes += size
        return self._look()

    def take_collective(self, key: Key) -> tuple[CollectiveMessage, bool]:
        """Remove the oldest message of a collective call. Return it, and whether `is_full` has changed."""
        return self.collectives.take(key), self._look()

    def begin_epoch(self, epoch: int) -> bool:
        """Drop the messages of collective calls of older epochs. Return whether `is_full` has changed."""
        self.collectives.begin(epoch)
        return self._look()

    def _look(self) -> bool:
        before, self.is_full = self.is_full, self.waiting_bytes >= self._max_bytes
        return before != self.is_full


def finished(value: object, deadline: float = math.inf) -> object:
    """Decode a value that has arrived, before `deadline` passes.

    Raises `UnreadableValueError` if it cannot be decoded here, `ProtocolError` if it is malformed, and `TimeoutError`
    if the deadline has passed. After a timeout or Ctrl-C, you may call this again.
    """
    return value.finish(look_until(deadline)) if type(value) is Unfinished else value


def look_until(deadline: float, began: float | None = None) -> Look:
    """Return a function that raises `TimeoutError` when a deadline has passed. Long computations call it repeatedly."""
    start = time.monotonic() if began is None else began

    def look() -> None:
        if time.monotonic() > deadline:
            limit = describe_seconds(deadline - start)
            raise TimeoutError(f"timed out after {limit} decoding a large value that has arrived")

    return look


# Small messages are sent together, because each write costs a system call and a TLS record of up to 16 KiB.
_JOINED_BYTES = 2**14


class OutQueue:
    """The buffers of encoded messages, which are sent from their own memory."""

    __slots__ = ("_is_blocked", "_queued_bytes", "buffers", "counted", "failure", "sent_bytes")

    def __init__(self) -> None:
        self.buffers: deque[memoryview] = deque()  #: oldest first
        self._queued_bytes = 0
        self._is_blocked = False  # the system accepted less than was queued
        self.sent_bytes = 0  #: number of bytes that the system has accepted so far
        #: Number of queued messages that the receiver counts, see `pconnect.protocol.wait_states.UNCOUNTED_KINDS`.
        self.counted = 0
        self.failure: ConnectionLostError | None = None  #: why nothing more can be sent

    @property
    def unsent_bytes(self) -> int:
        """Number of queued bytes."""
        return self._queued_bytes - self.sent_bytes

    def put(self, buffers: Sequence[bytes | memoryview], *, is_counted: bool) -> None:
        """Queue the buffers of a message. They are not copied."""
        self.counted += is_counted
        self.buffers.extend(map(memoryview, buffers))
        self._queued_bytes += sum(map(len, buffers))

    def send(self, channel: Channel) -> bool:
        """Write as much as possible without blocking. Return whether a blocked queue has become empty.

        Raises `ConnectionLostError` if the peer is gone.
        """
        buffers = self.buffers
        while buffers:
            if len(buffers) > 1 and len(buffers[0]) + len(buffers[1]) <= _JOINED_BYTES:
                self._join()
            sent = channel.send(buffers[0])
            self.sent_bytes += sent
            if sent < len(buffers[0]):
                buffers[0] = buffers[0][sent:]
                self._is_blocked = True
                return False
            buffers.popleft()
        before, self._is_blocked = self._is_blocked, False
        return before

    def copy(self) -> None:
        """Copy queued data, so that its memory may change from now on."""
        self.buffers = deque(memoryview(bytes(view)) for view in self.buffers)

    def clear(self) -> None:
        """Drop queued data."""
        self.buffers.clear()
        self._queued_bytes = self.sent_bytes
        self._is_blocked = False

    def fail(self, error: ConnectionLostError) -> None:
        """Drop queued data because of `error`."""
        self.clear()
        self.failure = error

    def renew(self) -> None:
        """Start again, for another receiver."""
        self.counted, self.failure = 0, None

    def _join(self) -> None:
        """Copy the first small buffers into a single one."""
        buffers, parts, size = self.buffers, [], 0
        while buffers and size + len(buffers[0]) <= _JOINED_BYTES:
            parts.append(buffers.popleft())
            size += len(parts[-1])
        buffers.appendleft(memoryview(b"".join(parts)))
