"""When packages are imported, and nodes that lack a package."""

import importlib.util
import subprocess
import sys

import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
import xarray as xr

from pconnect.errors import UnavailableTypeError, UnsupportedValueError
from pconnect.values import decoder, encoder, optional_types
from pconnect.values.optional_types import find_entry, is_of_package

VALUES = [
    ("scipy", "scipy_sparse", scipy.sparse.csr_array(np.eye(3)), "pip install 'pserver\\[sparse\\]' here"),
    ("pyarrow", "arrow", pa.table({"a": [1]}), "pip install 'pserver\\[arrow\\]' here"),
    ("pandas", "pandas_frames", pd.DataFrame({"a": [1]}), "pip install 'pserver\\[arrow\\]' here"),
    ("pandas", "pandas_scalars", pd.Timestamp(0), "pip install 'pserver\\[arrow\\]' here"),
    ("polars", "packages.polars_frames", pl.DataFrame({"a": [1]}), "pip install 'pserver\\[arrow\\]' here"),
    ("xarray", "packages.xarray_arrays", xr.DataArray([1]), "pip install xarray here"),
    ("ml_dtypes", "packages.ml_arrays", ml_dtypes.bfloat16(1), "pip install ml_dtypes here"),
]


@pytest.mark.parametrize(("package", "home", "value", "advice"), VALUES)
def test_a_receiver_without_the_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str, home: str, value: object, advice: str
) -> None:
    head = encoder.pack([1, value])
    monkeypatch.setitem(sys.modules, f"pconnect.values.{home}", None)
    with pytest.raises(UnavailableTypeError, match=f"a value of {package}.* cannot be imported.*{advice}"):
        decoder.decode(head, 0).finish()


def test_a_sender_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pconnect.values.pandas_frames", None)
    with pytest.raises(
        UnsupportedValueError, match=r"^value\[0\]: cannot send .*DataFrame.* without pandas and pyarrow"
    ):
        encoder.encode([pd.DataFrame()])
    assert is_of_package(pd.DataFrame)


def test_nothing_is_imported_before_it_is_needed() -> None:
    source = """
import sys
from pconnect.values.decoder import unpack
from pconnect.values.encoder import pack
unpack(pack([1, {2}, 3j]))
class Fake: __module__ = "scipy.sparser"
try: pack(Fake())
except TypeError: pass
packages = ("scipy", "pandas", "pyarrow", "polars", "xarray", "torch", "jax", "ml_dtypes")
print([name for name in packages if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_classes_that_only_say_they_are_of_a_package_are_refused() -> None:
    # JAX is tested in a separate process, see `tests.support.jax_cases`; torch is not available everywhere.
    packages = {name for home in optional_types._HOMES for name in home.packages if "jax" not in name}
    for module in (
        *(name for name in packages if importlib.util.find_spec(name)),
        "pandas.core",
        None,
        5,
    ):
        fake = type("Fake", (), {"__module__": module})
        assert find_entry(fake) is None and not is_of_package(fake)
    with pytest.raises(UnsupportedValueError):
        encoder.encode(type("csr_array", (scipy.sparse.csr_array,), {"__module__": "scipy.sparse"})((1, 1)))
