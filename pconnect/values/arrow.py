"""Arrow tables, batches, arrays and schemas as Arrow IPC streams. Frames of pandas and polars use them, too.

A stream is written once into memory and sent from there. The receiver's arrays use the memory that was received. Data
from a peer is not trusted:

- A stream with compressed bodies could grow a thousandfold, so it is refused. Only the metadata of each message says
  whether it is compressed. `_Fields` reads those few fields after Arrow has verified them.
- Extension types have code that reads the received data; that of ``arrow.py_extension_type`` unpickles it. They are
  refused before Arrow has seen the schema. The writer here uses neither.
- Offsets, indices and text are validated in full, because Arrow's functions trust them.
- Unions are refused: Arrow accepts a union whose buffers are missing, and crashes when it is used.
- Overlapping buffers would be copied each time they are named, so all of them together must fit into the stream.
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
# Numbers from the format: Message.fbs and its unions.
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3


class _Fields:
    """A table of a flatbuffer that Arrow has verified. Its fields have numbers; each is absent or has an offset."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._fields = position - struct.unpack_from("<i", data, position)[0]

    def offset(self, number: int) -> int:
        """Return the offset of a field, or 0."""
        if 4 + 2 * number >= struct.unpack_from("<H", self._data, self._fields)[0]:
            return 0
        offset: int = struct.unpack_from("<H", self._data, self._fields + 4 + 2 * number)[0]
        return offset and self._position + offset

    def table(self, number: int) -> "_Fields | None":
        """Return the table to which a field refers."""
        at = self.offset(number)
        return _Fields(self._data, at + struct.unpack_from("<I", self._data, at)[0]) if at else None

    def byte(self, number: int) -> int:
        """Return the value of a one-byte field."""
        at = self.offset(number)
        return self._data[at] if at else 0


def _check_message(data: bytes, first: bool) -> None:
    """Refuse a message that Arrow would read although it is unsafe."""
    message = _Fields(data, struct.unpack_from("<I", data)[0])
    kind, content = message.byte(1), message.table(2)
    if (
        content is None
        or (kind == _SCHEMA) != first
        or kind not in (_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH)
    ):
        raise ProtocolError("not a message of an Arrow stream")
    if kind == _SCHEMA and _EXTENSION in data:
        raise ProtocolError("an Arrow extension type, which could run its own code")
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
    raise ProtocolError("an Arrow stream without a proper end")


def _has_union(kind: Any) -> bool:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _has_union(kind.value_type)
    return pa.types.is_union(kind) or any(_has_union(kind.field(i).type) for i in range(kind.num_fields))


def read_stream(stream: object) -> Any:
    """Return the table of an IPC stream. The table uses the memory of `stream`.

    Raises `ProtocolError` if the stream is malformed or has forbidden contents.
    """
    if type(stream) is not np.ndarray or stream.dtype != np.uint8 or stream.ndim != 1:
        raise ProtocolError("an Arrow stream must be an array of bytes")
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
    except Exception as error:  # Arrow's errors have no other common base class
        raise ProtocolError(f"malformed Arrow stream: {type(error).__name__}: {error!s:.200}") from error
    if nbytes > stream.nbytes:
        raise ProtocolError("the columns of an Arrow stream overlap")
    return table


def write_stream(table: Any) -> Any:
    """Return a table or a record batch as an IPC stream in an array of bytes.

    Raises `UnsupportedValueError` if it has an extension type or a union, or if Arrow cannot write it.
    """
    if _EXTENSION in table.schema.serialize().to_pybytes():
        raise UnsupportedValueError(
            "cannot send Arrow extension types, because reading them runs code: send their storage instead"
        )
    if any(map(_has_union, table.schema.types)):
        raise UnsupportedValueError("cannot send Arrow unions: send their fields instead")
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(
            sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=None)
        ) as writer:
            writer.write(table)
    except pa.ArrowException as error:
        raise UnsupportedValueError(f"cannot send it: Arrow reports {error}") from error
    return np.frombuffer(sink.getvalue(), np.uint8)


def _column(table: Any) -> Any:
    if table.num_columns != 1:
        raise ProtocolError("an Arrow array must be one column")
    return table.column(0)


def _chunk(column: Any) -> Any:
    if column.num_chunks != 1:
        raise ProtocolError("an Arrow array must be one chunk")
    return column.chunk(0)


def _batch(table: Any) -> Any:
    if not table.num_columns:
        return (*table.to_batches(), pa.RecordBatch.from_arrays([], schema=table.schema))[0]
    return pa.RecordBatch.from_arrays(list(map(_chunk, table.columns)), schema=table.schema)


# For each class: the conversion to a table or batch for the stream, and the conversion back. Batches are written even
# if they are empty, unlike tables.
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
    """Make a value from its received name and stream."""
    match parts:
        case [str() as name, stream] if name in _WAYS:
            table = read_stream(stream)
            try:
                made: object = _WAYS[name][1](table)
            except pa.ArrowException as error:
                raise ProtocolError(f"not a {name}: {error!s:.200}") from error
            return made
    raise ProtocolError("wrong parts for an Arrow value")


_ENTRIES: Final = {name: _entry(name) for name in _WAYS}


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a pyarrow class, or ``None``."""
    for name, entry in _ENTRIES.items():
        if kind is getattr(pa, name) or (name == "Array" and issubclass(kind, pa.Array)):
            return entry
    return None
