"""Numpy dtypes as plain lists and strings, and the memory of arrays as flat bytes.

This is the only module that knows the notation of dtypes. A *description* consists of str, int and list:

- A plain dtype is numpy's own type string, ``"<f8"``, ``"|S5"``, ``">M8[25us]"``. There are two extensions. Long
  doubles include the width of their mantissa, ``"<f16:63"``, because x86 and ARM use the same size for different
  formats, and mixing them up silently would be worse than an error. And ``"<q"`` is C's `long long` if that is not the
  machine's int64, so that `numpy.longlong` is preserved.
- A structured dtype is ``[fields, itemsize, flags]``, with a field as ``[name, description, offset]`` or
  ``[name, description, offset, title]``.
- A subarray is ``[description, shape]``.

numpy.lib.format has the same task, but it uses text for `ast.literal_eval`, drops overlapping fields, and allows object
dtypes.
"""

import re
from collections.abc import Sequence
from math import prod
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.padding import clear_padding, without_padding
from pconnect.values.receive_buffers import MIN_BYTES, RECEIVE_BUFFERS

__all__ = [
    "C_ORDER",
    "F_ORDER",
    "NUMPY_SCALAR_TYPES",
    "OWN_DTYPES",
    "allocate",
    "byte_count",
    "contiguous",
    "describe_dtype",
    "filled",
    "flat_bytes",
    "joined",
    "restore_dtype",
]

C_ORDER: Final = 0
F_ORDER: Final = 1

_ALIGNED: Final = 1  # numpy.dtype(..., align=True), on which C code may rely
_RECORD: Final = 2  # fields are also attributes: numpy.record instead of numpy.void

# numpy numbers its own dtypes 0 to 23. StringDType and dtypes of other packages (bfloat16 claims to be "V2") have
# higher numbers; their items may be pointers, or have no meaning without the package.
OWN_DTYPES: Final = 24
_CHARACTERS: Final = "?bBhHiIlLqQefdgFDGMmV"
_MANTISSA_BITS: Final = int(np.finfo(np.longdouble).nmant)

# `numpy.dtype` accepts far more: field lists, aliases, "O". The multiple of a unit must not be 0, because numpy divides
# by it, not even after conversion to a C int.
_TYPE_STRING: Final = re.compile(
    r"[<>|](?:[biufcSUV]\d{1,10}|[Mm]8(?:\[([1-9]\d{0,9})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?|[qQ])(?::\d{1,3})?"
)
_MAX_MULTIPLE: Final = 2**31 - 1

NUMPY_SCALAR_TYPES: Final[tuple[type, ...]] = (*{np.dtype(c).type for c in _CHARACTERS}, np.record)


def _plain_description(dtype: np.dtype[Any]) -> str:
    text = dtype.str
    if dtype.char in "qQ" and np.dtype(text).char != dtype.char:
        return text[0] + dtype.char
    if _has_long_doubles(dtype):
        return f"{text}:{_MANTISSA_BITS}"
    return text


def _has_long_doubles(dtype: np.dtype[Any]) -> bool:
    # If C's long double is a double, numpy's type string is that of a double, and there is no ambiguity.
    return (dtype.char == "g" and dtype.itemsize > 8) or (dtype.char == "G" and dtype.itemsize > 16)


# `dtype.str` takes a microsecond, `dtype.char` a twentieth of that, and nearly every array has one of these dtypes.
_DESCRIPTIONS: Final = {c: _plain_description(np.dtype(c)) for c in "?bBhHiIlLqQefdgFDG"}
_DTYPES: Final = {text: np.dtype(text.partition(":")[0]) for text in _DESCRIPTIONS.values()}


def describe_dtype(dtype: np.dtype[Any]) -> str | list[Any]:
    """Describe a dtype with str, int and list.

    Byte order, offsets, padding, titles, alignment and the unit of dates are preserved; ``metadata`` is not.

    Raises `UnsupportedValueError` if the dtype is or contains object (even in omitted fields), StringDType, a dtype of
    another package, a title that is not a str, or names that numpy accepts only in ``dtype.names``.
    """
    if dtype.isnative and (text := _DESCRIPTIONS.get(dtype.char)):
        return text
    description = _describe(dtype)
    if type(description) is list:
        # A description that the receiver cannot restore would break the connection.
        try:
            restore_dtype(description)
        except ProtocolError as error:
            raise UnsupportedValueError(
                f"cannot send this structured dtype, because numpy cannot make it from its fields: {error}"
            ) from error
    return description


def _describe(dtype: np.dtype[Any]) -> str | list[Any]:
    if not 0 <= dtype.num < OWN_DTYPES or dtype.char == "O":
        raise UnsupportedValueError(
            f"cannot send the dtype {dtype.name}; convert it to a dtype of fixed size or to a list first"
        )
    if dtype.subdtype is not None:
        return [_describe(dtype.subdtype[0]), list(dtype.subdtype[1])]
    if dtype.names is None or dtype.fields is None:  # both are None, or neither
        return _plain_description(dtype)
    fields = [_describe_field(name, dtype.fields[name]) for name in dtype.names]
    if dtype.hasobject:  # in an omitted field, as in `array[["a", "b"]]`, which is still in memory
        raise UnsupportedValueError(
            "cannot send fields of an array that also has fields of dtype object; "
            "copy them with numpy.lib.recfunctions.repack_fields first"
        )
    return [fields, dtype.itemsize, _ALIGNED * dtype.isalignedstruct + _RECORD * (dtype.type is np.record)]


def _describe_field(name: str, field: tuple[Any, ...]) -> list[object]:
    dtype, offset, *title = field
    if title and type(title[0]) is not str:
        raise UnsupportedValueError(f"cannot send a dtype with the title {title[0]!r}, which is not a str")
    return [name, _describe(dtype), offset, *title]


def restore_dtype(description: object) -> np.dtype[Any]:
    """Restore a dtype from its description.

    Raises `ProtocolError` if the description is invalid, or if this machine does not have the dtype.
    """
    if type(description) is str:
        return _DTYPES.get(description) or _restore_plain(description)
    try:
        match description:
            case [list() as fields, int() as itemsize, int() as flags]:
                return _restore_structured(fields, itemsize, flags)
            case [base, list() as shape] if shape and all(type(n) is int for n in shape):
                return np.dtype((restore_dtype(base), tuple(shape)))
    except (TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise ProtocolError(f"not a dtype: {error}") from error
    raise ProtocolError("not a dtype")


def _restore_plain(text: str) -> np.dtype[Any]:
    match = _TYPE_STRING.fullmatch(text)
    if match is None or int(match[1] or 1) > _MAX_MULTIPLE:
        raise ProtocolError(f"not a dtype: {text[:40]!r}")
    try:
        dtype: np.dtype[Any] = np.dtype(text.partition(":")[0])
        known = _plain_description(dtype) == text
    except (TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(f"not a dtype on this machine: {text!r}") from error
    if not known:  # another long double, or another spelling, as "<i1" for "|i1"
        raise ProtocolError(
            f"not a dtype on this machine: {text!r}, but {_plain_description(dtype)!r} would be one"
        )
    return dtype


def _restore_structured(fields: list[Any], itemsize: int, flags: int) -> np.dtype[Any]:
    names, formats, offsets, titles = [], [], [], []
    for name, description, offset, *title in fields:
        if type(name) is not str or type(offset) is not int or any(type(t) is not str for t in title):
            raise ProtocolError("not a dtype: a field needs a name and an offset")
        names.append(name)
        formats.append(restore_dtype(description))
        offsets.append(offset)
        titles.append(title[0] if title else None)
    # numpy refuses negative offsets, fields beyond `itemsize` and duplicate names.
    spec = {"names": names, "formats": formats, "offsets": offsets, "titles": titles, "itemsize": itemsize}
    dtype: np.dtype[Any] = np.dtype(spec, align=bool(flags & _ALIGNED))  # type: ignore[call-overload]
    return np.dtype((np.record, dtype)) if flags & _RECORD else dtype


def byte_count(dtype: np.dtype[Any], shape: object) -> int:
    """Return the size of an array in bytes, as an exact int, without allocating anything.

    Raises `ProtocolError` if `shape` is not a list of sizes, or if no array can have the dtype.
    """
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise ProtocolError("not the shape of an array")
    if dtype.subdtype is not None:
        raise ProtocolError("not the dtype of an array: a subarray must be part of a structured dtype")
    return prod(shape) * dtype.itemsize


def allocate(dtype: np.dtype[Any], shape: list[int], order: int, size: int = 0) -> npt.NDArray[Any]:
    """Return a new, uninitialized array of exactly this dtype.

    For a large `size` in bytes, its memory is reused after it is dropped.

    Raises `ProtocolError` if no array can have this shape, or if there is not enough memory.
    """
    try:
        if dtype.itemsize == 0 and dtype.char in "SU":  # numpy.empty would make them one character wide
            return np.empty(shape, np.dtype([("", dtype)]))["f0"]
        letter: Literal["C", "F"] = "F" if order == F_ORDER else "C"
        if size >= MIN_BYTES:
            return np.ndarray(shape, dtype, RECEIVE_BUFFERS.take(size), order=letter)
        return np.empty(shape, dtype, letter)
    except (ValueError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"cannot allocate the array: {error}") from error


def filled(dtype: np.dtype[Any], shape: list[int], order: int, data: bytes) -> npt.NDArray[Any]:
    """Return a new, writable array with a copy of `data`. Raises the errors of `allocate`."""
    if not data:
        return allocate(dtype, shape, order)
    letter: Literal["C", "F"] = "F" if order == F_ORDER else "C"
    try:
        if dtype.names is None:
            return np.ndarray(shape, dtype, data, order=letter).copy(letter)
        array = np.empty(shape, dtype, letter)
        # Copy all bytes, because numpy copies by field and leaves the padding uninitialized.
        flat_bytes(array)[:] = data
        return array
    except (ValueError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"cannot allocate the array: {error}") from error


def joined(parts: Sequence[npt.NDArray[Any]], axis: int) -> npt.NDArray[Any]:
    """Join arrays and masks like `numpy.concatenate`. The memory of a large result is reused after it is dropped.

    Examples
    --------
    >>> joined([np.arange(2), np.arange(3.0)], 0)
    array([0., 1., 0., 1., 2.])
    """
    is_masked = any(isinstance(part, np.ma.MaskedArray) for part in parts)
    whole: npt.NDArray[Any]
    whole = np.ma.concatenate(parts, axis) if is_masked else _joined(parts, axis)  # type: ignore[no-untyped-call]
    clear_padding(np.ma.getdata(whole))
    return whole


def _joined(parts: Sequence[npt.NDArray[Any]], axis: int) -> npt.NDArray[Any]:
    first, size = parts[0], sum(part.nbytes for part in parts)
    are_alike = all(part.dtype == first.dtype and part.ndim == first.ndim for part in parts)
    if size < MIN_BYTES or not are_alike or not -first.ndim <= axis < first.ndim:
        return np.concatenate(parts, axis)
    shape = list(first.shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    dtype = np.result_type(first.dtype, first.dtype)
    if prod(shape) * dtype.itemsize != size or all(part.flags.fnc for part in parts):
        return np.concatenate(parts, axis)  # an error, or a result in Fortran order
    return np.concatenate(parts, axis, np.ndarray(shape, dtype, RECEIVE_BUFFERS.take(size)))


def contiguous(array: npt.NDArray[Any]) -> tuple[int, npt.NDArray[Any]]:
    """Return the memory order and the array, or a copy if the array is not contiguous or has padding.

    The copy of an array that is not contiguous is in C order.
    """
    array = without_padding(array)
    flags = array.flags
    if flags.c_contiguous or array.nbytes == 0:
        return C_ORDER, array
    if flags.f_contiguous:
        return F_ORDER, array
    return C_ORDER, array.copy("C")


def flat_bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return the memory of a contiguous array as bytes, without a copy, in the order in memory.

    The view as bytes is needed because `memoryview` does not support dates and long doubles.
    """
    if array.nbytes == 0:
        return memoryview(b"")
    return array.reshape(-1, order="A").view(np.uint8).data
