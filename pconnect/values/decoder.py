"""Values from bytes: the counterpart of `pconnect.values.encoder`, which describes the format. Sans-I/O."""

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

# Heads of up to this size are not skimmed before they are read, see `_split`: they cannot take much memory.
_SKIM_BYTES: Final = 256
#: Larger heads are skimmed when the value is made and not when they arrive, because that takes long.
LARGE_HEAD_BYTES: Final = 2**16
# Bytes that are read between two checks of the deadline and Ctrl-C.
_PIECE_BYTES: Final = 2**16
# `first_items` reads at most this much, and texts and lists in it are at most this long.
_FIRST_BYTES: Final = 2**12
_FIRST_ITEMS: Final = 2**4
_ARRAY_C, _ARRAY_F, _BYTES, _BYTEARRAY = BUFFER_KINDS

#: The entry for each mark.
BY_CODE: Final = {
    entry.code: entry for entry in (*TABLE, *optional_types.READERS, *named_types.READERS, registry.READER)
}
# Values that are made when they arrive. All others may import packages or call registered functions, so they are made
# when the receiver takes them.
_MADE_AT_ONCE: Final = {entry.code: entry for entry in TABLE}

# First bytes of msgpack's own types without contents: int, str, None, bool, bytes, float.
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
#: Result of `decode_small` for all other values.
NOT_SMALL: Final = object()

# Errors of constructors for unsuitable parts. numpy raises SystemError for code points beyond Unicode.
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
    """Return the value that `pack` wrote, if it can be made at once. Raises the errors of `decode`."""
    try:
        return decode(data, 0).finish(at_once=True)
    except UnreadableValueError as error:
        raise ProtocolError(f"a value that is not allowed here: {error}") from error


def decode_small(head: bytes) -> object:
    """Return an atom or a small list without marks; `NOT_SMALL` for other heads. Raises the errors of `decode`.

    Most messages are one number, or empty, or the result of a short job. This takes a third of the time of `decode`.
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
    """A value has parts that are not msgpack's own types."""


def _give_up(_code: int, _data: bytes) -> object:
    raise _MarkedError


class Incoming:
    """A value that is arriving: memory for its buffers, and the value when they are filled."""

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
        self._tree = tree  # including the branches before it
        self._branch_count = branch_count
        self._received = received
        self._max_items = max_items
        #: Flat, writable bytes, to be filled in this order. None of them is empty. Cleared by `finish`.
        self.buffers = [
            view
            for kind, target in received
            if (view := dtypes.flat_bytes(target) if kind <= _ARRAY_F else memoryview(target)).nbytes
        ]

    def finish(self, *, at_once: bool = False, look: Look = lambda: None) -> object:
        """Return the value. Call this when all `buffers` are filled, and again only after an error.

        With `at_once`, values of packages and of registered types raise an error and are left to a later call: making
        them runs foreign code, which must not happen while many connections are served.

        `look` is called repeatedly while a large value is made, and may raise. So may signal handlers.

        Arrays and bytearrays use the memory that was filled; large bytes objects are copied from it. The items of
        arrays are not checked: a str array from a hostile peer may contain invalid characters.

        Raises `ProtocolError` if the head does not describe a value, or describes one with too many items. Raises
        `UnreadableValueError` if this node cannot make the value, or cannot make it now (`at_once`): a package is
        missing, or a registered function fails.
        """
        for view in self.buffers:
            view.release()  # a bytearray cannot be resized by its new owner while a view of it exists
        self.buffers.clear()
        if self._head.nbytes > LARGE_HEAD_BYTES:
            self._check(look)
        entries = _MADE_AT_ONCE if at_once else BY_CODE
        return _Reader(self._received, entries, look).read(self._tree, self._branch_count)

    def _check(self, look: Look) -> None:
        """Check that all items are present and not too many, before any is made."""
        objects = 2 + self._branch_count
        if self._head.nbytes > self._max_items:
            count, alone = count_items(self._head, self._max_items, look)
            if count > self._max_items:
                raise ProtocolError(
                    f"a value with more items than {self._max_items}, the limit for max_message_bytes"
                )
            if alone != objects:
                raise ProtocolError("malformed value: items are missing or superfluous")
            return
        skimmer = _unpacker(self._head, look)
        try:
            for _ in range(objects):
                skimmer.skip()
        except MALFORMED as error:
            raise ProtocolError(f"malformed value: {type(error).__name__}: {error!s:.200}") from error

    def first_items(self, count: int) -> list[Any]:
        """Return the first items of a value that is a list. They must be of msgpack's own types.

        Raises `ProtocolError` if the value is not such a list.
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
    """Return an unpacker that reads the data in pieces, and checks the deadline and Ctrl-C between them."""
    source = _Source(data, look)
    return msgpack.Unpacker(
        source, read_size=_PIECE_BYTES, max_buffer_size=data.nbytes + _PIECE_BYTES, **options
    )


class _Source:
    """A file-like object with only the method `read`."""

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
    """Parse the table of buffers in a head, and allocate the buffers.

    `head`: as returned by `encode`. It must not change before `Incoming.finish`. `payload_bytes`: total size of all
    buffers, which the caller has accepted. `max_items`: maximum number of items in the head. Raises `ProtocolError` if
    the head is malformed, if it describes another number of bytes (then nothing was allocated), or if there is not
    enough memory.
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
    # msgpack allocates a list with the length in its header before it has seen any item, at each level, so some
    # kilobytes could take gigabytes. Skimming allocates nothing and checks that all items are present.
    begin = head[:MAX_TABLE_BYTES]
    skimmer = msgpack.Unpacker(max_buffer_size=begin.nbytes)
    skimmer.feed(begin)
    skimmer.skip()
    border = skimmer.tell()
    if border > MAX_TABLE_ITEMS and count_items(head[:border], MAX_TABLE_ITEMS)[0] > MAX_TABLE_ITEMS:
        raise ProtocolError(f"the table of buffers has more than {MAX_TABLE_ITEMS} items")
    table = msgpack.unpackb(head[:border], ext_hook=_refuse_extension, timestamp=3)
    if type(table) is not list:
        raise ProtocolError("the head does not start with a table of buffers")
    branch_count = table.pop(0) if table and type(table[0]) is int else 0
    if branch_count < 0:
        raise ProtocolError("the head announces a negative number of branches")
    if head.nbytes <= LARGE_HEAD_BYTES:
        for _ in range(branch_count + 1):  # it ends with the data, however large the number is
            skimmer.skip()
    return table, branch_count, head[border:]


def _refuse_extension(code: int, _: bytes) -> object:
    raise ProtocolError(f"the extension {code} is not allowed here")


def _plan(entry: object) -> tuple[int, int, Callable[[], Any]]:
    """Return the kind and size of a buffer, and a function that allocates it."""
    match entry:
        case [int() as kind, int() as size] if kind in (_BYTES, _BYTEARRAY) and size >= 0:
            if kind == _BYTES and size >= MIN_BYTES:  # it will be copied, so any memory will do
                return kind, size, lambda: RECEIVE_BUFFERS.take(size)[:size]
            return kind, size, lambda: bytearray(size)
        case [int() as kind, description, list() as shape] if kind in (_ARRAY_C, _ARRAY_F):
            dtype = dtypes.restore_dtype(description)
            size = dtypes.byte_count(dtype, shape)
            return kind, size, lambda: dtypes.allocate(dtype, shape, kind, size)
    raise ProtocolError("not a description of a buffer")


_NO_BRANCHES: Final[deque[tuple[object, int]]] = deque()  # always empty


class _Reader:
    """Assembles one value while msgpack reads the branches and the tree."""

    __slots__ = ("_branches", "_entries", "_look", "_nested", "_open_marks", "_received")

    def __init__(self, received: list[tuple[int, Any]], entries: Mapping[int, ValueType], look: Look) -> None:
        self._received = received[::-1]
        self._entries = entries
        self._look = look
        self._open_marks = 0
        self._branches = _NO_BRANCHES  # branches that are not used yet, each with its nesting depth

    def read(self, tree: memoryview, branch_count: int) -> object:
        # A timestamp, which the encoder never writes, becomes a datetime instead of a type of msgpack.
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
            raise ProtocolError("malformed value: a mark that is not at the start of a list")
        if self._received or self._branches:
            raise ProtocolError("malformed value: an unused buffer or branch")
        return value

    def _read_in_pieces(self, data: memoryview, branch_count: int, options: dict[str, Any]) -> object:
        """Read all branches, and the tree after them."""
        self._branches = deque()
        unpacker = _unpacker(data, self._look, **options)
        for _ in range(branch_count):
            self._nested = 1
            branch = unpacker.unpack()
            if self._open_marks:
                raise ProtocolError("malformed value: a mark that is not at the start of a list")
            self._branches.append((branch, self._nested))
        self._nested = 1
        value = unpacker.unpack()
        if unpacker.tell() != data.nbytes:
            raise ProtocolError("malformed value: superfluous data after it")
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
                raise UnreadableValueError(f"a value of the type {code} is not allowed here")
            raise ProtocolError(f"a value of the unknown type {code}")
        self._open_marks += 1
        return entry

    def _next_branch(self) -> object:
        if not self._branches:
            raise ProtocolError("malformed value: a missing branch")
        branch, nested = self._branches.popleft()
        self._nested = max(self._nested, nested + 1)
        # Python's C code for contained objects could overflow the stack.
        if self._nested > MAX_NESTED_BRANCHES:
            raise ProtocolError(f"malformed value: more than {MAX_NESTED_BRANCHES} nested branches")
        return branch

    def _list(self, items: list[Any]) -> object:
        if items and type(items[0]) is ValueType:
            self._open_marks -= 1
            return items[0].read(items[1:])
        return items
