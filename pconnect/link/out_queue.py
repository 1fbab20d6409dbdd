"""What waits to be sent to one peer."""

from collections import deque
from collections.abc import Sequence

from srp_tools.channel import Channel

# Small messages are sent together: each write costs a system call and a TLS record, which holds up to 16 KiB.
_JOINED_BYTES = 2**14


class OutQueue:
    """The buffers of encoded messages, which are sent from where they lie.

    Attributes
    ----------
    buffers
        What waits, the oldest first.
    sent_bytes
        How much the system has taken so far.
    counted
        How many messages were queued that the receiver counts, see `pconnect.protocol.wait_states.UNCOUNTED_KINDS`.
    """

    __slots__ = ("_is_blocked", "_queued_bytes", "buffers", "counted", "sent_bytes")

    def __init__(self) -> None:
        self.buffers: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._is_blocked = False  # the system took less than there was
        self.sent_bytes = 0
        self.counted = 0

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be sent."""
        return self._queued_bytes - self.sent_bytes

    def put(self, buffers: Sequence[bytes | memoryview], *, is_counted: bool) -> None:
        """Queue the buffers of a message; they are not copied."""
        self.counted += is_counted
        self.buffers.extend(map(memoryview, buffers))
        self._queued_bytes += sum(map(len, buffers))

    def send(self, channel: Channel) -> bool:
        """Write what the channel takes now; return whether it takes all again, having taken less before.

        Raises
        ------
        ConnectionLostError
            The peer is gone.
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
        """Copy what waits to be sent, so that its memory may change from now on."""
        self.buffers = deque(memoryview(bytes(view)) for view in self.buffers)

    def clear(self) -> None:
        """Drop what waits to be sent."""
        self.buffers.clear()
        self._queued_bytes = self.sent_bytes
        self._is_blocked = False

    def _join(self) -> None:
        """Copy the first small buffers into one."""
        buffers, parts, size = self.buffers, [], 0
        while buffers and size + len(buffers[0]) <= _JOINED_BYTES:
            parts.append(buffers.popleft())
            size += len(parts[-1])
        buffers.appendleft(memoryview(b"".join(parts)))
