"""Values from bytes: the reading half of `pconnect.values.encoder`, which describes them. No I/O here."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack
import numpy as np

from pconnect.errors import ProtocolError, UnreadableValueError
from pconnect.values import dtypes, optional_types, registry
from pconnect.values.builtin_types import TABLE, ValueType
from pconnect.values.encoder import BRANCH_CODE, BUFFER_CODE, BUFFER_KINDS, MAX_NESTED_BRANCHES, NO_BUFFERS
from pconnect.values.receive_buffers import MIN_BYTES, RECEIVE_BUFFERS

# Heads of up to this size are not looked through before they are read, see `_split`: they cannot take much.
_SKIM_BYTES: Final = 256
_ARRAY_C, _ARRAY_F, _BYTES, _BYTEARRAY = BUFFER_KINDS

#: How the value is made that follows a mark.
BY_CODE: Final = {entry.code: entry for entry in (*TABLE, *optional_types.READERS, registry.READER)}
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

    __slots__ = ("_branch_count", "_received", "_tree", "buffers")

    def __init__(self, tree: memoryview, branch_count: int, received: list[tuple[int, Any]]) -> None:
        self._tree = tree  # and the branches before it
        self._branch_count = branch_count
        self._received = received
        #: Flat, writeable bytes, to be filled in this order; none is empty. Gone after `finish`.
        self.buffers = [
            view
            for kind, target in received
            if (view := dtypes.flat_bytes(target) if kind <= _ARRAY_F else memoryview(target)).nbytes
        ]

    def finish(self, *, at_once: bool = False) -> object:
        """Return the value; to be called when all of `buffers` is filled, and again only after `UnreadableValueError`.

        With `at_once`, values of packages and of registered types are left to a later call: making them runs code of
        others, which has no place where many connections are served.

        Arrays and bytearrays are the memory that was filled; large bytes, which cannot be filled, are copied from it.
        The items of arrays are not looked at: a str array of a hostile peer may hold what is no character.

        Raises `ProtocolError` if the head describes no value. Raises `UnreadableValueError` if it describes one that
        cannot be made here, or not `at_once`: a package is missing, or what the user registered fails.
        """
        for view in self.buffers:
            view.release()  # a bytearray cannot be resized by its new owner while there is a view of it
        self.buffers.clear()
        entries = _MADE_AT_ONCE if at_once else BY_CODE
        return _Reader(self._received, entries).read(self._tree, self._branch_count)

    def first_items(self, count: int) -> list[Any]:
        """Return the first items of a value that is a list; they have to be of msgpack's own types.

        Raises `ProtocolError` if it is no such list.
        """
        try:
            unpacker = msgpack.Unpacker(
                max_buffer_size=self._tree.nbytes, ext_hook=_refuse_extension, timestamp=3
            )
            unpacker.feed(self._tree)
            for _ in range(self._branch_count):
                unpacker.skip()
            length = unpacker.read_array_header()
            return [unpacker.unpack() for _ in range(min(count, length))]
        except MALFORMED as error:
            raise ProtocolError(f"malformed value: {type(error).__name__}: {error!s:.200}") from error


def decode(head: bytes | bytearray | memoryview, payload_bytes: int) -> Incoming:
    """Read what a head says of its buffers, and allocate them.

    `head`: as `encode` returned it. Must not change before `Incoming.finish`. `payload_bytes`: sum of the sizes of all
    buffers, which the caller has found acceptable. Raises `ProtocolError` if the head is malformed, describes another
    number of bytes (then nothing was allocated), or there is no memory for them.
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
        return Incoming(tree, branch_count, [(plan[0], plan[2]()) for plan in plans])
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
    skimmer = msgpack.Unpacker(max_buffer_size=head.nbytes)
    skimmer.feed(head)
    skimmer.skip()
    border = skimmer.tell()
    table = msgpack.unpackb(head[:border], ext_hook=_refuse_extension, timestamp=3)
    if type(table) is not list:
        raise ProtocolError("the head does not begin with a table of buffers")
    branch_count = table.pop(0) if table and type(table[0]) is int else 0
    if branch_count < 0:
        raise ProtocolError("the head announces a negative number of branches")
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

    __slots__ = ("_branches", "_entries", "_nested", "_open_marks", "_received")

    def __init__(self, received: list[tuple[int, Any]], entries: Mapping[int, ValueType]) -> None:
        self._received = received[::-1]
        self._entries = entries
        self._open_marks = 0
        self._branches = (
            _NO_BRANCHES  # read and not used: the value, and how many branches are in each other there
        )

    def read(self, tree: memoryview, branch_count: int) -> object:
        try:
            if branch_count:
                tree = self._read_branches(tree, branch_count)
            # A timestamp, which we never write, becomes a datetime rather than a type of msgpack.
            value = msgpack.unpackb(
                tree, strict_map_key=False, unicode_errors="surrogatepass", timestamp=3,
                ext_hook=self._extension, list_hook=self._list,
            )  # fmt: skip
        except (ProtocolError, UnreadableValueError):
            raise
        except MALFORMED as error:
            raise ProtocolError(f"malformed value: {type(error).__name__}: {error!s:.200}") from error
        if self._open_marks:
            raise ProtocolError("malformed value: a mark that does not begin a list")
        if self._received or self._branches:
            raise ProtocolError("malformed value: a buffer, or a branch, that does not belong to it")
        return value

    def _read_branches(self, head: memoryview, count: int) -> memoryview:
        """Read all branches; return the tree, which follows them."""
        self._branches = deque()
        unpacker = msgpack.Unpacker(
            max_buffer_size=head.nbytes, strict_map_key=False, unicode_errors="surrogatepass", timestamp=3,
            ext_hook=self._extension, list_hook=self._list,
        )  # fmt: skip
        unpacker.feed(head)
        for _ in range(count):
            self._nested = 1
            branch = unpacker.unpack()
            if self._open_marks:
                raise ProtocolError("malformed value: a mark that does not begin a list")
            self._branches.append((branch, self._nested))
        self._nested = 1
        return head[unpacker.tell() :]

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
