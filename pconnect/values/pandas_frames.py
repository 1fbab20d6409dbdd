"""pandas frames, series and indices: their columns as an Arrow stream, with pyarrow's metadata for the dtypes.

Index, labels, names and `attrs` are separate values, and so are the items of object columns: Arrow would turn labels
into text, `None` into NaN and a tuple into a list. Its effect on other columns depends on its version and on that of
pandas. So before anything is sent, the sender makes the value that would arrive, with the receiver's function, and
compares it with the original. A difference is an error.

The metadata is JSON, and pyarrow makes dtypes from the names in it. Only names of dtypes that are sent are accepted,
and no types of columns whose values may be arbitrarily larger in pandas than in Arrow.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.testing import assert_frame_equal, assert_index_equal

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.arrow import read_stream, write_stream
from pconnect.values.builtin_types import ValueType, make_named

__all__ = ["find_entry", "read"]

_CODE: Final = 42
_ADVICE: Final = "convert it, or send it as a list"

_DTYPE_NAME: Final = re.compile(
    r"object|str|string(\[(python|pyarrow)\])?|boolean|category"
    r"|([uU]?[iI]nt|[fF]loat|bool)(8|16|32|64)?"
    r"|(datetime|timedelta)64\[(s|ms|us|ns)(, [\w/+:-]{1,64})?\]"
    r"|[\w(), =/:+-]{1,80}(\[(s|ms|us|ns)(, tz=[\w/+:-]{1,64})?\])?\[pyarrow\]"
)
_FLAT: Final[tuple[Callable[[Any], bool], ...]] = (
    pa.types.is_primitive,  # numbers, bool, dates, times, durations
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


# Frames of plain columns, labelled "0", "1", ...


def _write_columns(frame: Any) -> Any:
    try:
        stream = write_stream(pa.Table.from_pandas(frame, preserve_index=False))
        made = _read_columns(stream)
    except UnsupportedValueError:
        raise
    except ProtocolError as error:
        raise UnsupportedValueError(f"{error}; {_ADVICE}") from error
    except Exception as error:  # Arrow's errors have no other common base class
        reasons = "; ".join(map(str, error.args))
        raise UnsupportedValueError(f"Arrow cannot represent it: {reasons:.300}; {_ADVICE}") from error
    try:
        assert_frame_equal(frame, made, check_exact=True, check_column_type=False)
    except AssertionError as error:
        reason = " ".join(str(error).split())
        raise UnsupportedValueError(f"Arrow would change it: {reason:.300}; {_ADVICE}") from error
    return stream


def _read_columns(stream: object) -> Any:
    table = read_stream(stream)
    try:
        for field in table.schema:
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not any(is_flat(kind) for is_flat in _FLAT):
                raise ProtocolError(f"pandas does not preserve {kind} from Arrow")
        metadata = json.loads(table.schema.metadata[b"pandas"])
        if metadata["index_columns"] or len(metadata["columns"]) != table.num_columns:
            raise ProtocolError("pandas metadata that does not match the columns")
        for column in [*metadata["columns"], *metadata["column_indexes"]]:
            if not _DTYPE_NAME.fullmatch(column["numpy_type"]):
                raise ProtocolError(f"cannot send the dtype {column['numpy_type']:.80}")
        frame = table.to_pandas()
    except ProtocolError:
        raise
    except Exception as error:  # pandas may raise any error for a hostile peer's metadata
        raise ProtocolError(f"malformed pandas metadata: {type(error).__name__}: {error!s:.200}") from error
    if list(frame.columns) != list(map(str, range(table.num_columns))):
        raise ProtocolError("pandas columns that are not numbered")
    return frame


# Indices


def _write_index(index: Any) -> tuple[object, ...]:
    names = list(index.names)
    if type(index) is pd.RangeIndex:
        return "Index", range(index.start, index.stop, index.step), None, names
    if index.nlevels == 1 and index.dtype == object:
        return "Index", list(index), None, names
    labels = list(map(str, range(index.nlevels)))
    try:
        stream = _write_columns(index.to_frame(index=False, name=labels if index.nlevels > 1 else "0"))
    except UnsupportedValueError as error:
        raise UnsupportedValueError(f"cannot send {type(index)}: {error}") from error
    parts = "Index", stream, getattr(index, "freqstr", None), names
    try:
        made = read(list(parts))
        assert_index_equal(index, made, exact=True)
    except (ProtocolError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise UnsupportedValueError(f"cannot send {type(index)}: {reason:.300}; {_ADVICE}") from error
    return parts


def _make_index(content: object, frequency: object, names: Any) -> Any:
    index: Any
    if type(content) is range:
        index = pd.RangeIndex(content)
    elif type(content) is list:
        index = pd.Index(content, dtype=object, tupleize_cols=False)
    else:
        frame = _read_columns(content)
        index = pd.MultiIndex.from_frame(frame) if frame.shape[1] > 1 else pd.Index(frame["0"].copy())
    index.names = names
    if frequency is not None:
        timed = isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex)
        if not timed or type(frequency) is not str or len(frequency) > 40:
            raise ProtocolError("not the frequency of an index")
        index.freq = frequency  # pandas checks that the items match it
    return index


# Frames and series


def _write_frame(name: str, value: Any) -> tuple[object, ...]:
    frame = value if name == "DataFrame" else value.to_frame(0)
    if not value.flags.allows_duplicate_labels:
        raise UnsupportedValueError(f"cannot send {type(value)} whose flags do not allow duplicate labels")
    labels = list(map(str, frame.columns))
    plain = {}
    objects = {}
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        if column.dtype == object:
            objects[position, labels[position]] = list(column)
        else:
            plain[position] = column.array
    try:
        stream = _write_columns(
            _numbered(pd.DataFrame(plain, index=range(len(frame) if plain else 0), copy=False))
        )
    except UnsupportedValueError as error:
        which = _refused_column(plain)
        column_name = "" if which is None or name == "Series" else f" with the column {labels[which]!r}"
        raise UnsupportedValueError(f"cannot send {type(value)}{column_name}: {error}") from error
    label = frame.columns if name == "DataFrame" else value.name
    return name, stream, frame.index, label, objects, value.attrs


def _refused_column(plain: dict[int, Any]) -> int | None:
    for position, column in plain.items():
        try:
            _write_columns(pd.DataFrame({"0": column}))
        except UnsupportedValueError:
            return position
    return None


def _numbered(frame: Any) -> Any:
    frame.columns = pd.Index(map(str, range(frame.shape[1])), dtype=str)
    return frame


def _make_frame(stream: object, index: Any, label: Any, objects: Any, attrs: Any) -> Any:
    if not isinstance(index, pd.Index) or type(objects) is not dict or type(attrs) is not dict:
        raise ProtocolError("wrong parts for a pandas value")
    arrow = _read_columns(stream)
    lists = {position: items for (position, _), items in objects.items() if type(items) is list}
    count = arrow.shape[1] + len(objects)
    plain = iter(arrow.columns)
    columns = {
        position: _object_column(lists[position], index) if position in lists else arrow[next(plain)].array
        for position in range(count)
    }
    if next(plain, None) is not None or (arrow.shape[1] and len(arrow) != len(index)):
        raise ProtocolError("the columns of a pandas value do not match")
    # This makes a copy that can be written to, unlike Arrow's memory.
    frame = pd.DataFrame(columns, index=index, copy=True)
    if isinstance(label, pd.Index):
        frame.columns = label
    frame.attrs = attrs
    return frame


def _object_column(items: list[Any], index: Any) -> Any:
    array = np.empty(len(items), object)
    array[:] = items  # numpy.array would turn lists of equal length into a second axis
    return pd.Series(array, index, dtype=object, copy=False)


def _make_series(stream: object, index: Any, label: Any, objects: Any, attrs: Any) -> Any:
    frame = _make_frame(stream, index, None, objects, attrs)
    if frame.shape[1] != 1:
        raise ProtocolError("a Series must be one column")
    series = frame[0]
    series.name = label
    series.attrs = attrs
    return series


def _make_data_frame(stream: object, index: Any, label: Any, objects: Any, attrs: Any) -> Any:
    if not isinstance(label, pd.Index):
        raise ProtocolError("a DataFrame needs labels")
    return _make_frame(stream, index, label, objects, attrs)


_MAKERS: Final[dict[str, Callable[..., Any]]] = {
    "DataFrame": _make_data_frame,
    "Series": _make_series,
    "Index": _make_index,
}


def read(parts: list[Any]) -> object:
    """Make a value from its received parts."""
    return make_named(_MAKERS, parts, "a pandas value")


_ENTRIES: Final = {
    "DataFrame": ValueType(
        _CODE, (), lambda value: _write_frame("DataFrame", value), read,
        ("class", "stream", "index", "columns", "object_columns", "attrs"),
    ),
    "Series": ValueType(
        _CODE, (), lambda value: _write_frame("Series", value), read,
        ("class", "stream", "index", "name", "items", "attrs"),
    ),
    "Index": ValueType(_CODE, (), _write_index, read, ("class", "items", "freq", "names")),
}  # fmt: skip


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a pandas class, or ``None``."""
    for name, entry in _ENTRIES.items():
        base = getattr(pd, name)
        # All index classes of pandas derive from `Index`. Classes derived elsewhere do not get here.
        if kind is base or (name == "Index" and issubclass(kind, base)):
            return entry
    return None
