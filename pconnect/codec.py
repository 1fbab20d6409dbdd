"""Values as bytes: a small head, and the memory of large arrays beside it.

A value becomes a *head* and a list of *buffers*. The head is two msgpack objects, one after the other:

- the **table** lists the buffers in order: ``[kind, bytes]`` for bytes and bytearray, ``[kind, dtype,
  shape]`` for arrays (``kind`` says which, and the memory order). It comes first, so that the receiver knows
  what to allocate before it has looked at anything else;
- the **tree** is the value. None, bool, float, str, short bytes, int of up to 64 bits, list, and dict with
  plain keys are msgpack's own types. Anything else is a list which begins with a *mark*: an extension of no
  data whose code is an entry of `pconnect.value_types`; the parts follow. No value of a user is written as a
  mark, so a plain list is never mistaken. A buffer stands in the tree as the mark 0; the first in the tree is
  the first of the table.

Marked lists, rather than extensions that contain msgpack, let msgpack read the whole tree in one pass in C,
in which nesting costs no recursion; and references without an index cannot name one buffer twice.

Nothing here knows how bytes travel, and nothing can be called or imported by what is received.
"""

import reprlib
from collections.abc import Callable
from typing import Any, Final

import msgpack
import numpy as np

from pconnect import arrays
from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.value_types import ARRAY, BYTEARRAY, DICT, TABLE, ValueType

__all__ = ["Incoming", "decode", "encode", "pack", "unpack"]

# Up to here a copy is cheaper than one more buffer, which costs a system call and a TLS record on each side.
_INLINE_BYTES: Final = 4096
# Far beyond what data has, and three Python calls for each stay below Python's recursion limit of 1000 also
# when the caller is deep in a notebook. msgpack writes 511 levels and reads 1024.
_MAX_DEPTH: Final = 256
_SHOWN_STEPS: Final = 12  # of a path in an error

# Kinds of buffers.
_ARRAY_C: Final = arrays.C_ORDER
_ARRAY_F: Final = arrays.F_ORDER
_BYTES: Final = 2
_BYTEARRAY: Final = 3
# Heads of up to this size are not looked through before they are read, see `_split`; what they can take stays
# small.
_SKIM_BYTES: Final = 256
_NO_BUFFERS: Final = b"\x90"  # a table of length 0
_BUFFER_CODE: Final = 0

_ATOMS: Final = frozenset({type(None), bool, int, float, str})
_BUFFER_MARK: Final = msgpack.ExtType(_BUFFER_CODE, b"")
_MARKS: Final = {entry: msgpack.ExtType(entry.code, b"") for entry in TABLE}
_BY_TYPE: Final = {kind: entry for entry in TABLE for kind in entry.types}
_BY_CODE: Final = {entry.code: entry for entry in TABLE}

# What constructors raise for parts that do not fit; MAError is of numpy.ma, OSError of ZoneInfo.
_MALFORMED: Final = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
    OSError,
    np.ma.MAError,
    msgpack.UnpackException,
)


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


def _mark_large_int(value: int) -> list[object]:
    return [_MARKS[_BY_TYPE[int]], *_BY_TYPE[int].write(value)]


def _packer() -> msgpack.Packer:
    # strict_types leaves tuples and subclasses to us; surrogatepass keeps lone surrogates, which file names
    # have. All that is left for `default` is an int of more than 64 bits.
    return msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", default=_mark_large_int)


# One for all is safe for atoms alone: it calls nothing in Python, so that no other thread can use it
# meanwhile.
_pack_atom: Final = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass").pack


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
    >>> head, buffers = encode({"step": 3, "field": np.zeros((100, 100))})
    >>> len(head), [buffer.nbytes for buffer in buffers]
    (26, [80000])
    >>> encode([1, {"a": [object()]}])
    Traceback (most recent call last):
    pconnect.errors.UnsupportedValueError: value[1]['a'][0]: cannot send <class 'object'>
    """
    if type(value) in _ATOMS:
        try:
            return _NO_BUFFERS + _pack_atom(value), []
        except (OverflowError, ValueError):  # an int of more than 64 bits, a str of more than 4 GiB
            pass
    return _Writer(_INLINE_BYTES).write(value)


def pack(value: object) -> bytes:
    """Write a value as bytes alone: as `encode`, with all data copied into the head."""
    return _Writer(None).write(value)[0]


def unpack(data: bytes | bytearray | memoryview) -> object:
    """Return the value that `pack` wrote; raises as `decode`."""
    return decode(data, 0).finish()


class _Writer:
    """Takes one value apart into what msgpack can write."""

    __slots__ = ("_buffers", "_depth", "_inline_bytes", "_table")

    def __init__(self, inline_bytes: int | None) -> None:
        self._inline_bytes = inline_bytes
        self._buffers: list[memoryview] = []
        self._table: list[list[object]] = []
        self._depth = 0

    def write(self, value: object) -> tuple[bytes, list[memoryview]]:
        try:
            tree = self._node(value)
            packer = _packer()
            return packer.pack(self._table) + packer.pack(tree), self._buffers
        except _RefusedError as refusal:
            raise UnsupportedValueError(str(refusal)) from None
        except RecursionError:
            raise UnsupportedValueError(
                "value: nested too deeply for what is left of Python's stack"
            ) from None
        except ValueError as error:  # msgpack's lengths have 32 bits
            raise UnsupportedValueError(f"value: a part is too large ({error})") from error

    def _node(self, value: Any) -> object:
        kind = type(value)
        if kind in _ATOMS:
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

    def _nodes(self, parts: Any, step: Callable[[int], tuple[str, str]]) -> list[object]:
        if _ATOMS.issuperset(map(type, parts)):
            return list(parts)
        nodes: list[object] = []
        try:
            for part in parts:
                nodes.append(part if type(part) in _ATOMS else self._node(part))  # noqa: PERF401 its length is needed
        except _RefusedError as refusal:
            refusal.steps.append(step(len(nodes)))
            raise
        return nodes

    def _marked(self, entry: ValueType, value: object) -> list[object]:
        try:
            parts = entry.write(value)
        except UnsupportedValueError as error:
            raise _RefusedError(str(error)) from None
        return [_MARKS[entry], *self._nodes(parts, lambda i: _part_step(entry, i))]

    def _list(self, value: list[object]) -> list[object]:
        return self._nodes(value, _item_step)

    def _dict(self, value: dict[object, object]) -> object:
        if _STR.issuperset(map(type, value)):
            keys = list(value)
            return dict(
                zip(
                    keys,
                    self._nodes(value.values(), lambda i: ("", f"[{reprlib.repr(keys[i])}]")),
                    strict=True,
                )
            )
        return [
            _MARKS[DICT],
            *self._nodes([x for item in value.items() for x in item], lambda i: _dict_step(value, i)),
        ]

    def _bytes(self, value: bytes) -> object:
        if self._is_inline(len(value)):
            return value
        return self._buffer([_BYTES, len(value)], memoryview(value))

    def _bytearray(self, value: bytearray) -> object:
        if self._is_inline(len(value)):
            return [_MARKS[BYTEARRAY], bytes(value)]
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
        self._table.append(entry)
        self._buffers.append(data)
        return _BUFFER_MARK


_STR: Final = frozenset({str})
_WRITERS: Final[dict[type, Callable[[_Writer, Any], object]]] = {
    list: _Writer._list,
    dict: _Writer._dict,
    bytes: _Writer._bytes,
    bytearray: _Writer._bytearray,
    np.ndarray: _Writer._array,
}


def _item_step(index: int) -> tuple[str, str]:
    return "", f"[{index}]"


def _part_step(entry: ValueType, index: int) -> tuple[str, str]:
    if entry.names:
        return "", f".{entry.names[index]}"
    return ("", f"[{index}]") if tuple in entry.types else ("list(", f")[{index}]")


def _dict_step(value: dict[object, object], index: int) -> tuple[str, str]:
    if index % 2 == 0:  # the key itself
        return "list(", f")[{index // 2}]"
    return "", f"[{reprlib.repr(list(value)[index // 2])}]"


def _reason(kind: type) -> str:
    for base in kind.__mro__[1:-1]:
        if base in _ATOMS or base in _WRITERS or base in _BY_TYPE:
            name = (
                base.__qualname__
                if base.__module__ == "builtins"
                else f"{base.__module__}.{base.__qualname__}"
            )
            return f"cannot send {kind}; convert it to {name} first"
    return f"cannot send {kind}"


class Incoming:
    """A value on its way in: memory for its buffers, and the value once that is filled.

    Attributes
    ----------
    buffers : list of memoryview
        Flat, writeable bytes, to be filled in this order; none is empty. Gone after `finish`.
    """

    __slots__ = ("_received", "_tree", "buffers")

    def __init__(self, tree: memoryview, received: list[tuple[int, Any]]) -> None:
        self._tree = tree
        self._received = received
        self.buffers = [
            view
            for kind, target in received
            if (view := arrays.flat_bytes(target) if kind <= _ARRAY_F else memoryview(target)).nbytes
        ]

    def finish(self) -> object:
        """Return the value; to be called once, when all of `buffers` is filled.

        Arrays are the memory that was filled, not a copy of it.

        Raises
        ------
        ProtocolError
            The head describes no value.
        """
        for view in self.buffers:
            view.release()  # a bytearray cannot be resized by its new owner while there is a view of it
        self.buffers.clear()
        return _Reader(self._received).read(self._tree)


def decode(head: bytes | bytearray | memoryview, payload_bytes: int) -> Incoming:
    """Read what a head says of its buffers, and allocate them.

    Parameters
    ----------
    head
        As `encode` returned it. Must not change before `Incoming.finish`.
    payload_bytes
        Sum of the sizes of all buffers, which the caller has found acceptable.

    Raises
    ------
    ProtocolError
        The head is malformed, describes another number of bytes (then nothing was allocated), or there is no
        memory for them.
    """
    view = memoryview(head)
    try:
        table, tree = _split(view)
        plans = [_plan(entry) for entry in table]
        described = sum(plan[1] for plan in plans)
        if described != payload_bytes:
            raise ProtocolError(
                f"the head describes {described} bytes of buffers, but {payload_bytes} follow it"
            )
        return Incoming(tree, [(plan[0], plan[2]()) for plan in plans])
    except ProtocolError:
        raise
    except _MALFORMED as error:
        raise ProtocolError(f"malformed head: {error!r:.200}") from error


def _split(head: memoryview) -> tuple[list[Any], memoryview]:
    if head.nbytes <= _SKIM_BYTES and head[:1].tobytes() == _NO_BUFFERS:
        return [], head[1:]
    # msgpack makes a list as long as its header says before it has seen one item, at each level: some
    # kilobytes could take gigabytes. Skimming makes nothing, and finds that all items are there.
    skimmer = msgpack.Unpacker(max_buffer_size=head.nbytes)
    skimmer.feed(head)
    skimmer.skip()
    border = skimmer.tell()
    skimmer.skip()
    table = msgpack.unpackb(head[:border], ext_hook=_refuse_extension, timestamp=3)
    if type(table) is not list:
        raise ProtocolError("the head does not begin with a table of buffers")
    return table, head[border:]


def _refuse_extension(code: int, _: bytes) -> object:
    raise ProtocolError(f"the extension {code} is not expected here")


def _plan(entry: object) -> tuple[int, int, Callable[[], Any]]:
    """Return kind and size of a buffer, and what will allocate it."""
    match entry:
        case [int() as kind, int() as size] if kind in (_BYTES, _BYTEARRAY) and size >= 0:
            return kind, size, lambda: bytearray(size)
        case [int() as kind, description, list() as shape] if kind in (_ARRAY_C, _ARRAY_F):
            dtype = arrays.restore_dtype(description)
            return kind, arrays.byte_count(dtype, shape), lambda: arrays.allocate(dtype, shape, kind)
    raise ProtocolError("not a description of a buffer")


class _Reader:
    """Puts one value together while msgpack reads the tree."""

    __slots__ = ("_open_marks", "_received")

    def __init__(self, received: list[tuple[int, Any]]) -> None:
        self._received = received[::-1]
        self._open_marks = 0

    def read(self, tree: memoryview) -> object:
        try:
            # A timestamp, which we never write, becomes a datetime rather than a type of msgpack.
            value = msgpack.unpackb(
                tree, strict_map_key=False, unicode_errors="surrogatepass", timestamp=3,
                ext_hook=self._extension, list_hook=self._list,
            )  # fmt: skip
        except ProtocolError:
            raise
        except _MALFORMED as error:
            raise ProtocolError(f"malformed value: {error!r:.200}") from error
        if self._open_marks:
            raise ProtocolError("malformed value: a mark that does not begin a list")
        if self._received:
            raise ProtocolError("malformed value: a buffer that is not part of it")
        return value

    def _extension(self, code: int, data: bytes) -> object:
        if code == _BUFFER_CODE:
            kind, target = self._received.pop()
            return bytes(target) if kind == _BYTES else target
        if code not in _BY_CODE or data:
            raise ProtocolError(f"unknown type of value: {code}")
        self._open_marks += 1
        return _BY_CODE[code]

    def _list(self, items: list[Any]) -> object:
        if items and type(items[0]) is ValueType:
            self._open_marks -= 1
            return items[0].read(items[1:])
        return items
