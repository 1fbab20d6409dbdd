"""Values to messages and back. Sans-I/O.

A `Decoder` returns the memory for the next bytes (`Decoder.get_buffer`), and the caller reports how many were read
(`Decoder.received`). So an array is received directly into its own memory. Only bytes that arrive in the same read as
the header are copied.
"""

import functools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from pconnect.errors import MessageTooLargeError, ProtocolError, UnreadableValueError
from pconnect.protocol.forms import check_form, ends_connection
from pconnect.protocol.frames import HEADER_BYTES, Header, pack_header
from pconnect.protocol.kinds import ACCEPTS, Kind, Role
from pconnect.values import decoder, encoder
from pconnect.values.decoder import LARGE_HEAD_BYTES, NOT_SMALL, Incoming, decode, decode_small
from pconnect.values.item_limit import ALWAYS_ALLOWED, Look, count_items, items_limit
from pconnect.values.receive_buffers import unset_memory

# Index of the user's value in a COLLECTIVE message. The items before it are ours.
PART_VALUE = 4
# The receiver takes the values of these kinds explicitly. Values that may take long are decoded then.
_MADE_WHEN_TAKEN = frozenset({Kind.VALUE, Kind.COLLECTIVE, Kind.JOB, Kind.RESULT, Kind.REPORT})
_MAX_HEAD_BYTES = 2**32 - 1


class Message(NamedTuple):
    """One complete message. `size` is the size of its head and payload in bytes."""

    kind: Kind
    tag: int
    value: Any
    size: int = 0


def refuse_nonsense(take: Callable[[Any, Message], None]) -> Callable[[Any, Message], None]:
    """Turn errors in handling a malformed message into `ProtocolError`. A decorator.

    For methods of a server, but not for kinds that it answers with an error: see `pconnect.protocol.forms`. Also not
    for methods that call the user's functions, whose errors are not the peer's fault.
    """

    @functools.wraps(take)
    def take_or_refuse(self: Any, message: Message) -> None:
        if ends_connection(message.kind):
            check_form(message.kind, message.value)
        try:
            take(self, message)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, struct.error) as error:
            text = f"{message.kind.name} makes no sense ({type(error).__name__}: {error})"
            raise ProtocolError(text) from error

    return take_or_refuse


class Unfinished:
    """A value that has arrived completely but is not decoded yet.

    Values of packages and of registered types are decoded when the receiver takes them. That imports modules, calls
    functions of the user, and may fail or be interrupted, so it must not happen in a wait for another connection. The
    same applies to values with so many items that decoding takes long.
    """

    __slots__ = ("_incoming", "_index", "size")

    def __init__(self, incoming: decoder.Incoming, index: int | None, size: int) -> None:
        self._incoming = incoming
        self._index = index
        self.size = size  #: size of head and payload in bytes

    def begins_with(self, item: object) -> bool:
        """Return whether the value is a list with this first item, of a type of msgpack's own. Fast."""
        try:
            return self._incoming.first_items(1) == [item]
        except ProtocolError:
            return False

    def finish(self, look: Look = lambda: None) -> object:
        """Decode and return the value. Calls `look` repeatedly meanwhile; it may raise, and so may signal handlers.

        Raises `UnreadableValueError` if the value cannot be decoded here; an `UnavailableTypeError` may be temporary.
        Raises `ProtocolError` if it is malformed. You may call this again after any error.
        """
        value: Any = self._incoming.finish(look=look)
        return value if self._index is None else value[self._index]


def encode_message(
    kind: Kind, tag: int, value: object, max_message_bytes: int, *, by_name: bool = True
) -> list[bytes | memoryview]:
    """Return the buffers to send, in order. The buffers of arrays are views of the arrays' own memory.

    `by_name`: see `encode`; false for values that can be pickled instead. Raises `UnsupportedValueError` if the value,
    or a part of it, cannot be sent, and `MessageTooLargeError` if the message would exceed the limit.
    """
    head, buffers = encoder.encode(value, by_name=by_name)
    payload_bytes = sum(buffer.nbytes for buffer in buffers) if buffers else 0
    if len(head) + payload_bytes > max_message_bytes:
        check_size(len(head) + payload_bytes, max_message_bytes)
    if len(head) > ALWAYS_ALLOWED:
        check_head(head, max_message_bytes)
    return [pack_header(kind, tag, len(head), payload_bytes) + head, *buffers]


def check_size(total_bytes: int, max_message_bytes: int) -> None:
    """Raise `MessageTooLargeError` if a value of this size exceeds the limit."""
    if total_bytes > max_message_bytes:
        raise MessageTooLargeError(
            f"the value has {total_bytes} bytes, more than this network's max_message_bytes = "
            f"{max_message_bytes}: send it in parts, or connect with a higher limit"
        )


def check_head(head: bytes, max_message_bytes: int) -> None:
    """Raise `MessageTooLargeError` if a head has more items than the size limit allows, or is too large to send."""
    limit = items_limit(max_message_bytes)
    if len(head) > limit and count_items(memoryview(head), limit)[0] > limit:
        raise MessageTooLargeError(
            f"the value has more than {limit} items, the limit for this network's max_message_bytes = "
            f"{max_message_bytes}: send arrays, send it in parts, or connect with a higher limit"
        )
    if len(head) > _MAX_HEAD_BYTES:
        raise MessageTooLargeError("the value has more than 4 GiB without its large arrays: send it in parts")


# The maximum of one read while no large buffer needs to be filled. OpenSSL returns one TLS record, of at most 16 KiB,
# per read; a plain socket may return all of it.
SCRATCH_BYTES = 2**16
# If less than this is missing in a buffer, it is read through the scratch buffer, perhaps with the next message.
_DIRECT_BYTES = 2**12


class Decoder:
    """The receiving half of a connection.

    `role`: this end of the connection. Messages that it does not accept are protocol errors. `max_message_bytes`: size
    limit of one message, checked before allocating memory. `max_items`: item limit, by default derived from that limit.
    """

    def __init__(self, role: Role, max_message_bytes: int, max_items: int | None = None) -> None:
        self._accepts = ACCEPTS[role]
        self.role = role
        self._max_message_bytes = max_message_bytes
        self._max_items = items_limit(max_message_bytes) if max_items is None else max_items
        self._scratch = unset_memory(SCRATCH_BYTES)
        self._start = self._end = 0  # the unread part of the scratch buffer
        self._header: Header | None = None
        self._incoming: Incoming | None = None  # set when the head has arrived
        self._head: bytearray | None = None  # a head that is larger than the scratch buffer
        self._targets: list[memoryview] = []  # the buffers to fill, last first
        self._direct = False

    @property
    def in_message(self) -> bool:
        """Whether a message has begun to arrive and is incomplete."""
        return self._header is not None or self._start < self._end

    @property
    def in_payload(self) -> bool:
        """Whether the header of a message has been read and the message is incomplete."""
        return self._header is not None

    @property
    def arriving_bytes(self) -> tuple[int, int]:
        """Received bytes and size of a message whose header has been read; ``(0, 0)`` between messages."""
        if self._header is None:
            return 0, 0
        total = self._header.head_bytes + self._header.payload_bytes
        if self._incoming is None:
            return 0, total
        return total - sum(map(len, self._targets)), total

    def get_buffer(self) -> memoryview:
        """Return the memory for the next bytes. It is never empty."""
        self._direct = (
            bool(self._targets) and len(self._targets[-1]) >= _DIRECT_BYTES and self._start == self._end
        )
        if self._direct:
            return self._targets[-1]
        return self._scratch[self._end :]

    def received(self, count: int) -> list[Message]:
        """Process `count` bytes in the buffer from `get_buffer`. Return the messages that are now complete.

        Raises `ProtocolError` if the peer violated the format. The decoder is unusable after that.
        """
        messages: list[Message] = []
        if self._direct:
            self._advance_target(count)
        else:
            self._end += count
            if self._header is None:
                self._take_small(messages)
        if self._header is None and self._start == self._end:
            self._start = self._end = 0
            return messages
        while self._step(messages):
            pass
        self._make_room()
        return messages

    def _step(self, messages: list[Message]) -> bool:
        """Parse the next element: header, head, or part of a target. Return False when more input is needed."""
        if self._header is None:
            if self._end - self._start < HEADER_BYTES:
                return False
            self._header = self._read_header(self._start)
            self._start += HEADER_BYTES
        if self._targets:
            self._fill_from_scratch()
            if self._targets:
                return False
        if self._incoming is None:
            head = self._take_head(self._header.head_bytes)
            if head is None:
                return False
            self._begin_payload(head, self._header)
            if self._targets:
                return True
        kind, tag, head_bytes, payload_bytes = self._header
        messages.append(Message(kind, tag, self._finish(self._header), head_bytes + payload_bytes))
        self._header = self._incoming = None
        return True

    def _take_small(self, messages: list[Message]) -> None:
        """Parse the messages that are small and complete, as most are."""
        while self._end - self._start >= HEADER_BYTES:
            kind, tag, head_bytes, payload_bytes = self._read_header(self._start)
            begin = self._start + HEADER_BYTES
            end = begin + head_bytes
            if payload_bytes or end > self._end:
                return
            value = decode_small(bytes(self._scratch[begin:end]))
            if value is NOT_SMALL:
                return
            self._start = end
            messages.append(Message(kind, tag, value, head_bytes))

    def _finish(self, header: Header) -> object:
        incoming, kind = self._incoming, header.kind
        assert incoming is not None  # noqa: S101 - for the type checker
        try:
            if header.head_bytes <= LARGE_HEAD_BYTES or kind not in _MADE_WHEN_TAKEN:
                return incoming.finish(at_once=True)
        except UnreadableValueError as error:
            if kind not in _MADE_WHEN_TAKEN:
                raise ProtocolError(f"malformed value of {kind.name}: {error}") from error
        size = header.head_bytes + header.payload_bytes
        if kind is Kind.COLLECTIVE:
            return [*incoming.first_items(PART_VALUE), Unfinished(incoming, PART_VALUE, size)]
        return Unfinished(incoming, None, size)

    def _read_header(self, start: int) -> Header:
        header = Header.unpack(self._scratch, self._max_message_bytes, start)
        if header.kind not in self._accepts:
            raise ProtocolError(f"{header.kind.name} is not for {self.role.value}")
        return header

    def _take_head(self, count: int) -> bytes | bytearray | None:
        """Return the head if it is complete. Otherwise prepare to receive it directly, if it is large."""
        if self._head is not None:
            head, self._head = self._head, None
            return head
        if self._end - self._start >= count:
            self._start += count
            return bytes(self._scratch[self._start - count : self._start])
        if count > SCRATCH_BYTES - HEADER_BYTES:
            self._head = bytearray(count)
            self._targets = [memoryview(self._head)]
            self._fill_from_scratch()
        return None

    def _begin_payload(self, head: bytes | bytearray, header: Header) -> None:
        max_items = self._max_items if header.kind in _MADE_WHEN_TAKEN else ALWAYS_ALLOWED
        self._incoming = decode(head, header.payload_bytes, max_items)
        self._targets = [buffer for buffer in reversed(self._incoming.buffers) if buffer.nbytes]

    def _fill_from_scratch(self) -> None:
        while self._targets and self._start < self._end:
            target = self._targets[-1]
            count = min(len(target), self._end - self._start)
            target[:count] = self._scratch[self._start : self._start + count]
            self._start += count
            self._advance_target(count)

    def _advance_target(self, count: int) -> None:
        target = self._targets.pop()
        if count < len(target):
            self._targets.append(target[count:])

    def _make_room(self) -> None:
        """Move the rest of the scratch buffer to its beginning, so that a whole small message fits."""
        left = self._end - self._start
        if self._start and left:
            self._scratch[:left] = bytes(self._scratch[self._start : self._end])
        self._start, self._end = 0, left


def decode_messages(role: Role, data: bytes | memoryview) -> list[Message]:
    """Decode the messages in `data`. Raises `ProtocolError` if it contains anything else."""
    view = memoryview(data)
    decoder = Decoder(
        role, view.nbytes, view.nbytes
    )  # the limits were checked when the messages were encoded
    messages: list[Message] = []
    while view:
        buffer = decoder.get_buffer()
        count = min(len(buffer), len(view))
        buffer[:count] = view[:count]
        view = view[count:]
        messages += decoder.received(count)
    if decoder.in_message:
        raise ProtocolError("the last message is incomplete")
    return messages
