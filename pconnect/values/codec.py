"""Values as bytes: a small head, and the memory of large arrays beside it.

A value becomes a *head* and a list of *buffers*. The head is two msgpack objects, one after the other:

- the **table** lists the buffers in order: ``[kind, bytes]`` for bytes and bytearray, ``[kind, dtype,
  shape]`` for arrays (``kind`` says which, and the memory order). It comes first, so that the receiver knows
  what to allocate before it has looked at anything else;
- the **tree** is the value. None, bool, float, str, short bytes, int of up to 64 bits, list, and dict with
  plain keys are msgpack's own types. Anything else is a list which begins with a *mark*: an extension of no
  data whose code is an entry of `pconnect.values.builtin_types`; the parts follow. No value of a user is written as a
  mark, so a plain list is never mistaken. A buffer stands in the tree as the mark 0; the first in the tree is
  the first of the table.

A value that is nested very deeply has *branches* between the two, see `pconnect.values.encoder`; a table that begins
with a number says how many. The mark 11 stands for the next branch, as 0 does for the next buffer.

Marked lists, rather than extensions that contain msgpack, let msgpack read the whole tree in one pass in C,
in which nesting costs no recursion; and references without an index cannot name one buffer twice.

Nothing here knows how bytes travel. What is received cannot name anything to call or import: a mark may lead to a
package, and a name to a registered type, but only to those of our own tables.
"""

from collections.abc import Collection
from typing import Any, Final

import msgpack

from pconnect.errors import UnsupportedValueError
from pconnect.values import optional_types, registry
from pconnect.values.builtin_types import LARGE_INT, ValueType
from pconnect.values.decoder import BY_CODE, NO_BUFFERS, Incoming, decode, unpack
from pconnect.values.encoder import BRANCH_CODE, BUFFER_CODE, TreeWriter

__all__ = ["Incoming", "decode", "encode", "pack", "unpack"]

# Up to here a copy is cheaper than one more buffer, which costs a system call and a TLS record on each side.
_INLINE_BYTES: Final = 4096
# What is written without being taken apart: these, short texts, and a list of so many of them or of lists and dicts of
# them. Most messages are that: a number, or nothing, or the arguments or the result of a short job.
_SMALL: Final = frozenset({type(None), bool, int, float})
_SMALL_TEXTS: Final = frozenset({str, bytes})
_STR: Final = frozenset({str})
_SMALL_ITEMS: Final = 16
_SMALL_BYTES: Final = 256

_MARKS: Final = {code: msgpack.ExtType(code, b"") for code in (BUFFER_CODE, BRANCH_CODE, *BY_CODE)}


def _mark_large_int(value: int) -> list[object]:
    return [_MARKS[LARGE_INT.code], *LARGE_INT.write(value)]


def _packer() -> msgpack.Packer:
    # strict_types leaves tuples and subclasses to us; surrogatepass keeps lone surrogates, which file names
    # have. All that is left for `default` is an int of more than 64 bits.
    return msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", default=_mark_large_int)


# One for all is safe for small values alone: it calls nothing in Python, so no other thread can use it meanwhile. A
# packer keeps the largest memory that it ever needed.
_pack_small: Final = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass").pack


def encode(value: object) -> tuple[bytes, list[memoryview]]:
    """Write a value as a head and the buffers to be sent after it.

    Parameters
    ----------
    value
        Any supported value. Only exact types are: a subclass would arrive as something else.

    Returns
    -------
    head : bytes
        To be given to `decode`.
    buffers : list of memoryview
        Flat bytes, none of them empty. Contiguous arrays, bytes and bytearrays are referenced, not copied:
        the value must not be changed before the buffers are sent. Other arrays have been copied.

    Raises
    ------
    UnsupportedValueError
        The value, or the part of it that the text names as a Python expression, cannot be sent.

    Examples
    --------
    >>> import numpy as np
    >>> head, buffers = encode({"step": 3, "field": np.zeros((100, 100))})
    >>> len(head), [buffer.nbytes for buffer in buffers]
    (26, [80000])
    >>> encode([1, {"a": [object()]}])
    Traceback (most recent call last):
    pconnect.errors.UnsupportedValueError: value[1]['a'][0]: cannot send <class 'object'>
    """
    return _write(value, _INLINE_BYTES)


def _write(value: Any, inline_bytes: int | None) -> tuple[bytes, list[memoryview]]:
    kind = type(value)
    if kind in _SMALL or (kind is str and len(value) <= _INLINE_BYTES) or (kind is list and _is_small(value)):
        try:
            return NO_BUFFERS + _pack_small(value), []
        except OverflowError:  # an int of more than 64 bits
            pass
    writer = TreeWriter(inline_bytes, _MARKS, _find_entry)
    tree = writer.write(value)
    packer = _packer()
    try:
        if writer.branches:
            table = [len(writer.branches), *writer.table]
            return b"".join(map(packer.pack, (table, *writer.branches, tree))), writer.buffers
        return packer.pack(writer.table) + packer.pack(tree), writer.buffers
    except ValueError as error:
        raise UnsupportedValueError(
            f"value: a part is beyond msgpack's limits of length, or its dtype of nesting ({error})"
        ) from error


def _is_small(items: Collection[Any], levels: int = 1) -> bool:
    """Return whether these, and what is in them down to so many levels, is little and has no marks."""
    if len(items) > _SMALL_ITEMS:
        return False
    for item in items:
        kind = type(item)
        if kind in _SMALL or (kind in _SMALL_TEXTS and len(item) <= _SMALL_BYTES):
            continue
        if not levels:
            return False
        if kind is dict:
            if item and not (
                _STR.issuperset(map(type, item)) and _is_small(item, 0) and _is_small(item.values(), 0)
            ):
                return False
        elif kind is not list or not _is_small(item, levels - 1):
            return False
    return True


def _find_entry(kind: type) -> ValueType | None:
    return registry.find_entry(kind) or optional_types.find_entry(kind)


def pack(value: object) -> bytes:
    """Write a value as bytes alone: as `encode`, but all data is copied into the head."""
    return _write(value, None)[0]
