"""Values of packages that may be missing: scipy, scikit-learn, pyarrow, pandas, and those in `packages`.

A package is not imported before it is needed. A sender that has a value of a package has imported it already. A
receiver imports it when the first value arrives; if the package is missing, only that value fails. `scipy_sparse`,
`arrow` and others do the work, and import what they need at their top. Only this module imports them, and only from its
own table, never by a received name.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from pconnect.errors import UnavailableTypeError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType
from srp_tools.packages import import_own, own_imports

__all__ = ["READERS", "find_entry", "is_of_package"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Home:
    """One of our modules, which handles some types of a package."""

    name: str
    code: int
    packages: tuple[str, ...]  #: prefixes of the types' modules
    needed: str  #: the required packages
    extra: str  #: the extra of this project that installs them; empty: install them by name

    @property
    def advice(self) -> str:
        """How to install the required packages."""
        return f"pip install 'pserver[{self.extra}]'" if self.extra else f"pip install {self.needed}"


_HOMES: Final = (
    _Home("scipy_sparse", 40, ("scipy.sparse",), "scipy", "sparse"),
    _Home("arrow", 41, ("pyarrow.lib",), "pyarrow", "arrow"),
    _Home("pandas_scalars", 45, ("pandas",), "pandas", "arrow"),
    _Home("pandas_frames", 42, ("pandas",), "pandas and pyarrow", "arrow"),
    _Home("packages.ml_arrays", 47, ("ml_dtypes",), "ml_dtypes", ""),
    _Home("packages.polars_frames", 48, ("polars",), "polars and pyarrow", "arrow"),
    _Home("packages.xarray_arrays", 49, ("xarray",), "xarray", ""),
    _Home("packages.torch_tensors", 50, ("torch",), "torch", ""),
    _Home("packages.jax_arrays", 51, ("jax", "jaxlib"), "jax", ""),
    # It imports nothing at its top, and reports missing packages itself.
    _Home(
        "attribute_dicts",
        46,
        ("scipy.optimize", "scipy.integrate", "scipy.stats", "sklearn.utils"),
        "scipy",
        "sparse",
    ),
)


def is_of_package(kind: type) -> bool:
    """Whether one of our modules for packages handles values of this type."""
    try:
        return find_entry(kind) is not None
    except UnsupportedValueError:
        return True


def find_entry(kind: type) -> ValueType | None:
    """Return how to write values of a type, if it belongs to one of the packages.

    Raises `UnsupportedValueError` if it does, but another package that is needed for writing is missing.
    """
    module = kind.__module__
    if type(module) is not str:
        return None
    for home in _HOMES:
        if any(module == package or module.startswith(f"{package}.") for package in home.packages):
            entry = _find_in(home, kind)
            if entry is not None:
                return entry
    return None


def _find_in(home: _Home, kind: type) -> ValueType | None:
    try:
        entry: ValueType | None = import_own(f"pconnect.values.{home.name}").find_entry(kind)
    except ImportError as error:
        raise UnsupportedValueError(
            f"cannot send {kind} without {home.needed}: run {home.advice} ({error})"
        ) from error
    return entry and dataclasses.replace(entry, write=_with_own_imports(entry.write))


def _with_own_imports(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def write_it(value: Any) -> Any:
        with own_imports():
            return write(value)

    return write_it


def _reader(home: _Home) -> ValueType:
    def read(parts: list[Any]) -> object:
        try:
            make: Callable[[list[Any]], object] = import_own(f"pconnect.values.{home.name}").read
        except ImportError as error:
            raise UnavailableTypeError(
                f"a value of {home.packages[0]} arrived, but {home.needed} cannot be imported on this node: "
                f"run {home.advice} here ({error})"
            ) from error
        with own_imports():
            return make(parts)

    return ValueType(home.code, (), lambda _: (), read)


READERS: Final = tuple(map(_reader, _HOMES))
