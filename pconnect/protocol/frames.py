"""The fixed parts of what crosses the wire: the preamble of a connection and the header of a message.

Layouts are normative in ``doc/protocol.md``. Integers are big-endian. No I/O here.
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
    """What a node takes in from each other node of its network."""

    #: Limit of one message: it bounds what a peer can make us allocate. It sets the limit of items, too, see
    #: `pconnect.values.item_limit`.
    max_message_bytes: int = 2**34
    #: When so much has arrived from a node and waits for `precv`, no more is read from it: it waits in its `psend`.
    #: Values are not cut, so that one of any size passes.
    max_inbox_bytes: int = 2**31

    @property
    def max_message_items(self) -> int:
        """How many items one message may have."""
        return items_limit(self.max_message_bytes)


DEFAULT_LIMITS = Limits()

_PREAMBLE = struct.Struct(f"!4sBB{NETWORK_ID_BYTES}sIII{NONCE_BYTES}s")  # the MAC follows
_HEADER = struct.Struct("!2sBBIIQ")
_TAG, _TAG_START = struct.Struct("!I"), 4  # in it
PREAMBLE_BYTES = _PREAMBLE.size + MAC_BYTES
#: Of a preamble or a message: enough to see the version, in all versions.
FIRST_WORD_BYTES = 5
HEADER_BYTES = _HEADER.size
#: For what was made here from messages within the limits, or is no message of the network's.
NO_LIMIT = 2**63
#: The endpoint of a supervisor.
JOB_CHANNEL = 1
PREAMBLE_MAGIC = b"PSRV"
_HEADER_MAGIC = b"PM"


def check_version(version: int, peer: str = "the peer") -> None:
    """Check that a peer speaks this version of the protocol.

    Raises `ProtocolError` if it does not. The text has both numbers, and says which side is older.
    """
    if version != VERSION:
        older = peer if version < VERSION else "this side"
        raise ProtocolError(
            f"{peer} speaks version {version} of the protocol, this side version {VERSION}: {older} is older; "
            "install the same version of pserver on both"
        )


def check_first_word(word: bytes | bytearray, peer: str) -> None:
    """Check the version in the first bytes of a peer, where they are those of a preamble or a message.

    Raises `ProtocolError` if they are of another version.
    """
    for magic in (PREAMBLE_MAGIC, _HEADER_MAGIC):
        if word.startswith(magic) and len(word) > len(magic):
            check_version(word[len(magic)], peer)


class Purpose(enum.IntEnum):
    """What a connection is for; the first words on it, in clear."""

    COMMAND = 1  #: a command channel without encryption
    DATA = 2  #: a data connection, to be handed to a session
    ACCEPTED = 3  #: the answer of a server without encryption
    NEEDS_TLS = 4  #: the answer of a server with encryption to a client without
    OTHER_VERSION = 5  #: the answer of a server to a preamble of another version; it closes the connection
    JOIN = 6  #: a command channel of a further node, to be handed to the session that has the node of this number
    #: The answer of a data port to a client that wants the command port, whose number is in ``endpoint``.
    WRONG_PORT = 7
    #: To the relay at a node, from one that wants to be connected with another, whose number is in ``endpoint``.
    RELAY = 8
    RELAYED = 9  #: From a relay, in the name of the node that is then at the other end.


@dataclass(frozen=True)
class Preamble:
    """The first bytes of a data connection, and of a command channel without encryption."""

    purpose: Purpose  #: what the connection is for
    #: 16 bytes that name the network; zero where there is none yet.
    network_id: bytes = bytes(NETWORK_ID_BYTES)
    #: Numbers of the nodes at both ends.
    from_node: int = 0
    to_node: int = 0
    #: 0: the engine of that node; `JOB_CHANNEL`: its supervisor, for jobs; beyond: the worker of that number.
    endpoint: int = 0
    #: The key of the network, which the MAC proves; it does not travel. Empty without encryption.
    key: bytes = field(default=b"", repr=False, compare=False)

    def pack(self, nonce: bytes = bytes(NONCE_BYTES)) -> bytes:
        """Return the bytes of the preamble; `nonce` is another one for each connection."""
        numbers = (self.from_node, self.to_node, self.endpoint)
        covered = _PREAMBLE.pack(PREAMBLE_MAGIC, VERSION, self.purpose, self.network_id, *numbers, nonce)
        return covered + preamble_mac(self.key, covered)

    @classmethod
    def unpack(cls, data: bytes, peer: str = "the peer") -> "Preamble":
        """Return the preamble of a peer; `data` is `PREAMBLE_BYTES` long.

        The MAC is not looked at: see `pconnect.protocol.preamble_check`. Raises `ProtocolError` if `data` holds no
        preamble, or one of another version.
        """
        magic, version, purpose, *rest, _nonce = _PREAMBLE.unpack_from(data)
        if magic != PREAMBLE_MAGIC:
            raise ProtocolError("the peer does not speak the pserver protocol")
        check_version(version, peer)
        try:
            return cls(Purpose(purpose), *rest)
        except ValueError as error:
            raise ProtocolError(f"a connection of unknown purpose {purpose}") from error


def preamble_mac(key: bytes, covered: bytes) -> bytes:
    """Return the MAC of a preamble; `covered` is all that stands before it."""
    return hmac.digest(key, covered, "sha256")[:MAC_BYTES]


def pack_header(kind: Kind, tag: int, head_bytes: int, payload_bytes: int) -> bytes:
    """Return the bytes of a `Header`, sooner than by making one."""
    return _HEADER.pack(_HEADER_MAGIC, VERSION, kind, tag, head_bytes, payload_bytes)


def with_tag(data: bytes, tag: int) -> bytes:
    """Return the first bytes of a message, which begin with its header, with another tag."""
    return data[:_TAG_START] + _TAG.pack(tag) + data[_TAG_START + _TAG.size :]


class Header(NamedTuple):
    """The fixed head of a message: its kind, its tag, and the lengths of its two parts in bytes."""

    kind: Kind
    tag: int = 0
    head_bytes: int = 0
    payload_bytes: int = 0

    def pack(self) -> bytes:
        """Return the bytes of the header."""
        return pack_header(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview, max_message_bytes: int, start: int = 0) -> "Header":
        """Return the header that `data` holds (`HEADER_BYTES` from `start`).

        Raises `ProtocolError` if it holds none, one of another version or kind, or announces more than
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
                f"a message of {head_bytes + payload_bytes} bytes is announced, the limit is {max_message_bytes}"
            )
        try:
            return cls(_KINDS[kind], tag, head_bytes, payload_bytes)
        except KeyError:
            raise ProtocolError(f"a message of unknown kind {kind}") from None


_KINDS = {kind.value: kind for kind in Kind}  # an enumeration's own look-up by value is five times slower
HELLO = Header(Kind.HELLO).pack()
