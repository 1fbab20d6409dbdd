"""Values of scipy.sparse, pyarrow and pandas that can be sent, and the meaning of "arrived unchanged" for them."""

import datetime
import decimal
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import scipy.integrate
import scipy.optimize
import scipy.sparse as sp
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
_DENSE = np.where(np.arange(48).reshape(6, 8) % 5 == 0, np.arange(48).reshape(6, 8), 0)
_LARGE = np.where(np.arange(22500).reshape(75, 300) % 7 == 0, 1.5, 0)


def _wide_indices() -> Any:
    array = sp.csr_array(_DENSE)
    array.indices, array.indptr = array.indices.astype(np.int64), array.indptr.astype(np.int64)
    return array


def _explicit_zeros() -> Any:
    array = sp.dok_array((3, 4), dtype="f4")
    array[2, 1] = 5
    array.setdefault((0, 3), np.float32(0))
    return array


def _duplicates() -> Any:
    return sp.coo_array(([1.0, 2.0, 0.0], ([0, 0, 1], [2, 2, 0])), shape=(2, 5))


def _canonical() -> Any:
    array = _duplicates()
    array.sum_duplicates()
    return array


SPARSE: list[tuple[str, object]] = [
    *(
        (f"{form}_{kind} {code}", getattr(sp, f"{form}_{kind}")(_DENSE.astype(code)))
        for form in FORMATS
        for kind, codes in (("array", "dF"), ("matrix", "?h"))
        for code in codes
    ),
    *((f"{form}_array large", getattr(sp, f"{form}_array")(_LARGE)) for form in FORMATS),
    *((f"{form}_array empty", getattr(sp, f"{form}_array")((0, 3))) for form in FORMATS),
    *(
        (f"{form}_array of one axis", getattr(sp, f"{form}_array")(_DENSE[1]))
        for form in ("coo", "csr", "dok")
    ),
    ("coo_array of three axes", sp.coo_array(_DENSE.reshape(2, 4, 6))),
    ("coo_array with duplicates", _duplicates()),
    ("coo_array canonical", _canonical()),
    ("bsr_array of blocks", sp.bsr_array(_DENSE, blocksize=(3, 2))),
    ("csr_array of wide indices", _wide_indices()),
    ("csr_array not sorted", sp.csr_array((np.ones(2), [3, 1], [0, 2]), shape=(1, 4))),
    ("csr_array of long doubles", sp.csr_array(_DENSE.astype("g"))),
    ("dia_array with far diagonals", sp.dia_array((np.ones((2, 3)), [-90, 1]), shape=(3, 3))),
    ("dok_array with explicit zeros", _explicit_zeros()),
]

_TABLE = pa.table(
    {
        "int": pa.array([1, None, 3], pa.int8()),
        "str": ["a", None, "Grüße"],
        "list": [[1], [], None],
        "struct": [{"x": 1, "y": "z"}, None, {"x": None, "y": ""}],
        "dictionary": pa.array(["p", "q", "p"]).dictionary_encode(),
        "time": pa.array([1, 2, 3], pa.timestamp("us", "Europe/Berlin")),
        "decimal": pa.array([decimal.Decimal("1.50"), None, None], pa.decimal128(9, 2)),
        "view": pa.array(["short", "long" * 20, None], pa.string_view()),
    },
    metadata={"made by": "a test"},
)
ARROW: list[tuple[str, object]] = [
    ("pyarrow.Table", _TABLE),
    ("pyarrow.Table large", pa.table({"x": np.arange(5000.0)})),
    ("pyarrow.Table of many chunks", pa.concat_tables([_TABLE, _TABLE.slice(1), _TABLE])),
    ("pyarrow.Table empty", _TABLE.schema.empty_table()),
    ("pyarrow.Table without columns", pa.table({})),
    ("pyarrow.RecordBatch", _TABLE.to_batches()[0]),
    ("pyarrow.RecordBatch empty", _TABLE.to_batches()[0].slice(3)),
    ("pyarrow.Array", pa.array([1.5, None])),
    ("pyarrow.Array sliced", pa.array(["a", "bb", None, "c"]).slice(1, 2)),
    ("pyarrow.Array empty", pa.array([], pa.list_(pa.int8()))),
    ("pyarrow.Array of nulls", pa.nulls(5)),
    ("pyarrow.Array of runs", pa.RunEndEncodedArray.from_arrays([2, 5], ["a", "b"])),
    ("pyarrow.ChunkedArray", pa.chunked_array([[1], [], [2, 3]])),
    ("pyarrow.Schema", pa.schema([("a", pa.int8()), pa.field("b", pa.string(), False)], {"k": "v"})),
]

_TIMES = pd.date_range("2024-10-26", periods=3, freq="h", tz="Europe/Berlin", name="t")


def _with_attrs() -> Any:
    frame = pd.DataFrame({"a": [1.0]})
    frame.attrs = {"unit": ("m", 1)}
    return frame


_BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")

SCIPY: list[tuple[str, object]] = [
    ("OptimizeResult", scipy.optimize.minimize(np.linalg.norm, np.ones(3), method="BFGS")),
    (
        "OptimizeResult with an operator",
        scipy.optimize.minimize(np.linalg.norm, np.ones(3), method="L-BFGS-B"),
    ),
    ("OptimizeResult of linprog", scipy.optimize.linprog([-1, 4], [[-3, 1], [1, 2]], [6, 4])),
    ("OptimizeResult of least squares", scipy.optimize.least_squares(lambda x: x**2 - 2, [1.0, 2.0])),
    ("OptimizeResult empty", scipy.optimize.OptimizeResult()),
    ("RootResults", scipy.optimize.root_scalar(lambda x: x**2 - 2, bracket=(0, 2))),
    (
        "OdeResult",
        scipy.integrate.solve_ivp(lambda t, y: -t * y, (0, 1), [1.0, 2.0], events=lambda _, y: y[0]),
    ),
]

PANDAS_SCALARS: list[tuple[str, object]] = [
    *(
        (f"Timestamp in {unit}", pd.Timestamp("2024-02-29 12:30:15").as_unit(unit))
        for unit in ("s", "ms", "us", "ns")
    ),
    ("Timestamp of nanoseconds", pd.Timestamp(-1)),
    ("Timestamp second of two", pd.Timestamp(2024, 10, 27, 2, 30, tz=_BERLIN, fold=1)),
    ("Timestamp first of two", pd.Timestamp(2024, 10, 27, 2, 30, tz=_BERLIN, fold=0)),
    ("Timestamp fold without zone", pd.Timestamp(2024, 10, 27, 2, 30, fold=1)),
    ("Timestamp UTC", pd.Timestamp("1600-01-01", tz="UTC").as_unit("ms")),
    ("Timestamp offset", pd.Timestamp("2024-01-01T00:00-01:30")),
    *(
        (f"Timedelta in {unit}", pd.Timedelta(days=-3, seconds=4).as_unit(unit))
        for unit in ("s", "ms", "us", "ns")
    ),
    ("NaT", pd.NaT),
    ("NA", pd.NA),
    ("Interval", pd.Interval(0, 1.5)),
    ("Interval of times", pd.Interval(pd.Timestamp(0), pd.Timestamp(5), "both")),
    ("Period", pd.Period("2024-02", "M")),
    ("Period of quarters", pd.Period("2024Q3", "Q-NOV")),
    ("Period of two hours", pd.Period("2024-01-01 04:00", "2h")),
]

PANDAS: list[tuple[str, object]] = [
    ("DataFrame", pd.DataFrame({"i": [1, 2, 3], "f": [1.5, np.nan, -0.0], "s": ["x", "y", None], "b": True})),
    ("DataFrame of a matrix", pd.DataFrame(np.arange(3000.0).reshape(1000, 3))),
    ("DataFrame with times", pd.DataFrame({"a": np.arange(3, dtype="u1"), "t": _TIMES}, index=_TIMES)),
    (
        "DataFrame with levels",
        pd.DataFrame(
            {("x", 1): [1], ("y", 2): [2.0]}, index=pd.MultiIndex.from_tuples([("q", 5)], names=["m", None])
        ),
    ),
    (
        "DataFrame with categories",
        pd.DataFrame({"c": pd.Categorical(["a", "b", "a"], ["b", "a", "z"], ordered=True)}),
    ),
    (
        "DataFrame with missing values",
        pd.DataFrame(
            {
                "i": pd.array([1, None], "Int64"),
                "b": pd.array([True, None], "boolean"),
                "f": pd.array([None, 2], "Float32"),
                "s": pd.array(["a", None], "string"),
                "a": pd.array([1, None], "int8[pyarrow]"),
            }
        ),
    ),
    (
        "DataFrame with objects",
        pd.DataFrame(
            {
                "o": pd.Series([(1, 2), None, [3]], dtype=object),
                "n": [1, 2, 3],
                5: pd.Series(["a", None, float("nan")], dtype=object),
                "d": [decimal.Decimal("1.50"), datetime.date(2024, 1, 1), b"x"],
            }
        ),
    ),
    ("DataFrame with a label twice", pd.DataFrame([[1, 2.5]], columns=["a", "a"])),
    ("DataFrame with mixed labels", pd.DataFrame([[1, 2]], columns=pd.Index(["a", 1], name="n"))),
    ("DataFrame with dates as labels", pd.DataFrame([[1, 2, 3]], columns=_TIMES)),
    ("DataFrame with attrs", _with_attrs()),
    ("DataFrame without rows", pd.DataFrame({"a": np.zeros(0, "i4"), "b": pd.Series([], dtype=object)})),
    ("DataFrame without columns", pd.DataFrame(index=["a", "b"])),
    ("DataFrame empty", pd.DataFrame()),
    ("Series", pd.Series([1.5, 2], index=["a", "b"], name=("a", 1))),
    ("Series of objects", pd.Series([1, "x"], dtype=object)),
    ("Series of scalars", pd.Series([pd.Timestamp("2024"), pd.NaT, pd.NA], dtype=object)),
    ("Series of durations", pd.to_timedelta(pd.Series([1, 2]), unit="s")),
    ("Index", pd.Index([1.5, 2], name="i")),
    ("Index of str", pd.Index(["a", "b"])),
    ("Index of objects", pd.Index([(1, 2), "x"], dtype=object, tupleize_cols=False)),
    ("RangeIndex", pd.RangeIndex(2, 20, 3, name="r")),
    ("DatetimeIndex", pd.date_range("2024", periods=4, freq="MS")),
    ("TimedeltaIndex", pd.timedelta_range("1s", periods=3)),
    ("MultiIndex", pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["x", 5])),
    ("CategoricalIndex", pd.CategoricalIndex(["a", "b", "a"])),
]


def assert_same_package_value(sent: Any, received: Any) -> bool:
    """Compare two values of the same type if it belongs to one of these packages; return whether it does."""
    if sp.issparse(sent):
        _assert_same_sparse(sent, received)
    elif type(sent).__module__ == "pyarrow.lib":
        _assert_same_arrow(sent, received)
    elif isinstance(sent, scipy.optimize.LbfgsInvHessProduct):
        assert np.array_equal(sent.todense(), received.todense()) and sent.n_corrs == received.n_corrs
    elif sent is pd.NaT or sent is pd.NA:
        assert received is sent
    elif isinstance(sent, pd.Timestamp | pd.Timedelta):
        assert (sent, repr(sent), sent.unit) == (received, repr(received), received.unit)
        assert getattr(sent, "fold", None) == getattr(received, "fold", None)
    elif isinstance(sent, pd.DataFrame):
        assert_frame_equal(
            sent, received, check_exact=True, check_index_type="exact", check_column_type="exact"
        )
        assert type(sent.columns) is type(received.columns)
        assert sent.attrs == received.attrs
        for position in range(sent.shape[1]):
            _assert_same_objects(sent.iloc[:, position], received.iloc[:, position])
        if sent.size:
            received.iloc[0, 0] = received.iloc[0, 0]  # it is writeable
    elif isinstance(sent, pd.Series):
        assert_series_equal(sent, received, check_exact=True, check_index_type="exact")
        assert type(sent.name) is type(received.name)
        _assert_same_objects(sent, received)
    elif isinstance(sent, pd.Index):
        assert_index_equal(sent, received, exact=True)
        assert getattr(sent, "freq", None) == getattr(received, "freq", None)
        _assert_same_objects(sent, received)
    else:
        return False
    return True


def _assert_same_objects(sent: Any, received: Any) -> None:
    assert [type(item) for item in sent] == [type(item) for item in received]


def _assert_same_arrow(sent: Any, received: Any) -> None:
    received.validate(full=True) if hasattr(received, "validate") else None
    if isinstance(sent, pa.Schema):
        assert sent.equals(received, check_metadata=True)
        return
    assert sent.equals(received)
    if hasattr(sent, "schema"):
        assert sent.schema.equals(received.schema, check_metadata=True)
    else:
        assert sent.type == received.type


def _assert_same_sparse(sent: Any, received: Any) -> None:
    assert (sent.shape, sent.dtype, sent.nnz) == (received.shape, received.dtype, received.nnz)
    for name in ("data", "indices", "indptr", "offsets", "rows"):
        one, other = getattr(sent, name, None), getattr(received, name, None)
        if isinstance(one, np.ndarray):
            assert isinstance(other, np.ndarray)
            assert one.dtype == other.dtype and one.tolist() == other.tolist()
    if sent.format == "dok":
        assert list(sent.items()) == list(received.items())
    if sent.format == "coo":
        assert sent.has_canonical_format == received.has_canonical_format
        for one, other in zip(sent.coords, received.coords, strict=True):
            assert one.dtype == other.dtype and one.tolist() == other.tolist()
    if sent.format in ("bsr", "csc", "csr"):
        assert sent.copy().has_canonical_format == received.copy().has_canonical_format
        assert sent.copy().has_sorted_indices == received.copy().has_sorted_indices
