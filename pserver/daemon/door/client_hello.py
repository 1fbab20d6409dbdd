"""Parses the first message of a TLS client without I/O: its ClientHello, which names the user who wants to log in.

A process for a login is expensive, so a client gets one only after a complete ClientHello that names a user (RFC 5054,
section 2.8.1). The session parses the same bytes again, with tlslite. Both must find the same user, because delays and
limits depend on the user found here. So this module refuses ambiguous messages, such as one with the same extension
twice.
"""

import enum

from pconnect.errors import ProtocolError

TLS_HANDSHAKE = 22  # RFC 5246, section 6.2.1: the type of a record
_CLIENT_HELLO = 1  # RFC 5246, section 7.4: the type of a message in it
_SRP_EXTENSION = 12  # RFC 5054, section 2.8.1
_RECORD_HEADER_BYTES = 5
_MESSAGE_HEADER_BYTES = 4
_MAX_RECORD_BYTES = 2**14  # RFC 5246, section 6.2.1
# With all headers. A ClientHello of tlslite, GnuTLS or OpenSSL has 150 to 600 bytes, or 2000 with keys for post-quantum
# groups. A stranger can make the daemon hold this number of bytes for each connection.
MAX_HELLO_BYTES = 4096


class Alert(enum.IntEnum):
    """The reason for refusing a client, as a TLS alert (RFC 5246, section 7.2.2), which every client understands."""

    ACCESS_DENIED = 49  #: too many failed logins; the same for known and unknown users
    DECODE_ERROR = 50  #: the ClientHello is malformed
    INTERNAL_ERROR = 80  #: too many clients; a later attempt may succeed
    UNKNOWN_PSK_IDENTITY = 115  #: the ClientHello names no user (RFC 5054, section 2.5.1.2)

    def record(self) -> bytes:
        """Return the fatal alert as a TLS record."""
        return bytes([21, 3, 3, 0, 2, 2, self])


class ClientHello:
    """A ClientHello that is being received: `feed` it with bytes, never more than it `wants`."""

    def __init__(self) -> None:
        self._header = bytearray()  # of the current record
        self._left = 0  # missing bytes of its content
        self._message = bytearray()  # the content of all records so far
        self._taken = 0
        #: The user that it names; ``None`` before it is complete, or if it names no user.
        self.user: str | None = None
        self.is_complete = False

    @property
    def wants(self) -> int:
        """The number of bytes to read next: up to the end of a record or its header, never beyond the ClientHello."""
        if self.is_complete:
            return 0
        return self._left or _RECORD_HEADER_BYTES - len(self._header)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes.

        Raises `ProtocolError` if they are not part of a valid ClientHello.
        """
        self._taken += len(data)
        if self._taken > MAX_HELLO_BYTES:
            raise ProtocolError(f"its ClientHello has more than {MAX_HELLO_BYTES} bytes")
        if self._left:
            self._left -= len(data)
            self._message += data
            if not self._left:
                self._look()
            return
        self._header += data
        if self._header[0] != TLS_HANDSHAKE:
            raise ProtocolError("not TLS")
        if len(self._header) == _RECORD_HEADER_BYTES:
            self._left = int.from_bytes(self._header[3:], "big")
            if self._header[1] != 3 or not 0 < self._left <= _MAX_RECORD_BYTES:
                raise ProtocolError("not TLS: a malformed record")
            self._header.clear()

    def _look(self) -> None:
        """Parse the message once it is complete."""
        if self._message[0] != _CLIENT_HELLO:
            raise ProtocolError("not TLS: it does not begin with a ClientHello")
        if len(self._message) < _MESSAGE_HEADER_BYTES:
            return
        end = _MESSAGE_HEADER_BYTES + int.from_bytes(self._message[1:4], "big")
        if end > MAX_HELLO_BYTES:
            raise ProtocolError(f"its ClientHello claims {end} bytes, more than {MAX_HELLO_BYTES}")
        if len(self._message) > end:
            raise ProtocolError("it sends more than a ClientHello before the server has answered")
        if len(self._message) == end:
            self.user = _find_user(_Fields(self._message[_MESSAGE_HEADER_BYTES:]))
            self.is_complete = True


class _Fields:
    """A reader for bytes, from the front."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = bytes(data)
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise ProtocolError("a malformed ClientHello: it ends too early")
        self._at += count
        return found

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Take a length of `size` bytes, and then that many bytes."""
        return self.take(self.number(size))


def _find_user(fields: _Fields) -> str | None:
    """Return the user that the body of a ClientHello names (RFC 5246, section 7.4.1.2)."""
    fields.take(2 + 32)  # version, random
    fields.vector(1)  # session
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression
    if not fields:  # no extensions
        return None
    extensions = _Fields(fields.vector(2))
    if fields:
        raise ProtocolError("a malformed ClientHello: it has more bytes after its extensions")
    found: dict[int, bytes] = {}
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind in found:
            raise ProtocolError(f"a malformed ClientHello: extension {kind} comes twice")
        found[kind] = content
    if _SRP_EXTENSION not in found:
        return None
    name = _Fields(found[_SRP_EXTENSION])
    user = name.vector(1)
    if name or not user:
        raise ProtocolError("a malformed ClientHello: the length of its user name is wrong")
    # As the session decodes it, see `srp_tools.login`.
    return user.decode("utf-8", "backslashreplace")
