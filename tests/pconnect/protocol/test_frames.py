"""Preambles and headers: their bytes, and refused ones."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ProtocolError
from pconnect.protocol.frames import HEADER_BYTES, HELLO, PREAMBLE_BYTES, Header, Preamble, Purpose
from pconnect.protocol.kinds import Kind

ID = bytes(range(16))
U32 = st.integers(0, 2**32 - 1)


def test_bytes_of_a_preamble() -> None:
    nonce, key = bytes(range(16, 32)), bytes(range(32))
    data = Preamble(Purpose.DATA, ID, 1, 2, 3, key).pack(nonce)
    covered = b"PSRV\x08\x02" + ID + b"\0\0\0\x01\0\0\0\x02\0\0\0\x03" + nonce
    assert data == covered + hmac.new(key, covered, hashlib.sha256).digest()[:16]
    assert len(data) == PREAMBLE_BYTES == 66


def test_a_preamble_is_made_without_a_key_too() -> None:
    covered = b"PSRV\x08\x04" + bytes(44)
    assert (
        Preamble(Purpose.NEEDS_TLS).pack() == covered + hmac.new(b"", covered, hashlib.sha256).digest()[:16]
    )


def test_the_key_is_not_shown() -> None:
    assert "key" not in repr(Preamble(Purpose.DATA, key=b"key"))


def test_bytes_of_a_header() -> None:
    data = Header(Kind.VALUE, 7, 5, 2**40).pack()
    assert data == b"PM\x08\x02\0\0\0\x07\0\0\0\x05\0\0\x01\0\0\0\0\0"
    assert len(data) == HEADER_BYTES == 20


def test_the_purposes_do_not_change() -> None:
    assert [purpose.value for purpose in Purpose] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_first_word_is_an_empty_message() -> None:
    assert Header.unpack(HELLO, 0) == Header(Kind.HELLO, 0, 0, 0)


@given(st.sampled_from(Purpose), st.binary(min_size=16, max_size=16), U32, U32, U32)
def test_a_preamble_arrives_as_it_was(
    purpose: Purpose, network: bytes, from_node: int, to_node: int, endpoint: int
) -> None:
    preamble = Preamble(purpose, network, from_node, to_node, endpoint)
    assert Preamble.unpack(preamble.pack()) == preamble


@given(st.sampled_from(Kind), U32, U32, st.integers(0, 2**64 - 1))
def test_a_header_arrives_as_it_was(kind: Kind, tag: int, head_bytes: int, payload_bytes: int) -> None:
    header = Header(kind, tag, head_bytes, payload_bytes)
    assert Header.unpack(header.pack(), 2**65) == header


@pytest.mark.parametrize(
    ("position", "byte", "reason"),
    [
        (0, b"X", "does not speak the pserver protocol"),
        (4, b"\x01", "speaks version 1 of the protocol, this side version 8: the peer is older"),
        (5, b"\x00", "unknown purpose 0"),
        (5, b"\x0a", "unknown purpose 10"),
    ],
)
def test_preambles_that_are_refused(position: int, byte: bytes, reason: str) -> None:
    data = Preamble(Purpose.DATA, ID).pack()
    with pytest.raises(ProtocolError, match=reason):
        Preamble.unpack(data[:position] + byte + data[position + 1 :])


@pytest.mark.parametrize(
    ("position", "byte", "reason"),
    [
        (0, b"X", "not a message of this protocol .it begins with b'XM"),
        (2, b"\x09", "speaks version 9 of the protocol, this side version 8: this side is older"),
        (3, b"\x00", "unknown kind 0"),
        (3, b"\x63", "unknown kind 99"),
    ],
)
def test_headers_that_are_refused(position: int, byte: bytes, reason: str) -> None:
    data = Header(Kind.VALUE).pack()
    with pytest.raises(ProtocolError, match=reason):
        Header.unpack(data[:position] + byte + data[position + 1 :], 100)


def test_a_message_of_the_largest_size_and_one_more() -> None:
    assert Header.unpack(Header(Kind.VALUE, 0, 40, 60).pack(), 100).payload_bytes == 60
    for sizes in ((40, 61), (101, 0), (2**32 - 1, 2**64 - 1)):
        with pytest.raises(ProtocolError, match=f"{sum(sizes)} bytes was announced, but the limit is 100"):
            Header.unpack(Header(Kind.VALUE, 0, *sizes).pack(), 100)


@given(st.binary(min_size=PREAMBLE_BYTES, max_size=PREAMBLE_BYTES))
def test_random_bytes_are_no_preamble(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Preamble.unpack(data)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES))
def test_random_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Header.unpack(data, 100)
