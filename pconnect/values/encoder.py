"""Values as bytes: a small head, and the memory of large arrays beside it.

A value becomes a *head* and a list of *buffers*. The head consists of two msgpack objects:

- The **table** lists the buffers in order: ``[kind, bytes]`` for bytes and bytearray, ``[kind, dtype, shape]`` for
  arrays (``kind`` includes the memory order). It comes first, so that the receiver can allocate the buffers.
- The **tree** is the value. None, bool, float, str, short bytes, int of up to 64 bits, list, and dict with plain keys
  are msgpack's own types. All other values are lists that start with a *mark*, followed by their parts. A mark is an
  extension without data, whose code is an entry of `pconnect.values.builtin_types`. No user value is written as a mark,
  so a plain list cannot be mistaken for one. The mark 0 refers to the next buffer in the table.

Unlike extensions that contain msgpack, marked lists let msgpack's C code read the whole tree in one pass without
recursion. And because references have no index, no buffer can be named twice.

One walk over the value handles both success and failure: the path to a part that cannot be sent is assembled only while
the error passes the containers on its way out. The walk is recursive, which Python and msgpack allow for some hundred
levels. Deeper parts are *deferred*: the mark 11 takes their place, and each becomes a separate tree, a *branch*. A
table that starts with a number has that many branches. They are written depth first, so that an endless value reaches
the limit first. But between the table and the tree they are ordered by level, the deepest first, and within a level
from left to right. A reader needs this order: each mark means the next branch, so none can be named twice or contain
itself.

Received data cannot name anything to call or import: a mark may lead to a package, and a name to a registered type, but
only to those in our own tables, or to an imported class, see `pconnect.values.named_types`.
"""

import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgpack
import numpy as np

from pconnect.errors import UnsupportedValueError
from pconnect.values import dtypes, registry
from pconnect.values.builtin_types import (
    ARRAY,
    ATOMS,
    BUILTIN,
    BY_TYPE,
    BYTEARRAY,
    DICT,
    LARGE_INT,
    ValueType,
)
from pconnect.values.item_limit import MAX_TABLE_BYTES, MAX_TABLE_ITEMS, items_of_dtype

# The marks for something outside the tree. The entries of `builtin_types` have the others.
BUFFER_CODE: Final = 0
BRANCH_CODE: Final = 11

_ARRAY_KINDS: Final = (dtypes.C_ORDER, dtypes.F_ORDER)
_BYTES: Final = 2
_BYTEARRAY: Final = 3
BUFFER_KINDS: Final = (*_ARRAY_KINDS, _BYTES, _BYTEARRAY)

# Three calls per level of a branch stay below Python's recursion limit of 1000, even in a notebook. msgpack writes 511
# levels and reads 1024.
_BRANCH_DEPTH: Final = 200
# 10,000 levels. For the reader, that is 50 branches of 1024 levels: Python's recursive C code, such as hashing tuples,
# then needs less than half of a stack of 8 MiB.
MAX_NESTED_BRANCHES: Final = 50
# Below this depth, each branch checks for containers that contain themselves. Nearly all values are flatter, but such a
# container gets here, and before it has branched: the walk follows its first branch until it is refused.
_WATCHED_DEPTH: Final = 16
_SHOWN_STEPS: Final = 12  # of a path in an error; longer ones usually end in a value that contains itself

_STR: Final = frozenset({str})
_DATA: Final = frozenset({bytes, bytearray, np.ndarray})  # contain no other values, so depth does not matter

# Up to this size, a copy is cheaper than another buffer, which costs a system call and a TLS record on each side.
_INLINE_BYTES: Final = 4096
# Values that are written unchanged: these types, short texts, and short lists of them, or of lists and dicts of them.
# Most messages are like this: a number, or empty, or the arguments or the result of a short job.
_SMALL: Final = frozenset({type(None), bool, int, float})
_SMALL_TEXTS: Final = frozenset({str, bytes})
_SMALL_ITEMS: Final = 16
_SMALL_BYTES: Final = 256
NO_BUFFERS: Final = b"\x90"  # a table of length 0
_MARKS: Final = {code: msgpack.ExtType(code, b"") for code in range(128)}

# From the index of a part to the text before and after the path of its container.
_Step = Callable[[int], tuple[str, str]]


class _RefusedError(Exception):
    """A part of a value cannot be sent. Collects the path to it on the way out, innermost step first."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        super().__init__(reason)
        self.cause = cause
        self.place = "value"
        self.steps: list[tuple[str, str]] = []

    def __str__(self) -> str:
        steps = self.steps[::-1]
        path = self.place
        for before, after in steps[:_SHOWN_STEPS]:
            path = before + path + after
        return f"{path}{'...' if len(steps) > _SHOWN_STEPS else ''}: {self.args[0]}"


class TreeWriter:
    """Takes one value apart. Bytes, bytearrays and arrays of more than `inline_bytes` become buffers.

    `branches`: the trees of the deferred parts, in reading order. `table` and `buffers`: the description and the memory
    of each buffer, in the order of their marks in the branches and, at the end, the tree.
    """

    __slots__ = (
        "_above", "_deferred", "_depth", "_find_entry", "_inline_bytes", "_marks", "_table_items", "branches",
        "buffers", "table",
    )  # fmt: skip

    def __init__(
        self,
        inline_bytes: int | None,
        marks: Mapping[int, object],
        find_entry: Callable[[type], ValueType | None] = lambda _: None,
    ) -> None:
        self.branches: Sequence[object] = ()
        self.table: list[list[object]] = []
        self.buffers: list[memoryview] = []
        self._inline_bytes = inline_bytes
        self._marks = marks
        self._find_entry = find_entry
        self._table_items = 2  # the table itself and the number of branches
        self._depth = 0
        self._above: set[int] | None = None  # ids of the enclosing containers, from _WATCHED_DEPTH on
        self._deferred: list[object] | None = None

    def write(self, value: object) -> object:
        """Return the tree of `value`. Raises the errors of `encode`; after an error, the writer is unusable."""
        try:
            tree = self._node(value)
            if self._deferred is not None:
                self._write_branches(self._deferred)
            return tree
        except _RefusedError as refusal:
            raise UnsupportedValueError(str(refusal)) from refusal.cause
        except RecursionError:
            raise UnsupportedValueError("value: nested too deeply for the remaining Python stack") from None

    def _write_branches(self, deferred: list[object]) -> None:
        levels: list[tuple[list[object], list[list[object]], list[memoryview]]]
        levels = [([], self.table, self.buffers)]
        pending = [(1, value) for value in reversed(deferred)]
        while pending:
            level, value = pending.pop()
            if level == MAX_NESTED_BRANCHES:
                raise _RefusedError(f"nested deeper than {MAX_NESTED_BRANCHES * _BRANCH_DEPTH} levels")
            if level == len(levels):
                levels.append(([], [], []))
            trees, self.table, self.buffers = levels[level]
            self._deferred = deferred = []
            try:
                trees.append(self._node(value))
            except _RefusedError as refusal:
                refusal.place = f"a part of value below {level * _BRANCH_DEPTH} levels"
                refusal.steps.clear()
                raise
            pending += [(level + 1, value) for value in reversed(deferred)]
        self.branches = [tree for trees, _, _ in reversed(levels) for tree in trees]
        self.table = [entry for _, table, _ in reversed(levels) for entry in table]
        self.buffers = [buffer for _, _, buffers in reversed(levels) for buffer in buffers]

    def _node(self, value: Any) -> object:
        kind = type(value)
        if kind in ATOMS:
            return value
        depth = self._depth
        if depth >= _WATCHED_DEPTH:
            if depth == _BRANCH_DEPTH and kind not in _DATA:
                return self._defer(value)
            self._watch(value)
        self._depth = depth + 1
        if write := _WRITERS.get(kind):
            node = write(self, value)
        elif entry := BY_TYPE.get(kind) or self._further_entry(kind):
            node = self._marked(entry, value)
        else:
            raise _RefusedError(_reason(kind))
        self._depth = depth
        if self._above:
            self._above.discard(id(value))
        return node

    def _further_entry(self, kind: type) -> ValueType | None:
        try:
            return self._find_entry(kind)
        except UnsupportedValueError as error:
            raise _RefusedError(str(error), error.__cause__) from None

    def _defer(self, value: object) -> object:
        if self._deferred is None:
            self._deferred = []
        self._deferred.append(value)
        return self._marks[BRANCH_CODE]

    def _watch(self, value: object) -> None:
        if self._above is None:
            self._above = set()
        if id(value) in self._above:
            raise _RefusedError("contains itself")
        self._above.add(id(value))

    def _nodes(self, parts: Any, step: _Step) -> list[object]:
        if ATOMS.issuperset(map(type, parts)):
            return list(parts)
        nodes: list[object] = []
        try:
            for part in parts:
                nodes.append(part if type(part) in ATOMS else self._node(part))  # noqa: PERF401 its length is needed
        except _RefusedError as refusal:
            refusal.steps.append(step(len(nodes)))
            raise
        return nodes

    def _marked(self, entry: ValueType, value: object) -> list[object]:
        try:
            parts = entry.write(value)
        except UnsupportedValueError as error:
            raise _RefusedError(str(error), error.__cause__) from None
        return [self._marks[entry.code], *self._nodes(parts, lambda i: _part_step(entry, i))]

    def _list(self, value: list[object]) -> list[object]:
        return value if ATOMS.issuperset(map(type, value)) else self._nodes(value, _item_step)

    def _dict(self, value: dict[object, object]) -> object:
        if _STR.issuperset(map(type, value)):
            nodes = self._nodes(value.values(), lambda i: _value_step(value, i))
            return dict(zip(value, nodes, strict=True))
        # msgpack's own dict would require keys that are hashable before they are reassembled.
        flat = [part for item in value.items() for part in item]
        return [self._marks[DICT.code], *self._nodes(flat, lambda i: _item_of_dict_step(value, i))]

    def _bytes(self, value: bytes) -> object:
        if self._is_inline(len(value)) or not self._has_room(3):
            return value
        return self._buffer([_BYTES, len(value)], memoryview(value))

    def _bytearray(self, value: bytearray) -> object:
        if self._is_inline(len(value)) or not self._has_room(3):
            return [self._marks[BYTEARRAY.code], bytes(value)]
        return self._buffer([_BYTEARRAY, len(value)], memoryview(value))

    def _array(self, value: np.ndarray[Any, Any]) -> object:
        if value.dtype.num >= dtypes.OWN_DTYPES and (entry := self._further_entry(value.dtype.type)):
            return self._marked(entry, value)
        if self._is_inline(value.nbytes):
            return self._marked(ARRAY, value)
        try:
            description = dtypes.describe_dtype(value.dtype)
        except UnsupportedValueError as error:
            raise _RefusedError(str(error)) from None
        if not self._has_room(3 + value.ndim + items_of_dtype(description)):
            return self._marked(ARRAY, value)
        order, array = dtypes.contiguous(value)
        return self._buffer([order, description, list(array.shape)], dtypes.flat_bytes(array))

    def _is_inline(self, byte_count: int) -> bool:
        return self._inline_bytes is None or byte_count <= self._inline_bytes

    def _has_room(self, items: int) -> bool:
        """Reserve room in the table for an entry of this many items. Return whether there is enough."""
        if self._table_items + items > MAX_TABLE_ITEMS:
            return False
        self._table_items += items
        return True

    def _buffer(self, entry: list[object], data: memoryview) -> object:
        self.table.append(entry)
        self.buffers.append(data)
        return self._marks[BUFFER_CODE]


_WRITERS: Final[dict[type, Callable[[TreeWriter, Any], object]]] = {
    list: TreeWriter._list,
    dict: TreeWriter._dict,
    bytes: TreeWriter._bytes,
    bytearray: TreeWriter._bytearray,
    np.ndarray: TreeWriter._array,
}


def _item_step(index: int) -> tuple[str, str]:
    return "", f"[{index}]"


def _part_step(entry: ValueType, index: int) -> tuple[str, str]:
    if entry.names:
        name = entry.names[index]
        return (name, ")") if name.endswith("(") else ("", f".{name}")
    return ("", f"[{index}]") if tuple in entry.types else ("list(", f")[{index}]")


def _value_step(value: dict[object, object], index: int) -> tuple[str, str]:
    return "", f"[{reprlib.repr(list(value)[index])}]"


def _item_of_dict_step(value: dict[object, object], index: int) -> tuple[str, str]:
    # The key before each value has been accepted already when the value is refused.
    return _value_step(value, index // 2) if index % 2 else ("list(", f")[{index // 2}]")


def _reason(kind: type) -> str:
    for base in kind.__mro__[1:-1]:
        if base in BUILTIN:
            home = "" if base.__module__ == "builtins" else f"{base.__module__}."
            return f"cannot send {kind}; convert it to {home}{base.__qualname__} first"
    return f"cannot send {kind}"


def _mark_large_int(value: int) -> list[object]:
    return [_MARKS[LARGE_INT.code], *LARGE_INT.write(value)]


def _packer() -> msgpack.Packer:
    # strict_types leaves tuples and subclasses to us; surrogatepass preserves lone surrogates, which occur in file
    # names. Only ints of more than 64 bits are left for `default`.
    return msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", default=_mark_large_int)


# A shared packer is safe only for small values: it calls no Python code, so no other thread can use it meanwhile. A
# packer keeps the most memory that it ever needed.
_pack_small: Final = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass").pack


def encode(value: object, *, by_name: bool = True) -> tuple[bytes, list[memoryview]]:
    """Encode a value as a head and the buffers to send after it.

    Only exact types are supported: a subclass would arrive as another type. The buffers are flat bytes; none is empty.
    Contiguous arrays, bytes and bytearrays are referenced, not copied: the value must not change before they are sent.
    Without `by_name`, types that the receiver finds by class name are refused, for callers that pickle them instead.

    Raises
    ------
    UnsupportedValueError
        The value, or the part that the message names as a Python expression, cannot be sent.

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
    return _write(value, _INLINE_BYTES, registry.find_entry if by_name else registry.find_unnamed)


def _write(
    value: Any, inline_bytes: int | None, find_entry: Callable[[type], ValueType | None]
) -> tuple[bytes, list[memoryview]]:
    kind = type(value)
    if kind in _SMALL or (kind is str and len(value) <= _INLINE_BYTES) or (kind is list and _is_small(value)):
        try:
            return NO_BUFFERS + _pack_small(value), []
        except OverflowError:  # an int of more than 64 bits
            pass
    writer = TreeWriter(inline_bytes, _MARKS, find_entry)
    tree = writer.write(value)
    packer = _packer()
    try:
        table = packer.pack([len(writer.branches), *writer.table] if writer.branches else writer.table)
        if len(table) > MAX_TABLE_BYTES:
            raise UnsupportedValueError("value: the descriptions of its arrays' dtypes are too long")
        return table + b"".join(map(packer.pack, (*writer.branches, tree))), writer.buffers
    except ValueError as error:
        raise UnsupportedValueError(
            f"value: a part exceeds msgpack's length limits, or its dtype is nested too deeply ({error})"
        ) from error


def _is_small(items: Collection[Any], levels: int = 1) -> bool:
    """Return whether there are few items, all small and without marks, down to the given number of levels."""
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


def pack(value: object) -> bytes:
    """Encode a value as bytes. Like `encode`, but all data is copied into the head."""
    return _write(value, None, registry.find_entry)[0]
