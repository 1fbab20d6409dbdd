"""ClientHello messages, the first ones of TLS clients."""


def vector(size: int, content: bytes) -> bytes:
    """Return content after its length, a number of `size` bytes."""
    return len(content).to_bytes(size, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def name_extension(user: str) -> bytes:
    return extension(12, vector(1, user.encode()))


_SUITES = b"\xc0\x20\x00\xff"  # SRP with AES-256; no renegotiation


def message_of(extensions: bytes | None) -> bytes:
    """Return a ClientHello; without extensions if they are ``None``."""
    body = b"\x03\x03" + bytes(range(32)) + vector(1, b"") + vector(2, _SUITES) + vector(1, b"\0")
    return b"\1" + vector(3, body if extensions is None else body + vector(2, extensions))


def records_of(message: bytes, record_bytes: int = 2**14) -> bytes:
    """Return a message split into records of at most `record_bytes` bytes."""
    parts = (message[at : at + record_bytes] for at in range(0, len(message), record_bytes))
    return b"".join(b"\x16\x03\x01" + vector(2, part) for part in parts)


def hello_of(user: str | None, others: bytes | None = None) -> bytes:
    """Return the ClientHello of a client that names a user (or none), with other extensions."""
    if others is None:
        others = extension(22, b"") + extension(23, b"")  # encrypt then MAC, extended master secret
    return records_of(message_of(others if user is None else others + name_extension(user)))


def weak_hellos() -> dict[str, bytes]:
    """Return ClientHellos that ask for less than a login requires, by their fault."""
    good = extension(22, b"") + extension(23, b"") + name_extension("alice")
    message = message_of(good)
    found = {
        f"version 3.{minor}": records_of(message[:5] + bytes([minor]) + message[6:]) for minor in (0, 1, 2)
    }
    for name, versions in (("TLS 1.3", b"\x03\x04"), ("TLS 1.1 and older", b"\x03\x02\x03\x01")):
        found[f"only {name}"] = records_of(message_of(good + extension(43, vector(1, versions))))
    found["no extended master secret"] = hello_of("alice", extension(22, b""))
    for name, suites in _WEAK_SUITES.items():
        content = b"".join(number.to_bytes(2, "big") for number in suites)
        found[name] = records_of(message.replace(vector(2, _SUITES), vector(2, content)))
    return found


_WEAK_SUITES = {
    "NULL": (0x0001, 0x0002, 0x003B),
    "EXPORT": (0x0003, 0x0006, 0x0008, 0x0014, 0x0017),
    "no SRP": (0x002F, 0x0035, 0xC02F, 0xC030, 0x1301),
    "anonymous": (0x0018, 0x0034, 0x003A),
    "SRP with 3DES": (0xC01A, 0xC01B, 0xC01C),
    "SRP with certificates": (0xC01E, 0xC01F, 0xC021, 0xC022),  # the server has none
}
