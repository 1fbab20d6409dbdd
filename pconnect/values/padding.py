"""Padding: the bytes of an item that belong to no field. They leave this process as zeros.

numpy copies structured arrays field by field and does not set the bytes between the fields. These contain freed memory,
with pointers in it, or the fields that `people[["name", "age"]]` has omitted. An x87 long double has such bytes, too: 6
of its 16. This must not be sent, so arrays with padding are copied and the padding is cleared.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["MAY_HAVE_PADDING", "bytes_of_scalar", "clear_padding", "for_pickle", "without_padding"]

_Mask = npt.NDArray[np.uint8]

#: The types for which `for_pickle` is needed.
MAY_HAVE_PADDING: Final = (np.ndarray, np.generic)

# The dtypes that may have padding, by `dtype.char`. All others need no further check.
_MAY_BE_PADDED: Final = frozenset("VgG")
_FINFO: Final = np.finfo(np.longdouble)
# Unlike others, the mantissa of x87 has an explicit first bit: 10 of 12 or 16 bytes are used.
_LONG_DOUBLE_BYTES: Final = 10 if _FINFO.nmant == 63 else np.dtype("g").itemsize
# Masks of larger items are not cached.
_MAX_KEPT_BYTES: Final = 2**12


def _used_bytes(dtype: np.dtype[Any]) -> _Mask:
    """Return a mask with 255 for each byte of an item that belongs to a field, and 0 for the others."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.tile(_used_bytes(base), int(np.prod(shape)))
    used = np.zeros(dtype.itemsize, np.uint8)
    if dtype.fields is not None and dtype.names is not None:
        for name in dtype.names:
            field, offset = dtype.fields[name][:2]
            used[offset : offset + field.itemsize] |= _used_bytes(field)
    elif dtype.char in "gG":
        parts = used.reshape(-1, np.dtype("g").itemsize)
        parts[:, :_LONG_DOUBLE_BYTES] = 255
        if not dtype.isnative:
            parts[:] = parts[:, ::-1]
    else:
        used[:] = 255
    return used


def _find_mask(dtype: np.dtype[Any]) -> _Mask | None:
    used = _used_bytes(dtype)
    return None if used.all() else used


_find_small_mask: Final = lru_cache(256)(_find_mask)


def _mask(dtype: np.dtype[Any]) -> _Mask | None:
    """Return the mask for the items of a dtype, or ``None`` if the dtype has no padding."""
    if dtype.char not in _MAY_BE_PADDED:
        return None
    return _find_small_mask(dtype) if dtype.itemsize <= _MAX_KEPT_BYTES else _find_mask(dtype)


def without_padding(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the array if it has no padding, otherwise a contiguous copy whose padding is zero."""
    if array.dtype.char not in _MAY_BE_PADDED or (mask := _mask(array.dtype)) is None or not array.nbytes:
        return array
    # View the items without fields, which copies them whole. A copy by field would have other padding.
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    items = array.view(np.dtype((np.void, array.itemsize))).copy("F" if is_fortran else "C")
    _clear(items, mask)
    return items.view(array.dtype)


def clear_padding(array: npt.NDArray[Any]) -> None:
    """Set the padding of a contiguous array to zero."""
    if (mask := _mask(array.dtype)) is not None and array.nbytes:
        _clear(array, mask)


def _clear(array: npt.NDArray[Any], mask: _Mask) -> None:
    rows = array.reshape(-1, order="A").view(np.uint8).reshape(-1, len(mask))
    np.bitwise_and(rows, mask, out=rows)


def bytes_of_scalar(value: np.generic) -> bytes:
    """Return the memory of a scalar with zero padding."""
    if value.dtype.char not in _MAY_BE_PADDED:
        return value.tobytes()
    return without_padding(np.asarray(value)).tobytes()


def for_pickle(value: Any) -> Any:
    """Return a copy with zeroed padding if `value` is an array or a scalar with padding, otherwise `value`.

    Arrays that are not contiguous are copied as well: pickle copies them anyway, and may not copy contiguous ones.
    """
    if type(value) is np.ndarray:
        unpadded = without_padding(value)
        return unpadded if unpadded.flags.forc or unpadded.dtype.hasobject else np.ascontiguousarray(unpadded)
    if isinstance(value, np.ndarray) and _mask(value.dtype) is not None:
        copy = value.copy()  # keeps the class and its other data, such as a mask
        if type(copy) is type(value) and not np.may_share_memory(copy, value):
            clear_padding(copy.view(np.ndarray))
            return copy
    if isinstance(value, np.generic) and _mask(value.dtype) is not None:
        return without_padding(np.asarray(value))[()]
    return value
