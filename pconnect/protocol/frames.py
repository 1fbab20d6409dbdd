"""The parts of the wire format with a fixed layout: the preamble of a connection and the header of a message.

``doc/protocol.md`` defines the layouts. Integers are big-endian. Sans-I/O.
"""

import enum
import hmac
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind
from pconnect.values.item_limit import items_limit

VERSION = 8
NETWORK_ID_BYTES = 16
NETWORK_KEY_BYTES = 32
NONCE_BYTES = 16
MAC_BYTES = 16


class Limits(NamedTuple):
    """Limits for the data that a node accepts from each other node of its network."""

    #: Size limit of one message: it bounds the memory that a peer can make this node allocate. It also determines the
    #: limit of items, see `pconnect.values.item_limit`.
    max_message_bytes: int = 2**34
    #: When this many bytes from a node wait for `precv`, nothing more is read from it, and it waits in its `psend`.
    #: Values are not split, so a value of any size can pass.
    max_inbox_bytes: int = 2**31

    @property
    def max_message_items(self) -> int:
        """Maximum number of items in one message."""
        return items_limit(self.max_message_bytes)


DEFAULT_LIMITS = Limits()

_PREAMBLE = struct.Struct(f"!4sBB{NETWORK_ID_BYTES}sIII{NONCE_BYTES}s")  # the MAC follows
_HEADER = struct.Struct("!2sBBIIQ")
_TAG, _TAG_START = struct.Struct("!I"), 4  # within the header
PREAMBLE_BYTES = _PREAMBLE.size + MAC_BYTES
#: Length of the part of a preamble or message that contains the version, in all versions.
FIRST_WORD_BYTES = 5
HEADER_BYTES = _HEADER.size
#: For data that was built here from messages within the limits, or that is not a message of the network.
NO_LIMIT = 2**63
#: The endpoint of a supervisor.
JOB_CHANNEL = 1
PREAMBLE_MAGIC = b"PSRV"
_HEADER_MAGIC = b"PM"


def check_version(version: int, peer: str = "the peer") -> None:
    """Check that a peer uses this version of the protocol.

    Raises `ProtocolError` if it does not. The message has both versions and says which side is older.
    """
    if version != VERSION:
        older = peer if version < VERSION else "this side"
        raise ProtocolError(
            f"{peer} speaks version {version} of the protocol, this side version {VERSION}: {older} is older; "
            "install the same version of pserver on both"
        )


def check_first_word(word: bytes | bytearray, peer: str) -> None:
    """Check the version in the first bytes from a peer, if they start a preamble or a message.

    Raises `ProtocolError` if the version differs.
    """
    for magic in (PREAMBLE_MAGIC, _HEADER_MAGIC):
        if word.startswith(magic) and len(word) > len(magic):
            check_version(word[len(magic)], peer)


class Purpose(enum.IntEnum):
    """The purpose of a connection, sent first and unencrypted."""

    COMMAND = 1  #: a command channel without encryption
    DATA = 2  #: a data connection for a session
    ACCEPTED = 3  #: the answer of a server without encryption
    NEEDS_TLS = 4  #: the answer of a server with encryption to a client without encryption
    OTHER_VERSION = 5  #: the answer of a server to a preamble of another version; it closes the connection
    JOIN = 6  #: a command channel of a further node, for the session that has the node with this number
    #: The answer of a data port to a client that needs the command port, whose number is in ``endpoint``.
    WRONG_PORT = 7
    #: To the relay at a node, from a node that wants a connection to another one, whose number is in ``endpoint``.
    RELAY = 8
    RELAYED = 9  #: From a relay, on behalf of the node that is then at the other end.


@dataclass(frozen=True)
class Preamble:
    """The first bytes of a data connection, and of a command channel without encryption."""

    purpose: Purpose  #: the purpose of the connection
    #: 16 bytes that identify the network; zero if there is none yet.
    network_id: bytes = bytes(NETWORK_ID_BYTES)
    #: The numbers of the nodes at both ends.
    from_node: int = 0
    to_node: int = 0
    #: 0: the engine of that node; `JOB_CHANNEL`: its supervisor, for jobs; larger: the worker with that number.
    endpoint: int = 0
    #: The key of the network, which the MAC proves; it is not sent. Empty without encryption.
    key: bytes = field(default=b"", repr=False, compare=False)

    def pack(self, nonce: bytes = bytes(NONCE_BYTES)) -> bytes:
        """Return the bytes of the preamble. `nonce` differs for each connection."""
        numbers = (self.from_node, self.to_node, self.endpoint)
        covered = _PREAMBLE.pack(PREAMBLE_MAGIC, VERSION, self.purpose, self.network_id, *numbers, nonce)
        return covered + preamble_mac(self.key, covered)

    @classmethod
    def unpack(cls, data: bytes, peer: str = "the peer") -> "Preamble":
        """Return the preamble of a peer. `data` has the length `PREAMBLE_BYTES`.

        Does not check the MAC: see `pconnect.protocol.preamble_check`. Raises `ProtocolError` if `data` is not a
        preamble, or has another version.
        """
        magic, version, purpose, *rest, _nonce = _PREAMBLE.unpack_from(data)
        if magic != PREAMBLE_MAGIC:
            raise ProtocolError("the peer does not speak the pserver protocol")
        check_version(version, peer)
        try:
            return cls(Purpose(purpose), *rest)
        except ValueError as error:
            raise ProtocolError(f"a connection with the unknown purpose {purpose}") from error


def preamble_mac(key: bytes, covered: bytes) -> bytes:
    """Return the MAC of a preamble. `covered` is everything before it."""
    return hmac.digest(key, covered, "sha256")[:MAC_BYTES]


def pack_header(kind: Kind, tag: int, head_bytes: int, payload_bytes: int) -> bytes:
    """Return the bytes of a `Header`. Faster than creating one."""
    return _HEADER.pack(_HEADER_MAGIC, VERSION, kind, tag, head_bytes, payload_bytes)


def with_tag(data: bytes, tag: int) -> bytes:
    """Return the beginning of a message, which includes its header, with another tag."""
    return data[:_TAG_START] + _TAG.pack(tag) + data[_TAG_START + _TAG.size :]


class Header(NamedTuple):
    """The fixed-size start of a message: its kind, its tag, and the lengths of its two parts in bytes."""

    kind: Kind
    tag: int = 0
    head_bytes: int = 0
    payload_bytes: int = 0

    def pack(self) -> bytes:
        """Return the bytes of the header."""
        return pack_header(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, max_message_bytes: int, start: int = 0) -> "Header":
        """Return the header in `data` (`HEADER_BYTES` from `start`).

        Raises `ProtocolError` if there is none, if its version or kind is unknown, or if it announces more than
        `max_message_bytes`.
        """
        magic, version, kind, tag, head_bytes, payload_bytes = _HEADER.unpack_from(data, start)
        if magic != _HEADER_MAGIC:
            begin = bytes(data[start : start + 4])
            raise ProtocolError(f"not a message of this protocol (it begins with {begin!r})")
        if version != VERSION:
            check_version(version)
        if head_bytes + payload_bytes > max_message_bytes:
            raise ProtocolError(
                f"a message of {head_bytes + payload_bytes} bytes was announced, but the limit is {max_message_bytes}"
            )
        try:
            return cls(_KINDS[kind], tag, head_bytes, payload_bytes)
        except KeyError:
            raise ProtocolError(f"a message of the unknown kind {kind}") from None


_KINDS = {kind.value: kind for kind in Kind}  # `Kind(value)` is five times slower
HELLO = Header(Kind.HELLO).pack()
