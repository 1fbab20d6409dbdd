"""Results of scipy and scikit-learn: dicts whose items are attributes as well, and the objects in them.

Only the classes in the table below are supported. The sender has imported them already; the receiver imports them when
the first value arrives. See `optional_types`.
"""

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from pconnect.errors import ProtocolError, UnavailableTypeError
from pconnect.values.builtin_types import ValueType
from srp_tools.packages import import_own

__all__ = ["find_entry", "read"]

_CODE: Final = 46


class _Class(NamedTuple):
    """The module of a class, the parts of its values, and how to make a value from them."""

    module: str
    package: str  #: the name for pip install
    write: Callable[[Any], tuple[object, ...]]
    make: Callable[[Any, list[Any]], object]
    names: tuple[str, ...]


def _items(value: Any) -> tuple[object, ...]:
    return (dict(value),)


def _make_dict(made: Any, parts: list[Any]) -> object:
    (items,) = parts
    if type(items) is not dict:
        raise ProtocolError("wrong parts for a dict with attributes")
    dict.update(made, items)
    return made


def _make_result(kind: Any, parts: list[Any]) -> object:
    return _make_dict(kind.__new__(kind), parts)  # the constructors of some classes require all items


def _make_bunch(kind: Any, parts: list[Any]) -> object:
    return _make_dict(kind(), parts)


def _make_operator(kind: Any, parts: list[Any]) -> object:
    if [(type(part), getattr(part, "dtype", None)) for part in parts] != [(np.ndarray, np.float64)] * 2:
        raise ProtocolError("wrong parts for an inverse Hessian")
    with np.errstate(all="ignore"):
        made: object = kind(*parts)
    return made


_TTEST: Final = ("df", "_alternative", "_standard_error", "_estimate", "_statistic_np")


def _ttest_parts(value: Any) -> tuple[object, ...]:
    return (
        *value,
        *(vars(value).get(name) for name in _TTEST),
    )  # the remaining attribute is a module of scipy


def _make_ttest(kind: Any, parts: list[Any]) -> object:
    if len(parts) != 2 + len(_TTEST) or not isinstance(parts[0], np.ndarray | np.generic):
        raise ProtocolError("wrong parts for the result of a t-test")
    private = {name.removeprefix("_"): part for name, part in zip(_TTEST, parts[2:], strict=True)}
    made: object = kind(*parts[:2], **private)
    return made


def _of_scipy(module: str) -> _Class:
    return _Class(module, "scipy", _items, _make_result, ("dict(",))


_CLASSES: Final = {
    "OptimizeResult": _of_scipy("scipy.optimize"),
    "RootResults": _of_scipy("scipy.optimize"),
    "OdeResult": _of_scipy("scipy.integrate._ivp.ivp"),
    "BVPResult": _of_scipy("scipy.integrate._bvp"),
    # Part of the results of `minimize(method="L-BFGS-B")`.
    "LbfgsInvHessProduct": _Class(
        "scipy.optimize", "scipy", lambda value: (value.sk, value.yk), _make_operator, ("sk", "yk")
    ),
    "TtestResult": _Class(
        "scipy.stats._stats_py", "scipy", _ttest_parts, _make_ttest, ("statistic", "pvalue", *_TTEST)
    ),
    "Bunch": _Class("sklearn.utils", "scikit-learn", _items, _make_bunch, ("dict(",)),
}


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a class of scipy or scikit-learn, or ``None``."""
    name = kind.__name__
    known = _CLASSES.get(name)
    # The module of the class has been imported, otherwise there would be no value of it.
    if known is None or getattr(sys.modules.get(known.module), name, None) is not kind:
        return None
    return ValueType(_CODE, (kind,), lambda value: (name, *known.write(value)), read, ("class", *known.names))


def read(parts: list[Any]) -> object:
    """Make a value from its received parts."""
    match parts:
        case [str() as name, *rest] if name in _CLASSES:
            known = _CLASSES[name]
            try:
                kind = getattr(import_own(known.module), name)
            except (ImportError, AttributeError) as error:
                raise UnavailableTypeError(
                    f"a value of {known.module}.{name} arrived, but the class cannot be imported on this node: "
                    f"run pip install {known.package} here ({error})"
                ) from error
            return known.make(kind, rest)
    raise ProtocolError("wrong parts for a dict with attributes")
