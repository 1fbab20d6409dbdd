"""Count the items in a head before any of them is made.

One byte of msgpack may become an object of some 80 bytes that takes a microsecond to make, such as an empty list. So a
size limit alone does not bound the cost of a message. With at most one item per `_BYTES_PER_ITEM` bytes of the limit,
the objects need a tenth of the memory that the bytes may need. msgpack's own limits apply to single lists and not to
the total of nested ones. It can skip objects, but not count them, so they are counted here: runs of similar ones with
regular expressions, the others one by one. That is about as fast as making them, and is only done if there are more
bytes than allowed items.
"""

import re
from collections.abc import Callable
from typing import Final

from pconnect.errors import ProtocolError

__all__ = [
    "ALWAYS_ALLOWED",
    "MAX_TABLE_BYTES",
    "MAX_TABLE_ITEMS",
    "Look",
    "count_items",
    "items_limit",
    "items_of_dtype",
]

#: Called repeatedly during long computations. May raise, for example at a deadline.
Look = Callable[[], None]

#: This many items are always allowed. They take some 100 MB and a second.
ALWAYS_ALLOWED: Final = 2**20
_BYTES_PER_ITEM: Final = 2**10

#: Limits for the table of buffers. The receiver reads it as soon as it arrives, while other connections wait. Buffers
#: beyond the limits are written into the tree.
MAX_TABLE_ITEMS: Final = 2**20
MAX_TABLE_BYTES: Final = 2**24

# The size of an item, including its first byte, by that byte; a list or dict counts without its items. Items whose size
# is in the following bytes have 0 here; see `_long_item`.
_SIZES: Final = bytearray(256)
_SIZES[:0xA0] = _SIZES[0xE0:] = b"\1" * 0xA0
_SIZES[0xE0:] = b"\1" * 0x20
_SIZES[0xA0:0xC0] = bytes(range(1, 33))
_SIZES[0xC0] = _SIZES[0xC2] = _SIZES[0xC3] = 1  # None, False, True
_SIZES[0xCA:0xD9] = bytes([5, 9, 2, 3, 5, 9, 2, 3, 5, 9, 3, 4, 6, 10, 18])  # numbers, short extensions

# By first byte: the number of bytes of the length; 1 or 2 if it counts items inside (per entry), or 0 if it counts
# bytes; and the number of further bytes.
_LENGTHS: Final = {
    0xC4: (1, 0, 0), 0xC5: (2, 0, 0), 0xC6: (4, 0, 0),  # bytes
    0xC7: (1, 0, 1), 0xC8: (2, 0, 1), 0xC9: (4, 0, 1),  # extensions
    0xD9: (1, 0, 0), 0xDA: (2, 0, 0), 0xDB: (4, 0, 0),  # str
    0xDC: (2, 1, 0), 0xDD: (4, 1, 0), 0xDE: (2, 2, 0), 0xDF: (4, 2, 0),  # lists and dicts
}  # fmt: skip
_RUN: Final = 2**12
_SHORT_RUN: Final = 16


def _one_of(size: int) -> bytes:
    """Return a pattern for any item of this size, except lists and dicts."""
    codes = bytes(code for code in range(256) if _SIZES[code] == size and not 0x80 <= code < 0xA0)
    return b"[%b]" % re.escape(codes) + b"." * (size - 1)


_FIXED: Final = sorted(set(_SIZES) - {0})
#: By size, a run of items of that size.
_ALIKE: Final = {size: re.compile(b"(?:%b){1,%d}" % (_one_of(size), _RUN), re.DOTALL) for size in _FIXED}
_ALIKE[1] = re.compile(b"[%b]{1,%d}" % (re.escape(bytes(c for c in range(256) if _SIZES[c] == 1)), 16 * _RUN))
# The group matches items that may contain others.
_ANY: Final = b"([\x80-\x9f])|" + b"|".join(map(_one_of, _FIXED))
_ONE: Final = re.compile(_ANY, re.DOTALL)
_SOME: Final = re.compile(b"(?:%b){1,%d}" % (_ANY, _RUN), re.DOTALL)
_CHILDREN_OF: Final = bytes(
    0 if not 0x80 <= c < 0xA0 else (c & 15) * (2 if c < 0x90 else 1) for c in range(256)
)


def items_limit(max_message_bytes: int) -> int:
    """Return the maximum number of items in a message."""
    return max(ALWAYS_ALLOWED, max_message_bytes // _BYTES_PER_ITEM)


def items_of_dtype(description: object) -> int:
    """Return the number of items in the description of a dtype."""
    return 1 + sum(map(items_of_dtype, description)) if isinstance(description, list) else 1


def count_items(head: memoryview, most: int, look: Look = lambda: None) -> tuple[int, int]:
    """Return the number of items, and the number of those that are not inside another. Stops soon after `most`.

    If no more items stand alone than expected, then all announced contents are present, because missing contents reduce
    that number.

    Raises `ProtocolError` if the data ends within an item.
    """
    position, size = 0, head.nbytes
    count = inside = 0
    while position < size and count <= most:
        code = head[position]
        if _SIZES[code]:
            end, items, children = _short_items(head, position, _SIZES[code])
        else:
            end, items, children = _long_item(head, position, code)
        position = end
        count += items
        inside += children
        look()
    if position > size:
        raise ProtocolError("malformed value: it ends within an item")
    return count, count - inside


def _short_items(head: memoryview, position: int, size: int) -> tuple[int, int, int]:
    """Return the end of some items, their number, and the number of items that they announce as contents."""
    run = _ALIKE[size].match(head, position)
    if run is None:
        raise ProtocolError("malformed value: it ends within an item")
    end = run.end()
    items = (end - position) // size
    if items >= _SHORT_RUN:
        return end, items, sum(run[0].translate(_CHILDREN_OF)) if size == 1 else 0
    run = _SOME.match(head, position)
    assert run is not None  # noqa: S101 - there is at least one
    end = run.end()
    lists_and_dicts = _ONE.findall(head, position, end)
    return end, len(lists_and_dicts), sum(b"".join(lists_and_dicts).translate(_CHILDREN_OF))


def _long_item(head: memoryview, position: int, code: int) -> tuple[int, int, int]:
    """Return the same for one item whose size, or number of contents, follows its first byte."""
    if code not in _LENGTHS:
        raise ProtocolError("malformed value: a byte that msgpack does not use")
    length_bytes, children, more = _LENGTHS[code]
    begin = position + 1
    length = int.from_bytes(head[begin : begin + length_bytes], "big")
    return begin + length_bytes + more + (0 if children else length), 1, length * children
