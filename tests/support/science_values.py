"""Small values of polars, xarray, torch and ml_dtypes, for inputs that a fuzzer changes."""

import importlib.util

import ml_dtypes
import numpy as np
import polars as pl
import xarray as xr

_CUBE = xr.DataArray(
    np.ones((2, 3)), dims=("x", "y"), coords={"x": [1, 2], "k": ("y", ["a", "b", "c"])}, name="n"
)

SCIENCE: list[tuple[str, object]] = [
    ("ml array", np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)),
    ("ml scalar", ml_dtypes.float8_e4m3fn(1.5)),
    (
        "polars frame",
        pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1.5], []], "d": [{"e": b"z"}] * 2}),
    ),
    ("polars texts", pl.Series("s", ["a", "b"], dtype=pl.Enum(["b", "a"]))),
    ("polars categories", pl.Series("s", ["a", "b"], dtype=pl.Categorical)),
    ("polars arrays", pl.Series("s", [[1, 2]] * 2, dtype=pl.Array(pl.Int16, 2))),
    ("xarray variable", xr.Variable("x", np.array(["a", 1], object), {"u": 1})),
    ("xarray array", _CUBE),
    ("xarray dataset", xr.Dataset({"n": _CUBE}, attrs={"t": 1})),
]
if importlib.util.find_spec("torch"):  # as in CI; developers need not install it
    import torch

    SCIENCE += [
        ("torch tensor", torch.ones(2, 3, dtype=torch.bfloat16)),
        ("torch parameter", torch.nn.Parameter(torch.ones(2))),
    ]
