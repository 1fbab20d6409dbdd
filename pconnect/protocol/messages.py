"""Messages, and how a value becomes the buffers of one; `pconnect.protocol.decoder` reads them. No I/O here."""

from typing import Any, NamedTuple

from pconnect.errors import MessageTooLargeError
from pconnect.protocol.frames import pack_header
from pconnect.protocol.kinds import Kind
from pconnect.values import codec

# Where the user's value stands in a COLLECTIVE; what is before it is ours.
PART_VALUE = 4


class Message(NamedTuple):
    """One complete message; `size` is that of its head and payload in bytes."""

    kind: Kind
    tag: int
    value: Any
    size: int = 0


class Unfinished:
    """Stands in a message for a value that has arrived whole and is not made yet.

    Values of packages and of registered types are made when somebody takes them: that imports modules, calls functions
    of the user, and may fail or be interrupted, for which those who wait on other connections are the wrong place.
    """

    __slots__ = ("_incoming", "_index")

    def __init__(self, incoming: codec.Incoming, index: int | None) -> None:
        self._incoming = incoming
        self._index = index

    def finish(self) -> object:
        """Return the value.

        Raises
        ------
        UnreadableValueError
            It cannot be made here; for the time being, if this is an `UnavailableTypeError`.
        ProtocolError
            It is malformed.
        """
        value: Any = self._incoming.finish()
        return value if self._index is None else value[self._index]


def encode_message(kind: Kind, tag: int, value: object, max_message_bytes: int) -> list[bytes | memoryview]:
    """Return the buffers to send, in order; those of arrays are views of the arrays' own memory.

    Raises
    ------
    UnsupportedValueError
        The value, or a part of it, cannot be sent.
    MessageTooLargeError
        It would be larger than the limit.
    """
    head, buffers = codec.encode(value)
    payload_bytes = sum(buffer.nbytes for buffer in buffers) if buffers else 0
    if len(head) + payload_bytes > max_message_bytes:
        check_size(len(head) + payload_bytes, max_message_bytes)
    return [pack_header(kind, tag, len(head), payload_bytes) + head, *buffers]


def check_size(total_bytes: int, max_message_bytes: int) -> None:
    """Raise `MessageTooLargeError` if a value of this size is beyond the limit."""
    if total_bytes > max_message_bytes:
        raise MessageTooLargeError(
            f"the value takes {total_bytes} bytes, more than this network's max_message_bytes = "
            f"{max_message_bytes}: send it in parts, or connect with a higher limit"
        )
