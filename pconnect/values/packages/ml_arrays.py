"""Arrays and scalars of the number types of ``ml_dtypes``, such as bfloat16, as unsigned integers with their bits."""

from typing import Any, Final

import ml_dtypes
import numpy as np

from pconnect.errors import ProtocolError, UnavailableTypeError
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read"]

_CODE: Final = 47
# The types that may be received. The installed version of the package may lack some.
_NAMES: Final = frozenset(
    [
        "bfloat16",
        "complex32",
        "bcomplex32",
        "float4_e2m1fn",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float8_e3m4",
        "float8_e4m3",
        "float8_e4m3b11fnuz",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "int1",
        "int2",
        "int4",
        "uint1",
        "uint2",
        "uint4",
    ]
)


def _write(value: Any) -> tuple[object, ...]:
    if not value.dtype.isnative:  # the view would not convert the byte order
        value = value.astype(value.dtype.newbyteorder("="))
    return value.dtype.name, value.view(f"u{value.dtype.itemsize}")


def find_entry(kind: type) -> ValueType | None:
    """Return how to write scalars of a type and arrays of them, or ``None``."""
    name = kind.__name__
    return _ENTRY if name in _NAMES and getattr(ml_dtypes, name, None) is kind else None


def read(parts: list[Any]) -> object:
    """Make a value from the received name of its dtype and its bits."""
    match parts:
        case [str() as name, (np.ndarray() | np.unsignedinteger()) as bits] if name in _NAMES:
            kind = getattr(ml_dtypes, name, None)
            if kind is None:
                raise UnavailableTypeError(
                    f"a value of the dtype {name} arrived, but ml_dtypes {ml_dtypes.__version__} on this node does not "
                    "have it: install a newer version here"
                )
            if (
                bits.dtype.kind == "u"
                and bits.dtype.isnative
                and bits.dtype.itemsize == np.dtype(kind).itemsize
            ):
                made: object = bits.view(kind)
                return made
    raise ProtocolError("wrong parts for an array of ml_dtypes")


_ENTRY: Final = ValueType(_CODE, (), _write, read, ("dtype.name", "bits"))
