"""GnuTLS's base64 and the lines of its files. Against the real program it is tested in `test_verifiers`."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srp_tools.errors import CredentialError
from srp_tools.tpasswd import (
    GroupLine,
    UserLine,
    decode,
    decode_number,
    encode,
    encode_number,
    format_group,
    format_user,
    parse_groups,
    parse_users,
)

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./"


@given(st.integers(min_value=1, max_value=2**8192))
def test_numbers_are_digits_of_six_bits(number: int) -> None:
    # An independent reading: positional notation, with zeros in front only to fill a group of four.
    text = encode_number(number)
    value = 0
    for digit in text:
        value = value * 64 + ALPHABET.index(digit)
    assert value == number
    assert decode_number(text) == number
    assert len(text.lstrip("0")) >= len(text) - 3


@given(st.binary(min_size=1, max_size=80), st.integers(0, 4))
def test_bytes_come_back_but_for_the_one_case_of_the_format(tail: bytes, zeros: int) -> None:
    data = bytes(zeros) + tail
    lost = len(data) % 3 == 2 and data[0] == 0
    assert decode(encode(data)) == (data[1:] if lost else data)


def test_salts_of_16_bytes_come_back_whatever_they_begin_with() -> None:
    for first, second in itertools.product(range(256), (0, 1, 63, 64, 255)):
        salt = bytes([first, second]) + bytes(14)
        assert decode(encode(salt)) == salt


# What GnuTLS's _gnutls_sbase64_encode and _gnutls_sbase64_decode give: each branch of their "special care".
@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("00", "0"),
        ("3f", "/"),
        ("40", "10"),
        ("ff", "3/"),
        ("0100", "40"),
        ("0fff", "//"),
        ("1000", "100"),
        ("ffff", "F//"),
        ("000000", "0000"),
        ("00000f", "000F"),
        ("01000000", "10000"),
    ],
)
def test_short_first_groups(data: str, text: str) -> None:
    assert encode(bytes.fromhex(data)) == text
    assert decode(text) == bytes.fromhex(data)


def test_three_digits_may_stand_for_three_bytes() -> None:
    # Nobody writes this, but GnuTLS reads it so.
    assert decode("G00") == bytes([1, 0, 0])


@given(
    st.from_regex(r"[a-z]{1,9}", fullmatch=True),
    st.integers(1, 2**3072),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 999_999_999),
)
def test_lines_come_back(name: str, number: int, salt: bytes, index: int) -> None:
    line = format_user(name, number, salt, index)
    (read,) = parse_users(f"{line}\n", "tpasswd")
    assert (read.number, read.user, decode_number(read.verifier)) == (1, name, number)
    assert (decode(read.salt), read.group_index) == (salt, index)
    assert parse_groups(format_group(index, number, 19), "conf") == {index: GroupLine(number, 19)}


def test_empty_lines_are_passed_over_but_counted() -> None:
    assert parse_users("\n\na:1:2:3\n", "tpasswd") == [UserLine(3, "a", "1", "2", 3)]
    assert parse_users("", "tpasswd") == []


@pytest.mark.parametrize(
    "line",
    [
        *("a", "a:1:2", ":1:2:3", "a:1:2:3:4", "a::2:3", "a:1::3", "a:1:2:", "a:1:2:0", "a:1:2:x"),
        *("a:1:2:1234567890", "a:1+:2:3", "a:1:2=:3", "a:1:2:3 ", "a:1:2:3\r", "a:1:2:\u0663"),
        *("# nothing", "a:é:2:3", " "),
    ],
)
def test_malformed_user_line_is_told_with_its_number(line: str) -> None:
    with pytest.raises(CredentialError, match=r"^folder/tpasswd, line 2: .*user:verifier:salt:index"):
        parse_users(f"a:1:2:3\n{line}\n", "folder/tpasswd")


@pytest.mark.parametrize("line", ["1", "1:2", "0:1:2", "x:1:2", ":1:2", "1::2", "1:2:", "1:2:3:4", "1:-:2"])
def test_malformed_group_line_is_told_with_its_number(line: str) -> None:
    with pytest.raises(CredentialError, match=r"^conf, line 2: .*index:prime:generator"):
        parse_groups(f"9:1:2\n{line}\n", "conf")


def test_repeated_index_is_told() -> None:
    with pytest.raises(CredentialError, match="line 3: the index 7"):
        parse_groups("7:1:2\n8:1:2\n7:1:2\n", "conf")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_users, parse_groups):
        with contextlib.suppress(CredentialError):
            parse(text, "file")
