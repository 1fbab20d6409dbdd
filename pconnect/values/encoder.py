"""Taking a value apart into what msgpack writes, and naming the part that cannot be sent.

What comes out is the tree and the table of `pconnect.values.codec`, as Python objects. One walk over the value
serves both the good and the bad case: the way to a part that is refused is put together only while the
refusal passes the containers on its way out.

The walk is recursive, which Python and msgpack allow for some hundred levels. What lies deeper is *deferred*: a mark
takes its place, and it becomes a tree of its own, a *branch*. Branches are written depth first, so that a value without
end meets the limit before anything else, but stand level by level, the deepest first and within a level from left to
right. That is the order in which a reader needs them, so that a mark without an index means the next one, and no
branch can be named twice or contain itself.
"""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from pconnect.errors import UnsupportedValueError
from pconnect.values import dtypes
from pconnect.values.builtin_types import ARRAY, BYTEARRAY, DICT, TABLE, ValueType

__all__ = [
    "ATOMS",
    "BRANCH_CODE",
    "BUFFER_CODE",
    "BUFFER_KINDS",
    "BUILTIN",
    "MAX_NESTED_BRANCHES",
    "TreeWriter",
]

# What msgpack writes itself, exactly; of int those up to 64 bits, which is left to `codec`.
ATOMS: Final = frozenset({type(None), bool, int, float, str})
# The marks that stand for something outside of the tree; the entries of `value_types` have the others.
BUFFER_CODE: Final = 0
BRANCH_CODE: Final = 11

_ARRAY_KINDS: Final = (dtypes.C_ORDER, dtypes.F_ORDER)
_BYTES: Final = 2
_BYTEARRAY: Final = 3
BUFFER_KINDS: Final = (*_ARRAY_KINDS, _BYTES, _BYTEARRAY)

# Three Python calls for each level of a branch stay below Python's recursion limit of 1000 also when the caller is deep
# in a notebook. msgpack writes 511 levels and reads 1024.
_BRANCH_DEPTH: Final = 200
# 10,000 levels. At the reader 50 branches of 1024 levels: what Python does with them in C, such as hashing tuples,
# takes less than half of a stack of 8 MiB.
MAX_NESTED_BRANCHES: Final = 50
# From here on, in each branch, containers that contain themselves are looked for. Nearly no value comes here; one that
# contains itself does, and before it has branched: the walk goes down its first branch until it is refused.
_WATCHED_DEPTH: Final = 16
_SHOWN_STEPS: Final = (
    12  # of a path in an error; a longer one is mostly that of a value which contains itself
)

_BY_TYPE: Final = {kind: entry for entry in TABLE for kind in entry.types}
_STR: Final = frozenset({str})
_DATA: Final = frozenset({bytes, bytearray, np.ndarray})  # does not contain others, however deep it is

# From the index of a part to what stands before and behind the path of its container.
_Step = Callable[[int], tuple[str, str]]


class _RefusedError(Exception):
    """A part of a value cannot be sent; collects the way to it on its own way out, innermost step first."""

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
    """Takes one value apart.

    Parameters
    ----------
    inline_bytes
        bytes, bytearrays and arrays of more bytes than this become buffers; ``None``: none do.
    marks
        For each code what msgpack is to write as the mark.
    find_entry
        Called with a type that is not in the table; returns how to write it, if that is known.

    Attributes
    ----------
    branches
        The trees of what was deferred, in the order in which they are to be read.
    table, buffers
        The description of each buffer, and its memory as flat bytes, in the order of their marks in the branches and,
        at last, the tree.
    """

    __slots__ = (
        "_above",
        "_deferred",
        "_depth",
        "_find_entry",
        "_inline_bytes",
        "_marks",
        "branches",
        "buffers",
        "table",
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
        self._depth = 0
        self._above: set[int] | None = (
            None  # identities of the containers around the value, from _WATCHED_DEPTH on
        )
        self._deferred: list[object] | None = None

    def write(self, value: object) -> object:
        """Return the tree of `value`; what else belongs to it is then in `branches`, `table` and `buffers`.

        Raises
        ------
        UnsupportedValueError
            The value, or the part of it that the text names, cannot be sent. The writer is of no more use.
        """
        try:
            tree = self._node(value)
            if self._deferred is not None:
                self._write_branches(self._deferred)
            return tree
        except _RefusedError as refusal:
            raise UnsupportedValueError(str(refusal)) from refusal.cause
        except RecursionError:
            raise UnsupportedValueError("value: nested too deeply for the rest of Python's stack") from None

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
        elif entry := _BY_TYPE.get(kind) or self._further_entry(kind):
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
            description = dtypes.describe_dtype(value.dtype)
        except UnsupportedValueError as error:
            raise _RefusedError(str(error)) from None
        order, array = dtypes.contiguous(value)
        return self._buffer([order, description, list(array.shape)], dtypes.flat_bytes(array))

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
# All types that are sent without further packages and registration.
BUILTIN: Final = frozenset({*ATOMS, *_WRITERS, *_BY_TYPE})


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
    # In front of each value is its key, which has been found good when the value is refused.
    return _value_step(value, index // 2) if index % 2 else ("list(", f")[{index // 2}]")


def _reason(kind: type) -> str:
    for base in kind.__mro__[1:-1]:
        if base in BUILTIN:
            name = (
                base.__qualname__
                if base.__module__ == "builtins"
                else f"{base.__module__}.{base.__qualname__}"
            )
            return f"cannot send {kind}; convert it to {name} first"
    return f"cannot send {kind}"
