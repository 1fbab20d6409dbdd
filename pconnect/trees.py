"""Taking a value apart into what msgpack writes, and naming the part that cannot be sent.

What comes out is the tree and the table of `pconnect.codec`, as Python objects. One walk over the value
serves both the good and the bad case: the way to a part that is refused is put together only while the
refusal passes the containers on its way out.
"""

import reprlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from pconnect import arrays
from pconnect.errors import UnsupportedValueError
from pconnect.value_types import ARRAY, BYTEARRAY, DICT, TABLE, ValueType

__all__ = ["ATOMS", "BUFFER_CODE", "BUFFER_KINDS", "TreeWriter"]

# What msgpack writes itself, exactly; of int those up to 64 bits, which is left to `codec`.
ATOMS: Final = frozenset({type(None), bool, int, float, str})
BUFFER_CODE: Final = 0  # the mark that stands for a buffer; the entries of `value_types` have the others

_ARRAY_KINDS: Final = (arrays.C_ORDER, arrays.F_ORDER)
_BYTES: Final = 2
_BYTEARRAY: Final = 3
BUFFER_KINDS: Final = (*_ARRAY_KINDS, _BYTES, _BYTEARRAY)

# Far beyond what data has, and three Python calls for each stay below Python's recursion limit of 1000 also
# when the caller is deep in a notebook. msgpack writes 511 levels and reads 1024.
_MAX_DEPTH: Final = 256
_SHOWN_STEPS: Final = 12  # of a path in an error; a longer one is that of a value which contains itself

_BY_TYPE: Final = {kind: entry for entry in TABLE for kind in entry.types}
_STR: Final = frozenset({str})

# From the index of a part to what stands before and behind the path of its container.
_Step = Callable[[int], tuple[str, str]]


class _RefusedError(Exception):
    """A part of a value cannot be sent; collects the way to it on its own way out, innermost step first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.steps: list[tuple[str, str]] = []

    def __str__(self) -> str:
        steps = self.steps[::-1]
        path = "value"
        for before, after in steps[:_SHOWN_STEPS]:
            path = before + path + after
        return f"{path}{'...' if len(steps) > _SHOWN_STEPS else ''}: {self.args[0]}"


class TreeWriter:
    """Takes one value apart.

    Parameters
    ----------
    inline_bytes
        bytes, bytearrays and arrays of more bytes than this become buffers; ``None``: none do.
    marks
        For each code what msgpack is to write as the mark.

    Attributes
    ----------
    table, buffers
        The description of each buffer, and its memory as flat bytes, in the order of their marks in the tree.
    """

    __slots__ = ("_depth", "_inline_bytes", "_marks", "buffers", "table")

    def __init__(self, inline_bytes: int | None, marks: Mapping[int, object]) -> None:
        self.table: list[list[object]] = []
        self.buffers: list[memoryview] = []
        self._inline_bytes = inline_bytes
        self._marks = marks
        self._depth = 0

    def write(self, value: object) -> object:
        """Return the tree of `value`; its large data is then in `table` and `buffers`.

        Raises
        ------
        UnsupportedValueError
            The value, or the part of it that the text names, cannot be sent. The writer is of no more use.
        """
        try:
            return self._node(value)
        except _RefusedError as refusal:
            raise UnsupportedValueError(str(refusal)) from None
        except RecursionError:
            raise UnsupportedValueError("value: nested too deeply for the rest of Python's stack") from None

    def _node(self, value: Any) -> object:
        kind = type(value)
        if kind in ATOMS:
            return value
        if self._depth == _MAX_DEPTH:
            raise _RefusedError(f"nested deeper than {_MAX_DEPTH} levels, or contains itself")
        self._depth += 1
        if write := _WRITERS.get(kind):
            node = write(self, value)
        elif entry := _BY_TYPE.get(kind):
            node = self._marked(entry, value)
        else:
            raise _RefusedError(_reason(kind))
        self._depth -= 1
        return node

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
            raise _RefusedError(str(error)) from None
        return [self._marks[entry.code], *self._nodes(parts, lambda i: _part_step(entry, i))]

    def _list(self, value: list[object]) -> list[object]:
        return value if ATOMS.issuperset(map(type, value)) else self._nodes(value, _item_step)

    def _dict(self, value: dict[object, object]) -> object:
        if _STR.issuperset(map(type, value)):
            nodes = self._nodes(value.values(), lambda i: _value_step(value, i))
            return dict(zip(value, nodes, strict=True))
        # msgpack's own dict would need keys which are hashable before they are put together again.
        flat = [part for item in value.items() for part in item]
        return [self._marks[DICT.code], *self._nodes(flat, lambda i: _item_of_dict_step(value, i))]

    def _bytes(self, value: bytes) -> object:
        if self._is_inline(len(value)):
            return value
        return self._buffer([_BYTES, len(value)], memoryview(value))

    def _bytearray(self, value: bytearray) -> object:
        if self._is_inline(len(value)):
            return [self._marks[BYTEARRAY.code], bytes(value)]
        return self._buffer([_BYTEARRAY, len(value)], memoryview(value))

    def _array(self, value: np.ndarray[Any, Any]) -> object:
        if self._is_inline(value.nbytes):
            return self._marked(ARRAY, value)
        try:
            description = arrays.describe_dtype(value.dtype)
        except UnsupportedValueError as error:
            raise _RefusedError(str(error)) from None
        order, array = arrays.contiguous(value)
        return self._buffer([order, description, list(array.shape)], arrays.flat_bytes(array))

    def _is_inline(self, byte_count: int) -> bool:
        return self._inline_bytes is None or byte_count <= self._inline_bytes

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
        return "", f".{entry.names[index]}"
    return ("", f"[{index}]") if tuple in entry.types else ("list(", f")[{index}]")


def _value_step(value: dict[object, object], index: int) -> tuple[str, str]:
    return "", f"[{reprlib.repr(list(value)[index])}]"


def _item_of_dict_step(value: dict[object, object], index: int) -> tuple[str, str]:
    # In front of each value is its key, which has been found good when the value is refused.
    return _value_step(value, index // 2) if index % 2 else ("list(", f")[{index // 2}]")


def _reason(kind: type) -> str:
    for base in kind.__mro__[1:-1]:
        if base in ATOMS or base in _WRITERS or base in _BY_TYPE:
            name = (
                base.__qualname__
                if base.__module__ == "builtins"
                else f"{base.__module__}.{base.__qualname__}"
            )
            return f"cannot send {kind}; convert it to {name} first"
    return f"cannot send {kind}"
