"""xarray values are identical after transfer in xarray's sense: data, names, dimensions, coordinates, attributes."""

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pconnect import ProtocolError, UnsupportedValueError
from pconnect.values.packages.xarray_arrays import read
from tests.support.transmission import transmit

TEMPERATURE = xr.DataArray(
    np.arange(12.0).reshape(3, 4),
    dims=("time", "place"),
    coords={
        "time": pd.date_range("2026-01-01", periods=3),
        "place": ["a", "b", "c", "d"],
        "height": ("place", np.arange(4, dtype=np.int16)),
        "run": 7,
    },
    name="temperature",
    attrs={"units": "K", "range": [0, 300]},
)
VALUES = {
    "variable": xr.Variable(("x",), np.arange(3), {"a": 1}),
    "array": TEMPERATURE,
    "array without coordinates": xr.DataArray(np.ones((2, 3), np.float32)),
    "scalar": xr.DataArray(3),
    "part": TEMPERATURE[1:, ::2],
    "objects": xr.DataArray(
        np.array(["x", None, 3], object), dims="k", coords={"k": np.array(["a", "b", "c"], object)}
    ),
    "without an index": TEMPERATURE.drop_indexes("place"),
    "dataset": xr.Dataset({"t": TEMPERATURE, "mask": ("place", [True] * 4)}, attrs={"title": "ä"}),
    "empty dataset": xr.Dataset(),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    value = VALUES[name]
    arrived: Any = transmit(value)
    assert type(arrived) is type(value)
    assert arrived.identical(value)
    assert arrived.sizes == value.sizes
    if name != "variable":
        assert list(arrived.xindexes) == list(value.xindexes)
        assert {key: each.dtype for key, each in arrived.coords.items()} == {
            key: each.dtype for key, each in value.coords.items()
        }


def test_what_is_not_here_yet_is_refused() -> None:
    pytest.importorskip("dask")
    with pytest.raises(UnsupportedValueError, match=r"send its compute\(\)"):
        transmit(TEMPERATURE.chunk())


def test_other_indexes_are_refused() -> None:
    with pytest.raises(UnsupportedValueError, match="use reset_index first"):
        transmit(TEMPERATURE.stack(both=("time", "place")))


@pytest.mark.parametrize(
    "index",
    [
        pd.period_range("2026", periods=2, freq="D"),
        pd.date_range("2026", periods=2, tz="UTC"),
        pd.CategoricalIndex(["a", "b"]),
        pd.interval_range(0, 2),
        pd.Index([1, 2], dtype="Int64"),
    ],
)
def test_indexes_with_dtypes_of_pandas_are_refused(index: Any) -> None:
    array = xr.DataArray([1, 2], dims="t", coords={"t": index})
    with pytest.raises(UnsupportedValueError, match=r"the index of 't', which has the pandas dtype"):
        transmit(array)


def test_texts_of_pandas_as_an_index_arrive() -> None:
    array = xr.DataArray([1, 2], dims="t", coords={"t": pd.Index(["a", "b"])})
    arrived = transmit(array)
    assert arrived.identical(array) and arrived.t.dtype == array.t.dtype


@pytest.mark.parametrize("data", [pd.Categorical(["a", "b"]), pd.array([1, None], dtype="Int64")])
def test_data_other_than_numpy_arrays_is_refused(data: Any) -> None:
    with pytest.raises(UnsupportedValueError, match=r"send its as_numpy\(\)"):
        transmit(xr.Variable("x", data))


@pytest.mark.parametrize(
    "parts",
    [
        ["Variable", [["x"], [[3], range(3)], {}]],
        ["Variable", [["x"], [range(3, 4), [1, 2, 3]], {}]],
        [],
        ["Variable", 3],
        ["Variable", [["x"], np.ones(2), {}, 1]],
        ["Variable", [["x", "y"], np.ones(2), {}]],
        ["Variable", [["x"], [[5], [1, 2]], {}]],
        ["Variable", [["x"], [["a"], [1, 2]], {}]],
        ["DataArray", "n", [["x"], np.ones(2), {}], {"x": [["x"], np.ones(3), {}]}, ["x"]],
        ["DataArray", "n", [["x"], np.ones(2), {}], {}, ["x"]],
        ["Dataset", {}, {}, [], 3],
    ],
)
def test_wrong_parts(parts: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        read(parts)


@pytest.mark.parametrize("parts", [["Variable", range(10**6)], ["Dataset", {"a": range(10**6)}, {}, [], {}]])
def test_what_is_small_on_the_wire_does_not_become_large(parts: list[Any]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            read(parts)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
