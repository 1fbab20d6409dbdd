"""Values from bytes: the reading half of `pconnect.values.encoder`, which describes them. No I/O here."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack
import numpy as np

from pconnect.errors import ProtocolError, UnreadableValueError
from pconnect.values import dtypes, named_types, optional_types, registry
from pconnect.values.builtin_types import TABLE, ValueType
from pconnect.values.encoder import (
    BRANCH_CODE,
    BUFFER_CODE,
    BUFFER_KINDS,
    MAX_NESTED_BRANCHES,
    NO_BUFFERS,
)
from pconnect.values.item_limit import ALWAYS_ALLOWED, MAX_TABLE_BYTES, MAX_TABLE_ITEMS, Look, count_items
from pconnect.values.receive_buffers import MIN_BYTES, RECEIVE_BUFFERS

# Heads of up to this size are not looked through before they are read, see `_split`: they cannot take much.
_SKIM_BYTES: Final = 256
#: Larger heads are looked through when the value is made, not when they arrive: that takes long.
LARGE_HEAD_BYTES: Final = 2**16
# So much is read between two looks at the clock and at Ctrl-C.
_PIECE_BYTES: Final = 2**16
# What `first_items` reads at most, and how long texts and lists are there.
_FIRST_BYTES: Final = 2**12
_FIRST_ITEMS: Final = 2**4
_ARRAY_C, _ARRAY_F, _BYTES, _BYTEARRAY = BUFFER_KINDS

#: How the value is made that follows a mark.
BY_CODE: Final = {
    entry.code: entry for entry in (*TABLE, *optional_types.READERS, *named_types.READERS, registry.READER)
}
# What is made when it arrives; the rest, which may import packages and call what users registered, when it is taken.
_MADE_AT_ONCE: Final = {entry.code: entry for entry in TABLE}

# How msgpack begins what it writes itself and what contains nothing else: int, str, None, bool, bytes, float.
_ATOM_STARTS: Final = frozenset(
    {
        *range(0x80),
        *range(0xA0, 0xC1),
        *range(0xC2, 0xC7),
        *range(0xCB, 0xD4),
        *range(0xD9, 0xDC),
        *range(0xE0, 0x100),
    }
)
#: What `decode_small` returns for all other values.
NOT_SMALL: Final = object()

# What constructors raise for parts that do not fit; SystemError is numpy's for code points beyond Unicode.
MALFORMED: Final = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
    SystemError,
    np.ma.MAError,
    msgpack.UnpackException,
)


def unpack(data: bytes | bytearray | memoryview) -> object:
    """Return the value that `pack` wrote, if it can be made at once; raises as `decode`."""
    try:
        return decode(data, 0).finish(at_once=True)
    except UnreadableValueError as error:
        raise ProtocolError(f"not a value that is expected here: {error}") from error


def decode_small(head: bytes) -> object:
    """Return the value of a head if it is an atom or a small list without marks, else `NOT_SMALL`; raise as `decode`.

    Most messages are one number, or nothing, or the result of a short job. This takes a third of the time of `decode`.
    """
    if len(head) < 2 or head[:1] != NO_BUFFERS:
        return NOT_SMALL
    if head[1] not in _ATOM_STARTS and not (0x90 <= head[1] <= 0x9F and len(head) <= _SKIM_BYTES):
        return NOT_SMALL
    try:
        return msgpack.unpackb(
            head[1:], unicode_errors="surrogatepass", strict_map_key=False, timestamp=3, ext_hook=_give_up
        )
    except _MarkedError:
        return NOT_SMALL
    except MALFORMED as error:
        raise ProtocolError(f"malformed value: {type(error).__name__}: {error!s:.200}") from error


class _MarkedError(Exception):
    """A value has parts that msgpack does not know."""


def _give_up(_code: int, _data: bytes) -> object:
    raise _MarkedError


class Incoming:
    """A value on its way in: memory for its buffers, and the value once that is filled."""

    __slots__ = ("_branch_count", "_head", "_max_items", "_received", "_tree", "buffers")

    def __init__(
        self,
        head: memoryview,
        tree: memoryview,
        branch_count: int,
        received: list[tuple[int, Any]],
        max_items: int,
    ) -> None:
        self._head = head
        self._tree = tree  # and the branches before it
        self._branch_count = branch_count
        self._received = received
        self._max_items = max_items
        #: Flat, writeable bytes, to be filled in this order; none is empty. Gone after `finish`.
        self.buffers = [
            view
            for kind, target in received
            if (view := dtypes.flat_bytes(target) if kind <= _ARRAY_F else memoryview(target)).nbytes
        ]

    def finish(self, *, at_once: bool = False, look: Look = lambda: None) -> object:
        """Return the value; to be called when all of `buffers` is filled, and again only after it raised.

        With `at_once`, values of packages and of registered types are left to a later call: making them runs code of
        others, which has no place where many connections are served.

        `look` is called again and again while a large value is made, and may raise. So may a handler of signals.

        Arrays and bytearrays are the memory that was filled; large bytes, which cannot be filled, are copied from it.
        The items of arrays are not looked at: a str array of a hostile peer may hold what is no character.

        Raises `ProtocolError` if the head describes no value, or one of too many items. Raises `UnreadableValueError`
        if it describes one that cannot be made here, or not `at_once`: a package is missing, or what the user
        registered fails.
        """
        for view in self.buffers:
            view.release()  # a bytearray cannot be resized by its new owner while there is a view of it
        self.buffers.clear()
        if self._head.nbytes > LARGE_HEAD_BYTES:
            self._check(look)
        entries = _MADE_AT_ONCE if at_once else BY_CODE
        return _Reader(self._received, entries, look).read(self._tree, self._branch_count)

    def _check(self, look: Look) -> None:
        """Check that all items are there, and not too many, before any is made."""
        objects = 2 + self._branch_count
        if self._head.nbytes > self._max_items:
            count, alone = count_items(self._head, self._max_items, look)
            if count > self._max_items:
                raise ProtocolError(
                    f"a value of more items than the limit, {self._max_items}, which max_message_bytes has set"
                )
            if alone != objects:
                raise ProtocolError("malformed value: some items are missing, or too many")
            return
        skimmer = _unpacker(self._head, look)
        try:
            for _ in range(objects):
                skimmer.skip()
        except MALFORMED as error:
            raise ProtocolError(f"malformed value: {type(error).__name__}: {error!s:.200}") from error

    def first_items(self, count: int) -> list[Any]:
        """Return the first items of a value that is a list; they have to be of msgpack's own types.

        Raises `ProtocolError` if it is no such list.
        """
        try:
            begin = self._tree if self._branch_count else self._tree[:_FIRST_BYTES]
            unpacker = msgpack.Unpacker(
                max_buffer_size=begin.nbytes, max_str_len=_FIRST_BYTES, max_bin_len=_FIRST_BYTES,
                max_array_len=_FIRST_ITEMS, max_map_len=0, ext_hook=_refuse_extension, timestamp=3,
            )  # fmt: skip
            unpacker.feed(begin)
            for _ in range(self._branch_count):
                unpacker.skip()
            length = unpacker.read_array_header()
            return [unpacker.unpack() for _ in range(min(count, length))]
        except MALFORMED as error:
            raise ProtocolError(f"malformed value: {type(error).__name__}: {error!s:.200}") from error


def _unpacker(data: memoryview, look: Look, **options: Any) -> Any:
    """Return what reads items of some data in pieces, and looks at the clock and at Ctrl-C between them."""
    source = _Source(data, look)
    return msgpack.Unpacker(
        source, read_size=_PIECE_BYTES, max_buffer_size=data.nbytes + _PIECE_BYTES, **options
    )


class _Source:
    """A file, of which no more than `read` is used."""

    __slots__ = ("_at", "_data", "_look")

    def __init__(self, data: memoryview, look: Look) -> None:
        self._data = data
        self._look = look
        self._at = 0

    def read(self, size: int) -> bytes:
        self._look()
        piece = bytes(self._data[self._at : self._at + min(size, _PIECE_BYTES)])
        self._at += len(piece)
        return piece


def decode(
    head: bytes | bytearray | memoryview, payload_bytes: int, max_items: int = ALWAYS_ALLOWED
) -> Incoming:
    """Read what a head says of its buffers, and allocate them.

    `head`: as `encode` returned it. Must not change before `Incoming.finish`. `payload_bytes`: sum of the sizes of all
    buffers, which the caller has found acceptable. `max_items`: how many items the head may have. Raises
    `ProtocolError` if the head is malformed, describes another number of bytes (then nothing was allocated), or there
    is no memory for them.
    """
    view = memoryview(head)
    try:
        table, branch_count, tree = _split(view)
        plans = [_plan(entry) for entry in table]
        described = sum(plan[1] for plan in plans)
        if described != payload_bytes:
            raise ProtocolError(
                f"the head describes {described} bytes of buffers, but {payload_bytes} follow it"
            )
        if branch_count > max_items:
            raise ProtocolError("the head announces more branches than a value may have items")
        return Incoming(view, tree, branch_count, [(plan[0], plan[2]()) for plan in plans], max_items)
    except ProtocolError:
        raise
    except MALFORMED as error:
        raise ProtocolError(f"malformed head: {type(error).__name__}: {error!s:.200}") from error


def _split(head: memoryview) -> tuple[list[Any], int, memoryview]:
    """Return the table, the number of branches, and the rest of the head."""
    if head.nbytes <= _SKIM_BYTES and head[:1].tobytes() == NO_BUFFERS:
        return [], 0, head[1:]
    # msgpack makes a list as long as its header says before it has seen one item, at each level: some
    # kilobytes could take gigabytes. Skimming makes nothing, and finds that all items are there.
    begin = head[:MAX_TABLE_BYTES]
    skimmer = msgpack.Unpacker(max_buffer_size=begin.nbytes)
    skimmer.feed(begin)
    skimmer.skip()
    border = skimmer.tell()
    if border > MAX_TABLE_ITEMS and count_items(head[:border], MAX_TABLE_ITEMS)[0] > MAX_TABLE_ITEMS:
        raise ProtocolError(f"the table of buffers has more than {MAX_TABLE_ITEMS} items")
    table = msgpack.unpackb(head[:border], ext_hook=_refuse_extension, timestamp=3)
    if type(table) is not list:
        raise ProtocolError("the head does not begin with a table of buffers")
    branch_count = table.pop(0) if table and type(table[0]) is int else 0
    if branch_count < 0:
        raise ProtocolError("the head announces a negative number of branches")
    if head.nbytes <= LARGE_HEAD_BYTES:
        for _ in range(branch_count + 1):  # it ends with the data, whatever the number
            skimmer.skip()
    return table, branch_count, head[border:]


def _refuse_extension(code: int, _: bytes) -> object:
    raise ProtocolError(f"the extension {code} is not expected here")


def _plan(entry: object) -> tuple[int, int, Callable[[], Any]]:
    """Return kind and size of a buffer, and what will allocate it."""
    match entry:
        case [int() as kind, int() as size] if kind in (_BYTES, _BYTEARRAY) and size >= 0:
            if kind == _BYTES and size >= MIN_BYTES:  # copied from there, so the memory may be any
                return kind, size, lambda: RECEIVE_BUFFERS.take(size)[:size]
            return kind, size, lambda: bytearray(size)
        case [int() as kind, description, list() as shape] if kind in (_ARRAY_C, _ARRAY_F):
            dtype = dtypes.restore_dtype(description)
            size = dtypes.byte_count(dtype, shape)
            return kind, size, lambda: dtypes.allocate(dtype, shape, kind, size)
    raise ProtocolError("not a description of a buffer")


_NO_BRANCHES: Final[deque[tuple[object, int]]] = deque()  # stays empty


class _Reader:
    """Puts one value together while msgpack reads the branches and the tree."""

    __slots__ = ("_branches", "_entries", "_look", "_nested", "_open_marks", "_received")

    def __init__(self, received: list[tuple[int, Any]], entries: Mapping[int, ValueType], look: Look) -> None:
        self._received = received[::-1]
        self._entries = entries
        self._look = look
        self._open_marks = 0
        self._branches = (
            _NO_BRANCHES  # read and not used: the value, and how many branches are in each other there
        )

    def read(self, tree: memoryview, branch_count: int) -> object:
        # A timestamp, which we never write, becomes a datetime rather than a type of msgpack.
        options: dict[str, Any] = {
            "strict_map_key": False, "unicode_errors": "surrogatepass", "timestamp": 3,
            "ext_hook": self._extension, "list_hook": self._list,
        }  # fmt: skip
        try:
            if branch_count or tree.nbytes > LARGE_HEAD_BYTES:
                value = self._read_in_pieces(tree, branch_count, options)
            else:
                value = msgpack.unpackb(tree, **options)
        except (ProtocolError, UnreadableValueError):
            raise
        except MALFORMED as error:
            raise ProtocolError(f"malformed value: {type(error).__name__}: {error!s:.200}") from error
        if self._open_marks:
            raise ProtocolError("malformed value: a mark that does not begin a list")
        if self._received or self._branches:
            raise ProtocolError("malformed value: a buffer, or a branch, that does not belong to it")
        return value

    def _read_in_pieces(self, data: memoryview, branch_count: int, options: dict[str, Any]) -> object:
        """Read all branches, and the tree, which follows them."""
        self._branches = deque()
        unpacker = _unpacker(data, self._look, **options)
        for _ in range(branch_count):
            self._nested = 1
            branch = unpacker.unpack()
            if self._open_marks:
                raise ProtocolError("malformed value: a mark that does not begin a list")
            self._branches.append((branch, self._nested))
        self._nested = 1
        value = unpacker.unpack()
        if unpacker.tell() != data.nbytes:
            raise ProtocolError("malformed value: more stands behind it")
        return value

    def _extension(self, code: int, data: bytes) -> object:
        if code == BUFFER_CODE:
            kind, target = self._received.pop()
            return bytes(target) if kind == _BYTES else target
        entry = self._entries.get(code)
        if entry is None or data:
            if code == BRANCH_CODE and not data:
                return self._next_branch()
            if code in BY_CODE and not data:
                raise UnreadableValueError(f"values of the type {code} are not made at once")
            raise ProtocolError(f"unknown type of value: {code}")
        self._open_marks += 1
        return entry

    def _next_branch(self) -> object:
        if not self._branches:
            raise ProtocolError("malformed value: a branch that does not stand before it")
        branch, nested = self._branches.popleft()
        self._nested = max(self._nested, nested + 1)
        # What Python does in C with what it contains could overflow the stack.
        if self._nested > MAX_NESTED_BRANCHES:
            raise ProtocolError(f"malformed value: more than {MAX_NESTED_BRANCHES} branches in each other")
        return branch

    def _list(self, items: list[Any]) -> object:
        if items and type(items[0]) is ValueType:
            self._open_marks -= 1
            return items[0].read(items[1:])
        return items
