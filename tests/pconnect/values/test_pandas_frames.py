"""pandas values that Arrow would change, and parts that our encoder never writes."""

import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values import decoder, encoder, pandas_frames
from pconnect.values.arrow import write_stream
from pconnect.values.pandas_frames import read

FRAME = pd.DataFrame({"a": [1, 2]})
INDEX = pd.RangeIndex(2)
LABELS = pd.Index(["a"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pd.DataFrame({"a": [1, 2], "b": [object(), 1]}), r"^value\[0\]\.object_columns\[\(1, 'b'\)\]\[0\]: ca"),
        (pd.DataFrame({"a": [1], "b": [1j]}), r"^value\[0\]: .*the column 'b': Arrow cannot .* complex128"),
        (pd.DataFrame({"p": pd.period_range("2024", periods=2)}), r"^value\[0\]: .*the column 'p': .*extension types"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), r"^value\[0\]: .*with the column 'a': .*Sparse"),
        (pd.Series(pd.interval_range(0, 2)), r"^value\[0\]: cannot send .*Series.*: .*extension types"),
        (pd.Series([1], name=(object(),)), r"^value\[0\]\.name\[0\]: cannot send"),
        (pd.Series([object()]), r"^value\[0\]\.items\[\(0, '0'\)\]\[0\]: cannot send"),
        (pd.Series([pd.DateOffset(1)], dtype=object), r"cannot send <class '.*DateOffset'>$"),
        (pd.Index([object()]), r"^value\[0\]\.items\[0\]: cannot send"),
        (pd.PeriodIndex(["2024-01"], freq="M"), r"^value\[0\]: cannot send .*PeriodIndex"),
        (pd.DataFrame({"a": [1]}, index=pd.PeriodIndex(["2024-01"], freq="M")), r"^value\[0\]\.index: cannot send"),
        (FRAME.set_flags(allows_duplicate_labels=False), r"^value\[0\]: .*flags"),
        (type("Mine", (pd.DataFrame,), {})(), r"^value\[0\]: cannot send .*Mine"),
    ],
)  # fmt: skip
def test_what_would_not_arrive_is_refused(value: object, text: str) -> None:
    with pytest.raises(UnsupportedValueError, match=text):
        encoder.encode([value])


def test_a_change_that_arrow_makes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = pd.DataFrame({"0": [1.0, 2.0]})
    monkeypatch.setattr(pandas_frames, "_read_columns", lambda _: changed)
    with pytest.raises(
        UnsupportedValueError, match=r"with the column 'a': Arrow would change it: .*int64.*float64"
    ):
        encoder.encode(FRAME)


def stream(table: Any = None, **changes: Any) -> Any:
    """Return the stream of a table with one column, with changed pandas metadata."""
    table = (
        pa.Table.from_pandas(pd.DataFrame({"0": [1, 2]}), preserve_index=False) if table is None else table
    )
    metadata = json.loads(table.schema.metadata[b"pandas"])
    metadata["columns"][0].update(changes.pop("column", {}))
    metadata.update(changes)
    return write_stream(table.replace_schema_metadata({"pandas": json.dumps(metadata)}))


def test_the_stream_of_these_tests_is_a_good_one() -> None:
    assert isinstance(read(["DataFrame", stream(), INDEX, LABELS, {}, {}]), pd.DataFrame)
    assert isinstance(read(["Series", stream(), INDEX, "name", {}, {}]), pd.Series)
    assert isinstance(read(["Index", stream(), None, [None]]), pd.Index)


def of_type(kind: Any, values: list[Any]) -> Any:
    table = pa.table({"0": pa.array(values, kind)})
    return table.replace_schema_metadata(pa.Table.from_pandas(pd.DataFrame({"0": [1]})).schema.metadata)


LONG_RANGE = {"kind": "range", "start": 0, "stop": 2**60, "step": 1}
WRONG: list[list[Any]] = [
    [],
    ["DataFrame"],
    ["Timestamp", stream(), INDEX, LABELS, {}, {}],
    ["DataFrame", None, INDEX, LABELS, {}, {}],
    ["DataFrame", stream(), range(2), LABELS, {}, {}],
    ["DataFrame", stream(), pd.RangeIndex(3), LABELS, {}, {}],
    ["DataFrame", stream(), INDEX, ["a"], {}, {}],
    ["DataFrame", stream(), INDEX, pd.Index(["a", "b"]), {}, {}],
    ["DataFrame", stream(), INDEX, LABELS, [], {}],
    ["DataFrame", stream(), INDEX, LABELS, {0: [1, 2]}, {}],
    ["DataFrame", stream(), INDEX, pd.Index(["a", "b"]), {(0, "a"): [1]}, {}],
    ["DataFrame", stream(), INDEX, pd.Index(["a", "b"]), {(5, "a"): [1, 2]}, {}],
    ["DataFrame", stream(), INDEX, pd.Index(["a", "b"]), {(0, "a"): 5}, {}],
    ["DataFrame", stream(), INDEX, LABELS, {}, 5],
    ["DataFrame", stream(columns=[]), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(columns=5), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(index_columns=["0"]), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(index_columns=[LONG_RANGE]), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(column={"numpy_type": "S1000000000"}), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(column={"numpy_type": "Sparse[float]"}), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(column={"numpy_type": 5}), INDEX, LABELS, {}, {}],
    ["DataFrame", write_stream(pa.table({"0": [1, 2]})), INDEX, LABELS, {}, {}],
    ["DataFrame", write_stream(pa.table({"0": [1, 2]}, metadata={"pandas": "{"})), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(of_type(pa.list_(pa.int8()), [[1], [2]])), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(of_type(pa.null(), [None, None])), INDEX, LABELS, {}, {}],
    ["DataFrame", stream(of_type(pa.string_view(), ["a", "b"])), INDEX, LABELS, {}, {}],
    ["Series", stream(), INDEX, [], {}, {}],
    ["Series", stream(), INDEX, None, {(0, ""): [1, 2]}, {}],
    ["Index", stream(), None, [None, None]],
    ["Index", stream(), "D", [None]],
    ["Index", stream(), 5, [None]],
    ["Index", stream(), None, 5],
    ["Index", 5, None, [None]],
    ["Index", range(3), "x" * 100, [None]],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_parts_that_do_not_fit(number: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ProtocolError):
            read(WRONG[number])


def test_what_arrives_can_be_written_to() -> None:
    frame: Any = decoder.decode(encoder.pack(pd.DataFrame(np.ones((1000, 2)))), 0).finish()
    frame.iloc[0, 0] = 5.0
    frame.loc[1, 1] += 1
    assert (frame.iloc[0, 0], frame.iloc[1, 1]) == (5.0, 2.0)
