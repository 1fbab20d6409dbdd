"""The border to packages that may be missing: scipy, scikit-learn, pyarrow, pandas, and those in `packages`.

Nothing of them is imported before it is needed. A sender that has a value of a package in hand has imported it already;
a receiver imports it when the first such value arrives, and if it is missing, that one value is an error and nothing
else. `scipy_sparse`, `arrow` and others do the work and import what they need at their top; only this module imports
them, and only by its own table, never by a name that was received.
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
    """A module of ours for some types of a package."""

    name: str
    code: int
    packages: tuple[str, ...]  #: what the types' modules begin with
    needed: str  #: packages
    extra: str  #: of this project, which installs them; empty: they are installed by their names

    @property
    def advice(self) -> str:
        """How to install what is needed."""
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
    # It imports nothing at its top, and says itself what is missing.
    _Home(
        "attribute_dicts",
        46,
        ("scipy.optimize", "scipy.integrate", "scipy.stats", "sklearn.utils"),
        "scipy",
        "sparse",
    ),
)


def is_of_package(kind: type) -> bool:
    """Whether values of this type are sent by one of our modules for packages."""
    try:
        return find_entry(kind) is not None
    except UnsupportedValueError:
        return True


def find_entry(kind: type) -> ValueType | None:
    """Return how values of a type are written, if it is of one of the packages.

    Raises `UnsupportedValueError` if it is, but another package that writing needs is missing.
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
            f"cannot send {kind} without {home.needed}: {home.advice} ({error})"
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
                f"a value of {home.packages[0]} arrived, but {home.needed} cannot be imported at this node: "
                f"{home.advice} here ({error})"
            ) from error
        with own_imports():
            return make(parts)

    return ValueType(home.code, (), lambda _: (), read)


READERS: Final = tuple(map(_reader, _HOMES))
