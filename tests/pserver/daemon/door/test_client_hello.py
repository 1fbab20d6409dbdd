"""A ClientHello may arrive in any pieces; malformed data raises only one kind of error."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlslite.messages import ClientHello as TlsliteHello
from tlslite.utils.codec import Parser

from pconnect.errors import ProtocolError
from pserver.daemon.door.client_hello import MAX_HELLO_BYTES, Alert, ClientHello
from tests.support.hellos import extension, hello_of, message_of, name_extension, records_of, vector


def read(data: bytes, piece: int = 2**16) -> ClientHello:
    """Feed bytes to a ClientHello, in pieces, as long as it wants more."""
    hello, at = ClientHello(), 0
    while at < len(data) and (count := min(hello.wants, piece, len(data) - at)):
        hello.feed(data[at : at + count])
        at += count
    return hello


@given(
    user=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    piece=st.integers(1, 50),
    record_bytes=st.integers(1, 200),
)
def test_the_user_is_found_in_any_pieces_and_records(user: str, piece: int, record_bytes: int) -> None:
    data = records_of(message_of(extension(23, b"") + name_extension(user)), record_bytes)
    hello = read(data + b"what follows", piece)
    assert (hello.is_complete, hello.user, hello.wants) == (True, user, 0)
    assert not read(data[:-1], piece).is_complete


@given(name=st.binary(min_size=1, max_size=20))
def test_the_user_is_the_one_that_the_session_finds(name: bytes) -> None:
    message = message_of(extension(12, vector(1, name)))
    theirs = TlsliteHello().parse(Parser(bytearray(message[1:])))
    assert read(records_of(message)).user == bytes(theirs.srp_username).decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("extensions", [None, b"", extension(0, b"name")])
def test_a_hello_may_name_nobody(extensions: bytes | None) -> None:
    hello = read(records_of(message_of(extensions)))
    assert (hello.is_complete, hello.user) == (True, None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1", "not TLS"),
        (b"\x16\x02\x00\x00\x05", "malformed record"),
        (b"\x16\x03\x01\x00\x00", "malformed record"),
        (b"\x16\x03\x01\x40\x01", "malformed record"),
        (b"\x16\x03\x01\x00\x01\x02", "does not begin with a ClientHello"),
        (records_of(b"\1\0\x10\x00"), "claims 4100 bytes"),
        (records_of(b"\1\0\0\1\3\3"), "sends more than a ClientHello"),
        (records_of(b"\1\0\0\1\3"), "ends too early"),
        (records_of(message_of(name_extension("a") + name_extension("b"))), "12 comes twice"),
        (records_of(message_of(extension(23, b"") * 2)), "23 comes twice"),
        (records_of(message_of(extension(12, b""))), "ends too early"),
        (records_of(message_of(extension(12, b"\0"))), "the length of its user name is wrong"),
        (records_of(message_of(extension(12, b"\1ab"))), "the length of its user name is wrong"),
        (records_of(message_of(extension(12, b"\5ab"))), "ends too early"),
        (records_of(message_of(b"\0\x0c\0\7")), "ends too early"),
    ],
)
def test_what_is_malformed(data: bytes, words: str) -> None:
    for piece in (1, 3, 2**16):
        with pytest.raises(ProtocolError, match=words):
            read(data, piece)


def test_something_behind_the_extensions_is_malformed() -> None:
    message = message_of(name_extension("a"))
    longer = b"\1" + vector(3, message[4:] + b"x")
    with pytest.raises(ProtocolError, match="more bytes after its extensions"):
        read(records_of(longer))


def test_it_has_a_limit_however_small_its_records_are() -> None:
    message = b"\1" + (MAX_HELLO_BYTES - 10).to_bytes(3, "big") + bytes(MAX_HELLO_BYTES)
    with pytest.raises(ProtocolError, match=f"more than {MAX_HELLO_BYTES} bytes"):
        read(records_of(message, 1))


@given(st.binary(max_size=300), st.integers(1, 20))
def test_random_bytes_raise_nothing_else(data: bytes, piece: int) -> None:
    for begin in (b"", hello_of("alice")[:20]):
        with contextlib.suppress(ProtocolError):
            read(begin + data, piece)


def test_an_alert_is_a_record_of_tls() -> None:
    assert Alert.INTERNAL_ERROR.record() == b"\x15\x03\x03\x00\x02\x02\x50"
