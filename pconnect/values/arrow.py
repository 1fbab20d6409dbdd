"""Arrow's tables, batches, arrays and schemas as Arrow IPC streams; frames of pandas and polars go as these, too.

A stream is written once into memory and sent from there; the receiver's arrays lie in the memory that was received.
What a peer sends is not trusted:

- a stream with compressed bodies could become a thousand times as large, and is refused. Arrow tells of compression
  only in the metadata of each message, whose few fields are read here (`_Fields`), after Arrow has verified them;
- extension types have code of their own that reads what was received, that of ``arrow.py_extension_type`` unpickles it.
  They are refused before Arrow has looked at the schema. We write neither;
- offsets, indices and text are validated in full: Arrow's functions trust them;
- unions are refused: Arrow finds one valid whose buffers are missing, and crashes when it is used;
- buffers that overlap would be copied as often as they are named: together they are no larger than the stream.
"""

import struct
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read", "read_stream", "write_stream"]

_CODE: Final = 41
_EXTENSION: Final = b"ARROW:extension:name"
# Numbers of the format: Message.fbs and the unions in it.
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3


class _Fields:
    """A table of a flatbuffer that Arrow has verified: its fields by number, each absent or at an offset."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._fields = position - struct.unpack_from("<i", data, position)[0]

    def offset(self, number: int) -> int:
        """Return where the field is, or 0."""
        if 4 + 2 * number >= struct.unpack_from("<H", self._data, self._fields)[0]:
            return 0
        offset: int = struct.unpack_from("<H", self._data, self._fields + 4 + 2 * number)[0]
        return offset and self._position + offset

    def table(self, number: int) -> "_Fields | None":
        """Return the table that the field refers to."""
        at = self.offset(number)
        return _Fields(self._data, at + struct.unpack_from("<I", self._data, at)[0]) if at else None

    def byte(self, number: int) -> int:
        """Return the value of a field of one byte."""
        at = self.offset(number)
        return self._data[at] if at else 0


def _check_message(data: bytes, first: bool) -> None:
    """Refuse a message which Arrow would read but should not."""
    message = _Fields(data, struct.unpack_from("<I", data)[0])
    kind, content = message.byte(1), message.table(2)
    if (
        content is None
        or (kind == _SCHEMA) != first
        or kind not in (_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH)
    ):
        raise ProtocolError("not a message of an Arrow stream")
    if kind == _SCHEMA and _EXTENSION in data:
        raise ProtocolError("an Arrow extension type, which could run code of its own")
    batch = content.table(1) if kind == _DICTIONARY_BATCH else content
    if kind != _SCHEMA and (batch is None or batch.offset(3)):
        raise ProtocolError("a compressed Arrow stream, whose size in memory is unknown")


def _check_stream(buffer: Any) -> None:
    source = pa.BufferReader(buffer)
    for number in count():
        try:
            message = pa.ipc.read_message(source)
        except EOFError:
            if number and source.tell() == buffer.size:
                return
            break
        _check_message(message.metadata.to_pybytes(), number == 0)
    raise ProtocolError("an Arrow stream that does not end where it should")


def _has_union(kind: Any) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _has_union(kind.value_type)
    return pa.types.is_union(kind) or any(_has_union(kind.field(i).type) for i in range(kind.num_fields))


def read_stream(stream: object) -> Any:
    """Return the table of an IPC stream, which lies in the memory of `stream`.

    Raises `ProtocolError` if the stream is malformed, or has what is not allowed.
    """
    if type(stream) is not np.ndarray or stream.dtype != np.uint8 or stream.ndim != 1:
        raise ProtocolError("an Arrow stream is an array of bytes")
    try:
        buffer = pa.py_buffer(stream)
        _check_stream(buffer)
        reader = pa.ipc.open_stream(buffer)
        if any(map(_has_union, reader.schema.types)):
            raise ProtocolError("an Arrow union")
        table = reader.read_all()
        table.validate(full=True)
        nbytes = table.nbytes
    except ProtocolError:
        raise
    except Exception as error:  # Arrow's errors have no common root but this
        raise ProtocolError(f"malformed Arrow stream: {type(error).__name__}: {error!s:.200}") from error
    if nbytes > stream.nbytes:
        raise ProtocolError("the columns of an Arrow stream overlap")
    return table


def write_stream(table: Any) -> Any:
    """Return a table, or a record batch, as an IPC stream in an array of bytes.

    Raises `UnsupportedValueError` if it has an extension type or a union, or Arrow cannot write it.
    """
    if _EXTENSION in table.schema.serialize().to_pybytes():
        raise UnsupportedValueError(
            "cannot send Arrow extension types, whose reading runs code: send their storage instead"
        )
    if any(map(_has_union, table.schema.types)):
        raise UnsupportedValueError("cannot send Arrow unions; send their fields instead")
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(
            sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=None)
        ) as writer:
            writer.write(table)
    except pa.ArrowException as error:
        raise UnsupportedValueError(f"cannot send: Arrow says {error}") from error
    return np.frombuffer(sink.getvalue(), np.uint8)


def _column(table: Any) -> Any:
    if table.num_columns != 1:
        raise ProtocolError("an Arrow array is one column")
    return table.column(0)


def _chunk(column: Any) -> Any:
    if column.num_chunks != 1:
        raise ProtocolError("an Arrow array is one piece")
    return column.chunk(0)


def _batch(table: Any) -> Any:
    if not table.num_columns:
        return (*table.to_batches(), pa.RecordBatch.from_arrays([], schema=table.schema))[0]
    return pa.RecordBatch.from_arrays(list(map(_chunk, table.columns)), schema=table.schema)


# For each name: how it becomes what has a stream, and how it is made of the table that arrived. Of a batch, unlike of a
# table, also an empty one is written.
_WAYS: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "Table": (lambda table: table, lambda table: table),
    "RecordBatch": (lambda batch: batch, _batch),
    "ChunkedArray": (lambda column: pa.table([column], names=[""]), _column),
    "Array": (lambda array: pa.record_batch([array], names=[""]), lambda table: _chunk(_column(table))),
    "Schema": (lambda schema: pa.Table.from_batches([], schema), lambda table: table.schema),
}


def _entry(name: str) -> ValueType:
    def write(value: Any) -> tuple[object, ...]:
        return name, write_stream(_WAYS[name][0](value))

    return ValueType(_CODE, (), write, read, ("name", "stream"))


def read(parts: list[Any]) -> object:
    """Make what was sent of its name and stream."""
    match parts:
        case [str() as name, stream] if name in _WAYS:
            table = read_stream(stream)
            try:
                made: object = _WAYS[name][1](table)
            except pa.ArrowException as error:
                raise ProtocolError(f"no {name}: {error!s:.200}") from error
            return made
    raise ProtocolError("wrong parts for a value of Arrow")


_ENTRIES: Final = {name: _entry(name) for name in _WAYS}


def find_entry(kind: type) -> ValueType | None:
    """Return how the values of a class of pyarrow are written."""
    for name, entry in _ENTRIES.items():
        if kind is getattr(pa, name) or (name == "Array" and issubclass(kind, pa.Array)):
            return entry
    return None
