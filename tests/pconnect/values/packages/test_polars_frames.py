"""Frames and series of polars keep their dtypes."""

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal, assert_series_equal

from pconnect import ProtocolError, UnsupportedValueError
from pconnect.values.arrow import write_stream
from pconnect.values.packages.polars_frames import read
from tests.support.transmission import transmit

NOW = datetime.datetime(2026, 3, 29, 2, 30)
COLUMNS = {
    "integers": pl.Series([1, None, -3], dtype=pl.Int8),
    "unsigned": pl.Series([1, 2, 3], dtype=pl.UInt64),
    "floats": pl.Series([1.5, float("nan"), None], dtype=pl.Float32),
    "bool": pl.Series([True, None, False]),
    "text": pl.Series(["a", None, "ä€"]),
    "bytes": pl.Series([b"a", None, b""]),
    "dates": pl.Series([NOW.date(), None, NOW.date()]),
    "times": pl.Series([NOW.time(), None, NOW.time()]),
    "instants": pl.Series([NOW] * 3, dtype=pl.Datetime("ms")),
    "zoned": pl.Series([NOW] * 3).dt.replace_time_zone("Europe/Berlin", non_existent="null"),
    "durations": pl.Series([datetime.timedelta(1)] * 3, dtype=pl.Duration("ns")),
    "decimals": pl.Series([Decimal("1.25")] * 3, dtype=pl.Decimal(10, 2)),
    "lists": pl.Series([[1, 2], None, []]),
    "arrays": pl.Series([[1, 2]] * 3, dtype=pl.Array(pl.Int16, 2)),
    "structs": pl.Series([{"a": 1, "b": "x"}] * 3),
    "nulls": pl.Series([None] * 3),
    "enums": pl.Series(["x", None, "y"], dtype=pl.Enum(["y", "x", "z"])),
    "categories": pl.Series(["u", "v", "u"], dtype=pl.Categorical),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_series(name: str) -> None:
    series = COLUMNS[name].alias(name)
    arrived = transmit(series)
    assert type(arrived) is pl.Series and arrived.dtype == series.dtype and arrived.name == name
    assert_series_equal(arrived, series)


def test_a_frame_in_a_value() -> None:
    frame = pl.DataFrame(COLUMNS)
    (arrived,) = transmit([frame])
    assert type(arrived) is pl.DataFrame and arrived.schema == frame.schema
    assert_frame_equal(arrived, frame)


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame(),
        pl.DataFrame({"": [1], "a": [2]}),
        pl.DataFrame({"a": []}),
        pl.DataFrame({"a": [1.0]})[:0],
    ],
)
def test_empty_and_nameless_frames(frame: Any) -> None:
    arrived = transmit(frame)
    assert arrived.schema == frame.schema and arrived.shape == frame.shape


def test_a_large_part_of_a_frame() -> None:
    frame = pl.DataFrame({"a": np.arange(10**5), "b": np.arange(10**5) / 7})
    assert_frame_equal(transmit(frame[500:90_000]), frame[500:90_000])


def test_invalid_data_is_refused() -> None:
    with pytest.raises(UnsupportedValueError, match=r"send its collect\(\)"):
        transmit(pl.DataFrame({"a": [1]}).lazy())
    with pytest.raises(UnsupportedValueError):
        transmit(pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}))


def stream_of(column: Any, metadata: Any = None) -> Any:
    return write_stream(pa.table([column], schema=pa.schema([pa.field("a", column.type, metadata=metadata)])))


@pytest.mark.parametrize("value", [b"x" * 50_000, list(range(50_000)), {"a": b"x" * 50_000}])
def test_a_dictionary_whose_rows_would_become_copies_is_refused(value: Any) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int8)), pa.array([value]))
    with pytest.raises(ProtocolError, match="polars does not preserve dictionary"):
        read(["DataFrame", stream_of(column), ""])
    with pytest.raises(ProtocolError, match="polars does not preserve"):
        read(["DataFrame", stream_of(pa.StructArray.from_arrays([column], ["b"])), ""])


@pytest.mark.parametrize(
    "kind",
    [
        pa.decimal256(50, 2),
        pa.month_day_nano_interval(),
        pa.run_end_encoded(pa.int32(), pa.int8()),
        pa.list_(pa.int8(), 0),
        pa.binary(3),
    ],
)
def test_types_that_polars_does_not_write_are_refused(kind: Any) -> None:
    with pytest.raises(ProtocolError, match="polars does not preserve"):
        read(["DataFrame", stream_of(pa.array([], kind)), ""])


@pytest.mark.parametrize(
    "metadata",
    [
        {"_PL_ENUM_VALUES": "5;abc"},
        {"_PL_ENUM_VALUES": "99999999;abc"},
        {"_PL_ENUM_VALUES2": "-1;x"},
        {"_PL_ENUM_VALUES2": "9" * 30 + ";x"},
        {"_PL_ENUM_VALUES2": "2;aa2;aa"},
    ],
)
def test_a_panic_of_polars_is_an_error_of_the_peer(metadata: Any) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0], pa.uint32()), pa.array(["x"], pa.large_string()))
    with pytest.raises(ProtocolError):
        read(["DataFrame", stream_of(column, metadata), ""])


def test_a_panic_of_polars_when_it_writes_says_what_to_do() -> None:
    with pytest.raises(UnsupportedValueError, match="cast it first"):
        transmit(pl.Series([[], []], dtype=pl.Array(pl.Int8, 0)))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        ["DataFrame"],
        ["DataFrame", np.zeros(8, np.uint8), ""],
        ["Series", b"", "a"],
        ["LazyFrame", b"", ""],
    ],
)
def test_wrong_parts(parts: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        read(parts)
