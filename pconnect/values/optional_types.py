"""The border to packages that may be missing: scipy.sparse, pyarrow and pandas.

Nothing of them is imported before it is needed. A sender that has a value of a package in hand has imported it already;
a receiver imports it when the first such value arrives, and if it is missing, that one value is an error and nothing
else. `scipy_sparse` and `arrow` do the work and import what they need at their top; only this module imports
them, and only by its own table, never by a name that was received.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from pconnect.errors import UnavailableTypeError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType
from srp_tools.packages import import_own, own_imports

__all__ = ["READERS", "find_entry", "is_of_package"]

# What a type's module begins with, and ours for it, with the extra of this project that installs what it needs.
_HOMES: Final = {
    "scipy.sparse": ("scipy_sparse", "scipy", "sparse"),
    "pyarrow.lib": ("arrow", "pyarrow", "arrow"),
    "pandas": ("pandas_frames", "pandas and pyarrow", "arrow"),
}


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
    for package in _HOMES if type(module) is str else ():
        if module == package or module.startswith(f"{package}."):
            return _find_in(package, kind)
    return None


def _find_in(package: str, kind: type) -> ValueType | None:
    home, needed, extra = _HOMES[package]
    try:
        entry: ValueType | None = import_own(f"pconnect.values.{home}").find_entry(kind)
    except ImportError as error:
        raise UnsupportedValueError(
            f"cannot send {kind} without {needed}: pip install 'pserver[{extra}]' ({error})"
        ) from error
    return entry and dataclasses.replace(entry, write=_with_own_imports(entry.write))


def _with_own_imports(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def write_it(value: Any) -> Any:
        with own_imports():
            return write(value)

    return write_it


def _reader(code: int, package: str) -> ValueType:
    home, needed, extra = _HOMES[package]

    def read(parts: list[Any]) -> object:
        try:
            make: Callable[[list[Any]], object] = import_own(f"pconnect.values.{home}").read
        except ImportError as error:
            raise UnavailableTypeError(
                f"a value of {package} arrived, but {needed} cannot be imported at this node: "
                f"pip install 'pserver[{extra}]' here ({error})"
            ) from error
        with own_imports():
            return make(parts)

    return ValueType(code, (), lambda _: (), read)


READERS: Final = (_reader(40, "scipy.sparse"), _reader(41, "pyarrow.lib"), _reader(42, "pandas"))
