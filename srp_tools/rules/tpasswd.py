"""The text of GnuTLS's two files of verifiers, ``tpasswd`` and ``tpasswd.conf``, without reading or writing.

.. code-block:: text

    tpasswd         user:verifier:salt:index
    tpasswd.conf    index:prime:generator

An index is a positive decimal number and leads from the first file to the second. Everything else is in the
base64 of the first SRP implementation, of which GnuTLS's ``lib/auth/srp_sb64.c`` is the definition: an
alphabet of its own, and digits aligned to the right as in a number, so that the first group of four may be
short. How many bytes a text stands for follows from that group's number of digits and its value.
"""

import base64
import re
import unicodedata
from typing import NamedTuple

from srp_tools.errors import ConfigurationError
from srp_tools.rules.precis import prepare_name

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./"
_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_STANDARD = bytes.maketrans(_ALPHABET, _STANDARD)
_FROM_STANDARD = bytes.maketrans(_STANDARD, _ALPHABET)

_USER_LINE = re.compile(r"([^:]+):([0-9A-Za-z./]+):([0-9A-Za-z./]+):([1-9][0-9]{0,8})")
_BYTE_ORDER_MARK = "\ufeff"
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of other bytes
# Nobody types these in a name, and for GnuTLS a name ends at the first NUL.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_GROUP_LINE = re.compile(r"([1-9][0-9]{0,8}):([0-9A-Za-z./]+):([0-9A-Za-z./]+)")


class UserLine(NamedTuple):
    """One line of ``tpasswd``; verifier and salt still as text."""

    number: int  # of the line, from 1
    user: str
    verifier: str
    salt: str
    group_index: int


class BadLine(NamedTuple):
    """A line that cannot be read, and why."""

    number: int
    reason: str


class GroupLine(NamedTuple):
    """One line of ``tpasswd.conf``, but for its index."""

    prime: int
    generator: int


def encode(data: bytes) -> str:
    """Write bytes in GnuTLS's base64.

    Lossless unless the length is 2 modulo 3 and the first byte is 0: that byte is lost. (GnuTLS, too, loses
    it. A salt of 16 bytes is safe.)

    Examples
    --------
    >>> encode(b"abc"), encode(bytes(16)), encode(bytes([19]))
    ('OM9Z', '000000000000000000000', 'J')
    """
    # Standard base64 of the bytes behind enough zeros is the number in digits of 6 bits, behind superfluous
    # zeros.
    digits = base64.b64encode(bytes(-len(data) % 3) + data).translate(_FROM_STANDARD).decode()
    if len(data) % 3 == 0:
        return digits
    first = digits[:4].lstrip("0") or "0"
    return first + digits[4:]


def decode(text: str) -> bytes:
    """Read bytes in GnuTLS's base64; at least one digit.

    Examples
    --------
    >>> decode("OM9Z"), list(decode("0"))
    (b'abc', [0])
    """
    short = len(text) % 4
    data = base64.b64decode(b"A" * (-len(text) % 4) + text.encode().translate(_TO_STANDARD))
    # One digit stands for one byte; two or three for the fewest bytes their value fits into, but for 1 or 2
    # at least.
    superfluous = {0: 0, 1: 2, 2: 1 if data[1] else 2, 3: 0 if data[0] else 1}[short]
    return data[superfluous:]


def encode_number(number: int) -> str:
    """Write a positive number in GnuTLS's base64, as its big-endian bytes without leading zeros."""
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def decode_number(text: str) -> int:
    """Read a number in GnuTLS's base64.

    Examples
    --------
    >>> decode_number("J"), decode_number("10")
    (19, 64)
    """
    return int.from_bytes(decode(text), "big")


def format_user(user: str, verifier: int, salt: bytes, index: int) -> str:
    """Return a line of ``tpasswd``, without its end."""
    return f"{user}:{encode_number(verifier)}:{encode(salt)}:{index}"


def format_group(index: int, prime: int, generator: int) -> str:
    """Return a line of ``tpasswd.conf``, without its end."""
    return f"{index}:{encode_number(prime)}:{encode_number(generator)}"


def parse_users(text: str) -> tuple[list[UserLine], list[BadLine]]:
    """Read the lines of a ``tpasswd``: those of users, and those that are not of its form.

    Empty lines and those that begin with ``#`` are passed over. `text`: decoded with ``surrogateescape``.
    """
    found, bad = _matches(_USER_LINE, text, "user:verifier:salt:index")
    # Clients send the form of RFC 8265. A verifier depends on the name, so the server cannot take one for the other.
    others = {number: why for number, m in found if (why := _why_unused(m[1]))}
    bad += [BadLine(number, why) for number, why in others.items()]
    users = [UserLine(number, m[1], m[2], m[3], int(m[4])) for number, m in found if number not in others]
    return users, bad


def _why_unused(name: str) -> str:
    """Return why no client sends this name; empty if one may."""
    try:
        prepared = prepare_name(name)
    except ConfigurationError as error:
        return f"no client can log in with this name: {error}"
    if prepared == name:
        return ""
    if unicodedata.is_normalized("NFC", name):
        return f"the name has characters of unusual width; clients send {prepared!r}"
    return "the name has letters and accents apart (it is not in NFC)"


def parse_groups(text: str) -> tuple[dict[int, GroupLine], list[BadLine]]:
    """Read the lines of a ``tpasswd.conf``, by their index; see `parse_users`.

    Of lines with the same index the first counts, as it does for GnuTLS.
    """
    found, bad = _matches(_GROUP_LINE, text, "index:prime:generator")
    groups: dict[int, GroupLine] = {}
    for number, match in found:
        index = int(match[1])
        if index in groups:
            bad.append(BadLine(number, f"the index {index} stands in an earlier line already"))
        else:
            groups[index] = GroupLine(decode_number(match[2]), decode_number(match[3]))
    return groups, bad


def name_in(line: str) -> str:
    """Return the name of the user whose line this is, or would be if it were not malformed."""
    return line.removeprefix(_BYTE_ORDER_MARK).partition(":")[0]


def _matches(
    pattern: re.Pattern[str], text: str, form: str
) -> tuple[list[tuple[int, re.Match[str]]], list[BadLine]]:
    found: list[tuple[int, re.Match[str]]] = []
    bad: list[BadLine] = []
    # Not splitlines: it takes more for the end of a line than GnuTLS does.
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split("\n"), start=1):
        # Editors leave blanks and the ends of lines of other systems; no field can end with one.
        stripped = line.rstrip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        match = pattern.fullmatch(stripped)
        if _NOT_UTF8.search(stripped):
            bad.append(BadLine(number, "the text is not UTF-8"))
        elif found_control := _CONTROL.search(stripped):
            code = ord(found_control[0])
            bad.append(BadLine(number, f"there is a control character, number {code}, in the line"))
        elif match is None:
            bad.append(BadLine(number, f"the line is not of the form {form}"))
        else:
            found.append((number, match))
    return found, bad
