"""ClientHellos, as clients of TLS send them first."""


def vector(size: int, content: bytes) -> bytes:
    """Return content behind its length, which has `size` bytes."""
    return len(content).to_bytes(size, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def name_extension(user: str) -> bytes:
    return extension(12, vector(1, user.encode()))


def message_of(extensions: bytes | None) -> bytes:
    """Return a ClientHello, without extensions for ``None``."""
    body = b"\x03\x03" + bytes(range(32)) + vector(1, b"") + vector(2, b"\xc0\x20\x00\xff") + vector(1, b"\0")
    return b"\1" + vector(3, body if extensions is None else body + vector(2, extensions))


def records_of(message: bytes, record_bytes: int = 2**14) -> bytes:
    """Return a message in records with at most so many bytes of it."""
    parts = (message[at : at + record_bytes] for at in range(0, len(message), record_bytes))
    return b"".join(b"\x16\x03\x01" + vector(2, part) for part in parts)


def hello_of(user: str | None, others: bytes | None = None) -> bytes:
    """Return the ClientHello of a client that names a user, or none, with other extensions."""
    if others is None:
        others = extension(22, b"") + extension(23, b"")  # encrypt then MAC, extended master secret
    return records_of(message_of(others if user is None else others + name_extension(user)))
