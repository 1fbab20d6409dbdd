"""The text format of GnuTLS's verifier files, ``tpasswd`` and ``tpasswd.conf``. Sans-I/O.

.. code-block:: text

    tpasswd         user:verifier:salt:index
    tpasswd.conf    index:prime:generator

An index is a positive decimal number that leads from the first file to the second. All other fields use the base64 of
the first SRP implementation, which GnuTLS's ``lib/auth/srp_sb64.c`` defines: it has its own alphabet, and digits are
aligned to the right, as in a number, so the first group of four may be short. The number of digits in that group and
its value determine the number of bytes.
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
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how `surrogateescape` represents other bytes
# Nobody types these in a name, and GnuTLS ends a name at the first NUL.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_GROUP_LINE = re.compile(r"([1-9][0-9]{0,8}):([0-9A-Za-z./]+):([0-9A-Za-z./]+)")


class UserLine(NamedTuple):
    """One line of ``tpasswd``, with verifier and salt still encoded."""

    number: int  # of the line, from 1
    user: str
    verifier: str
    salt: str
    group_index: int


class BadLine(NamedTuple):
    """A line that cannot be read, and the reason."""

    number: int
    reason: str


class GroupLine(NamedTuple):
    """One line of ``tpasswd.conf``, without its index."""

    prime: int
    generator: int


def encode(data: bytes) -> str:
    """Encode bytes in GnuTLS's base64.

    Lossless unless the length is 2 modulo 3 and the first byte is 0: that byte is lost, as it is in GnuTLS. A salt of
    16 bytes is safe.

    Examples
    --------
    >>> encode(b"abc"), encode(bytes(16)), encode(bytes([19]))
    ('OM9Z', '000000000000000000000', 'J')
    """
    # With leading zero bytes, standard base64 gives the digits of the number in base 64, with extra leading zeros.
    digits = base64.b64encode(bytes(-len(data) % 3) + data).translate(_FROM_STANDARD).decode()
    if len(data) % 3 == 0:
        return digits
    first = digits[:4].lstrip("0") or "0"
    return first + digits[4:]


def decode(text: str) -> bytes:
    """Decode GnuTLS's base64; the text has at least one digit.

    Examples
    --------
    >>> decode("OM9Z"), list(decode("0"))
    (b'abc', [0])
    """
    short = len(text) % 4
    data = base64.b64decode(b"A" * (-len(text) % 4) + text.encode().translate(_TO_STANDARD))
    # One digit is one byte. Two digits are 1 byte if their value fits, otherwise 2; three are 2 bytes or 3.
    superfluous = {0: 0, 1: 2, 2: 1 if data[1] else 2, 3: 0 if data[0] else 1}[short]
    return data[superfluous:]


def encode_number(number: int) -> str:
    """Encode a positive number in GnuTLS's base64, as its big-endian bytes without leading zeros."""
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def decode_number(text: str) -> int:
    """Decode a number from GnuTLS's base64.

    Examples
    --------
    >>> decode_number("J"), decode_number("10")
    (19, 64)
    """
    return int.from_bytes(decode(text), "big")


def format_user(user: str, verifier: int, salt: bytes, index: int) -> str:
    """Return a line of ``tpasswd``, without the line end."""
    return f"{user}:{encode_number(verifier)}:{encode(salt)}:{index}"


def format_group(index: int, prime: int, generator: int) -> str:
    """Return a line of ``tpasswd.conf``, without the line end."""
    return f"{index}:{encode_number(prime)}:{encode_number(generator)}"


def parse_users(text: str) -> tuple[list[UserLine], list[BadLine]]:
    """Parse the lines of a ``tpasswd`` file. Return the users' lines and the malformed lines.

    Empty lines and lines that start with ``#`` are skipped. `text`: decoded with ``surrogateescape``.
    """
    found, bad = _matches(_USER_LINE, text, "user:verifier:salt:index")
    # Clients send the normal form of RFC 8265. A verifier depends on the name, so the server cannot convert the name.
    others = {number: why for number, m in found if (why := _why_unused(m[1]))}
    bad += [BadLine(number, why) for number, why in others.items()]
    users = [UserLine(number, m[1], m[2], m[3], int(m[4])) for number, m in found if number not in others]
    return users, bad


def _why_unused(name: str) -> str:
    """Return why no client sends this name, or "" if a client may send it."""
    try:
        prepared = prepare_name(name)
    except ConfigurationError as error:
        return f"no client can log in with this name: {error}"
    if prepared == name:
        return ""
    if unicodedata.is_normalized("NFC", name):
        return f"the name has characters of unusual width; clients send {prepared!r}"
    return "the name has letters with separate accents (it is not in NFC)"


def parse_groups(text: str) -> tuple[dict[int, GroupLine], list[BadLine]]:
    """Parse the lines of a ``tpasswd.conf`` file into a dict by index; see `parse_users`.

    If an index occurs more than once, its first line counts, as in GnuTLS.
    """
    found, bad = _matches(_GROUP_LINE, text, "index:prime:generator")
    groups: dict[int, GroupLine] = {}
    for number, match in found:
        index = int(match[1])
        if index in groups:
            bad.append(BadLine(number, f"an earlier line has the same index {index}"))
        else:
            groups[index] = GroupLine(decode_number(match[2]), decode_number(match[3]))
    return groups, bad


def name_in(line: str) -> str:
    """Return the name of the user to whom a line belongs, even if the line is malformed."""
    return line.removeprefix(_BYTE_ORDER_MARK).partition(":")[0]


def _matches(
    pattern: re.Pattern[str], text: str, form: str
) -> tuple[list[tuple[int, re.Match[str]]], list[BadLine]]:
    found: list[tuple[int, re.Match[str]]] = []
    bad: list[BadLine] = []
    # Not splitlines, which splits at more characters than GnuTLS does.
    for number, line in enumerate(text.removeprefix(_BYTE_ORDER_MARK).split("\n"), start=1):
        # Editors leave trailing blanks, and line ends of other systems; no field can end with them.
        stripped = line.rstrip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        match = pattern.fullmatch(stripped)
        if _NOT_UTF8.search(stripped):
            bad.append(BadLine(number, "the text is not UTF-8"))
        elif found_control := _CONTROL.search(stripped):
            code = ord(found_control[0])
            bad.append(BadLine(number, f"the line contains a control character, number {code}"))
        elif match is None:
            bad.append(BadLine(number, f"the line does not have the form {form}"))
        else:
            found.append((number, match))
    return found, bad
