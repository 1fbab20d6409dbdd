"""GnuTLS's base64 and the lines of its files. `integration/test_srptool` tests them with the real program."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srp_tools.rules.tpasswd import (
    BadLine,
    GroupLine,
    UserLine,
    decode,
    decode_number,
    encode,
    encode_number,
    format_group,
    format_user,
    name_in,
    parse_groups,
    parse_users,
)

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./"


@given(st.integers(min_value=1, max_value=2**8192))
def test_numbers_are_digits_of_six_bits(number: int) -> None:
    # An independent definition: positional notation, with leading zeros only to fill a group of four.
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


# Results of GnuTLS's _gnutls_sbase64_encode and _gnutls_sbase64_decode, for each branch of their "special care".
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
    # Nobody writes this, but GnuTLS reads it this way.
    assert decode("G00") == bytes([1, 0, 0])


@given(
    st.from_regex(r"[a-z]{1,9}", fullmatch=True),
    st.integers(1, 2**3072),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 999_999_999),
)
def test_lines_come_back(name: str, number: int, salt: bytes, index: int) -> None:
    line = format_user(name, number, salt, index)
    ((read,), _) = parse_users(f"{line}\n")
    assert (read.number, read.user, decode_number(read.verifier)) == (1, name, number)
    assert (decode(read.salt), read.group_index) == (salt, index)
    assert parse_groups(format_group(index, number, 19)) == ({index: GroupLine(number, 19)}, [])


def test_empty_lines_and_comments_are_passed_over_but_counted() -> None:
    assert parse_users("\n# users\n#b:1:2:3\na:1:2:3\n") == ([UserLine(4, "a", "1", "2", 3)], [])
    assert parse_users("") == ([], [])


@pytest.mark.parametrize("text", ["a:1:2:3\r\n", "a:1:2:3 \t\n", "\ufeffa:1:2:3\n", "a:1:2:3"])
def test_what_editors_add_changes_nothing(text: str) -> None:
    assert parse_users(text) == ([UserLine(1, "a", "1", "2", 3)], [])


@pytest.mark.parametrize(
    "line",
    [
        *("a", "a:1:2", ":1:2:3", "a:1:2:3:4", "a::2:3", "a:1::3", "a:1:2:", "a:1:2:0", "a:1:2:x"),
        *("a:1:2:1234567890", "a:1+:2:3", "a:1:2=:3", "a:1:2:\u0663", "a:\u00e9:2:3", "a:1:2 :3"),
    ],
)
def test_malformed_user_line_is_reported_with_its_number(line: str) -> None:
    (users, bad) = parse_users(f"a:1:2:3\n{line}\nb:1:2:3\n")
    assert [user.number for user in users] == [1, 3]
    assert bad == [BadLine(2, "the line does not have the form user:verifier:salt:index")]


@pytest.mark.parametrize("control", ["\0", "\t", "\r", "\x1b", "\x7f", "\x85"])
@pytest.mark.parametrize("line", ["a{}b:1:2:3", "{}a:1:2:3", "a:1{}:2:3", "a{}b"])
def test_line_with_a_control_character_is_reported(line: str, control: str) -> None:
    reason = f"the line contains a control character, number {ord(control)}"
    text = line.format(control)
    assert parse_users(f"a:1:2:3\n{text}\nb:1:2:3\n")[1] == [BadLine(2, reason)]
    assert parse_groups(f"{text}\n")[1] == [BadLine(1, reason)]


def test_line_that_is_not_utf_8_is_reported() -> None:
    text = b"m\xfcller:1:2:3\na:1:2:3\n".decode(errors="surrogateescape")
    assert parse_users(text) == ([UserLine(2, "a", "1", "2", 3)], [BadLine(1, "the text is not UTF-8")])


@pytest.mark.parametrize("line", ["1", "1:2", "0:1:2", "x:1:2", ":1:2", "1::2", "1:2:", "1:2:3:4", "1:-:2"])
def test_malformed_group_line_is_reported_with_its_number(line: str) -> None:
    assert parse_groups(f"9:1:2\n{line}\n") == (
        {9: GroupLine(1, 2)},
        [BadLine(2, "the line does not have the form index:prime:generator")],
    )


def test_of_a_repeated_index_the_first_counts() -> None:
    groups, (bad,) = parse_groups("7:1:2\n8:1:2\n7:4:5\n")
    assert groups[7] == GroupLine(1, 2)
    assert bad == BadLine(3, "an earlier line has the same index 7")


@pytest.mark.parametrize(
    ("line", "name"), [("a:1:2:3", "a"), ("a", "a"), ("\ufeffa:x", "a"), ("", ""), ("b\udcfc:1", "b\udcfc")]
)
def test_name_in_any_line(line: str, name: str) -> None:
    assert name_in(line) == name


@given(st.text(st.characters(exclude_characters="\n")))
def test_any_line_costs_its_own_user_only(line: str) -> None:
    for parse in (parse_users, parse_groups):
        good = "5:1:2:3" if parse is parse_users else "5:1:2"
        found, bad = parse(f"{good}\n{line}\n")
        assert len(bad) <= 1
        assert len(found) in (1, 2)
