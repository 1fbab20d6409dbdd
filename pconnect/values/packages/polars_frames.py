"""Frames and series of polars, as the Arrow streams that polars writes.

polars' own reader trusts streams, so pyarrow reads received data, and `pconnect.values.arrow` checks it. The sender
makes the value that would arrive and compares: a dtype that Arrow does not have is an error, not another dtype.

Only types that polars writes are read. polars converts other types to its own, where a few bytes may become many: each
row of a dictionary becomes a copy of its value, and when memory runs out, polars aborts the process.
"""

from collections.abc import Callable
from typing import Any, Final

import polars as pl
import pyarrow as pa

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.arrow import read_stream, write_stream
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read"]

_CODE: Final = 48
# A panic of polars is not an `Exception`.
_ERRORS: Final = (Exception, pl.exceptions.PanicException)

_FLAT: Final[tuple[Callable[[Any], bool], ...]] = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal128,
    pa.types.is_date32,
    pa.types.is_time64,
    pa.types.is_timestamp,
    pa.types.is_duration,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
)
_TEXT: Final[tuple[Callable[[Any], bool], ...]] = (pa.types.is_large_string, pa.types.is_string_view)
_NESTED: Final[tuple[Callable[[Any], bool], ...]] = (
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_struct,
    pa.types.is_map,
)


def _is_any(kind: Any, tests: tuple[Callable[[Any], bool], ...]) -> bool:
    return any(test(kind) for test in tests)


def _is_of_polars(kind: Any) -> bool:
    """Whether polars writes this type. Of dictionaries, only those of texts, which it does not copy."""
    if pa.types.is_dictionary(kind):
        return _is_any(kind.value_type, _TEXT)
    if pa.types.is_fixed_size_list(kind) and not kind.list_size:
        return False
    if _is_any(kind, _NESTED):
        return all(_is_of_polars(kind.field(i).type) for i in range(kind.num_fields))
    return _is_any(kind, _FLAT) or _is_any(kind, _TEXT)


def _write(name: str, frame: Any, label: str) -> tuple[object, ...]:
    try:
        stream = write_stream(frame.to_arrow())
        made = _read_frame(stream)
    except UnsupportedValueError:
        raise
    except _ERRORS as error:
        raise UnsupportedValueError(f"Arrow cannot represent it: {error!s:.300}; cast it first") from error
    if made.schema != frame.schema:
        column = next(column for column in frame.columns if made.schema.get(column) != frame.schema[column])
        raise UnsupportedValueError(
            f"Arrow would turn the column {column!r}, which is {frame.schema[column]}, into {made.schema[column]}; "
            "cast it first"
        )
    return name, stream, label


def _read_frame(stream: object) -> Any:
    table = read_stream(stream)
    for kind in table.schema.types:
        if not _is_of_polars(kind):
            raise ProtocolError(f"polars does not preserve {kind!s:.80} from Arrow")
    try:
        frame = pl.from_arrow(table, rechunk=False)
        frame.columns = table.column_names  # polars renames an empty name
    except _ERRORS as error:
        raise ProtocolError(f"not a polars frame: {error!s:.200}") from error
    return frame


def read(parts: list[Any]) -> object:
    """Make a value from its received class, stream and name."""
    match parts:
        case ["DataFrame", stream, ""]:
            return _read_frame(stream)
        case ["Series", stream, str() as name]:
            frame = _read_frame(stream)
            if frame.width != 1:
                raise ProtocolError("a polars Series must be one column")
            return frame.to_series().alias(name)
    raise ProtocolError("wrong parts for a polars value")


_ENTRIES: Final = {
    pl.DataFrame: ValueType(
        _CODE,
        (),
        lambda value: _write("DataFrame", value, ""),
        read,
        ("class", "to_arrow()"),
    ),
    pl.Series: ValueType(
        _CODE,
        (),
        # Without its name, which may not be a valid column name.
        lambda value: _write("Series", value.alias("").to_frame(), value.name),
        read,
        ("class", "to_arrow()", "name"),
    ),
}


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a polars class, or ``None``."""
    if kind is pl.LazyFrame:
        raise UnsupportedValueError(
            "cannot send a polars LazyFrame, because it has no data yet: send its collect()"
        )
    return _ENTRIES.get(kind)
