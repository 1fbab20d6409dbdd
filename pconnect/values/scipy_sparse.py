"""scipy's sparse arrays and matrices as a few numpy arrays. This is the only user of scipy, see `optional_types`.

Nothing is converted: class, dtypes, order of the entries, duplicates and explicit zeros are preserved. scipy's compiled
functions trust the indices, so an index out of range would let them write anywhere. Hence all indices are checked on
arrival, before scipy gets the arrays. scipy's own check is not enough, because it skips some.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

import numpy as np
import scipy.sparse

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType

__all__ = ["find_entry", "read"]

_CODE: Final = 40
_FORMATS: Final = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")
_CLASSES: Final[dict[str, Any]] = {
    name: getattr(scipy.sparse, name)
    for name in (f"{letters}_{ending}" for letters in _FORMATS for ending in ("array", "matrix"))
}


def _array(value: Any, axes: int, kinds: str) -> Any:
    if type(value) is not np.ndarray or value.ndim != axes or value.dtype.kind not in kinds:
        raise ProtocolError("wrong parts for a sparse array")
    return value


def _data(value: Any, axes: int = 1) -> Any:
    return _array(value, axes, "biufc")


def _indices(value: Any, size: int | None = None, first: int = 0) -> Any:
    """Return an array of indices after checking that they are in ``range(first, size)``."""
    indices = _array(value, 1, "i")
    if indices.size and (indices.min() < first or (size is not None and indices.max() >= size)):
        raise ProtocolError("an index of a sparse array is out of range")
    return indices


def _same_length(*arrays: Any) -> None:
    if len({len(array) for array in arrays}) != 1:
        raise ProtocolError("the parts of a sparse array do not have the same length")


def _write_compressed(matrix: Any) -> tuple[object, ...]:
    return matrix.data, matrix.indices, matrix.indptr


def _read_compressed(make: Any, shape: tuple[int, ...], data: Any, indices: Any, pointers: Any) -> object:
    blocks = make.__name__.startswith("bsr")
    data = _data(data, 3 if blocks else 1)
    if min(shape, default=0) < 0 or 0 in data.shape[1:]:
        raise ProtocolError("not the shape of a sparse array")
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    if blocks:
        if rows % data.shape[1] or columns % data.shape[2]:
            raise ProtocolError("the blocks of a sparse array do not match its shape")
        rows, columns = rows // data.shape[1], columns // data.shape[2]
    if make.__name__.startswith("csc"):
        rows, columns = columns, rows
    pointers = _indices(pointers, len(data) + 1)
    _same_length(data, _indices(indices, columns))
    if len(pointers) != rows + 1 or pointers[0] != 0 or (pointers[1:] < pointers[:-1]).any():
        raise ProtocolError("the row pointers of a sparse array do not match")
    matrix = make((data, indices, pointers), shape=shape)
    # Replace scipy's versions of these, because it prefers 32-bit indices.
    matrix.data, matrix.indices, matrix.indptr = data, indices, pointers
    return matrix


def _write_coordinates(matrix: Any) -> tuple[object, ...]:
    return matrix.data, list(matrix.coords), bool(matrix.has_canonical_format)


def _read_coordinates(make: Any, shape: tuple[int, ...], data: Any, coords: Any, canonical: Any) -> object:
    if type(coords) is not list or len(coords) != len(shape) or type(canonical) is not bool:
        raise ProtocolError("wrong parts for a sparse array")
    coords = tuple(_indices(part, size) for part, size in zip(coords, shape, strict=True))
    _same_length(_data(data), *coords)
    matrix = make((data, coords), shape=shape)
    matrix.data, matrix.coords, matrix.has_canonical_format = data, coords, canonical
    return matrix


def _write_diagonals(matrix: Any) -> tuple[object, ...]:
    return matrix.data, matrix.offsets


def _read_diagonals(make: Any, shape: tuple[int, ...], data: Any, offsets: Any) -> object:
    # Diagonals beyond the border are allowed and empty, unless they are so far out that sums overflow.
    far = np.iinfo(np.int32).max // 2
    _same_length(_data(data, 2), _indices(offsets, max(far, *shape), -max(far, *shape)))
    matrix = make((data, offsets), shape=shape)
    matrix.data, matrix.offsets = data, offsets
    return matrix


def _write_keys(matrix: Any) -> tuple[object, ...]:
    keys = list(matrix.keys())
    columns = [keys] if matrix.ndim == 1 else zip(*keys, strict=True) if keys else [()] * matrix.ndim
    return (
        np.fromiter(matrix.values(), matrix.dtype, len(keys)),
        [np.array(column, np.int64) for column in columns],
    )


def _read_keys(make: Any, shape: tuple[int, ...], data: Any, coords: Any) -> object:
    if type(coords) is not list or len(coords) != len(shape):
        raise ProtocolError("wrong parts for a sparse array")
    lists = [_indices(part, size).tolist() for part, size in zip(coords, shape, strict=True)]
    _same_length(_data(data), *lists)
    matrix = make(shape, dtype=data.dtype)
    # An assignment would drop explicit zeros.
    for key, value in zip(lists[0] if len(lists) == 1 else zip(*lists, strict=True), data, strict=True):
        matrix.setdefault(key, value)
    if len(list(matrix.keys())) != len(data):
        raise ProtocolError("a duplicate key in a sparse array")
    return matrix


def _write_lists(matrix: Any) -> tuple[object, ...]:
    lengths = np.array([len(row) for row in matrix.rows], np.int64)
    total = int(lengths.sum())
    columns = np.fromiter(chain.from_iterable(matrix.rows), np.int64, total)
    return np.fromiter(chain.from_iterable(matrix.data), matrix.dtype, total), columns, lengths


def _read_lists(make: Any, shape: tuple[int, ...], data: Any, columns: Any, lengths: Any) -> object:
    rows, width = shape
    _same_length(_data(data), _indices(columns, width))
    ends = np.cumsum(_indices(lengths, len(data) + 1))
    if len(ends) != rows or (ends[-1] if rows else 0) != len(data) or (ends < 0).any():
        raise ProtocolError("the rows of a sparse array do not match its data")
    matrix = make(shape, dtype=data.dtype)
    begin = 0
    for row, end in enumerate(ends.tolist()):
        matrix.rows[row] = columns[begin:end].tolist()
        matrix.data[row] = data[begin:end].tolist()
        if any(b <= a for a, b in zip(matrix.rows[row], matrix.rows[row][1:], strict=False)):
            raise ProtocolError("the columns of a sparse array are not in order")
        begin = end
    return matrix


# For each format: the names of the parts for error messages, how to take a matrix apart, and how to make it again.
_WAYS: Final[dict[str, tuple[str, Callable[[Any], tuple[object, ...]], Callable[..., object]]]] = {
    **dict.fromkeys(("bsr", "csc", "csr"), ("data indices indptr", _write_compressed, _read_compressed)),
    "coo": ("data coords has_canonical_format", _write_coordinates, _read_coordinates),
    "dia": ("data offsets", _write_diagonals, _read_diagonals),
    "dok": ("values() keys()", _write_keys, _read_keys),
    "lil": ("data rows rows", _write_lists, _read_lists),
}


def _entry(name: str, kind: type) -> ValueType:
    names, take_apart, _ = _WAYS[name[:3]]

    def write(matrix: Any) -> tuple[object, ...]:
        if matrix.dtype.kind not in "biufc":
            raise UnsupportedValueError(f"cannot send a sparse array of dtype {matrix.dtype}")
        parts = take_apart(matrix)
        for indices in chain.from_iterable(part if type(part) is list else [part] for part in parts[1:]):
            if type(indices) is np.ndarray and indices.dtype.kind != "i":
                raise UnsupportedValueError(
                    f"cannot send a sparse array with indices of dtype {indices.dtype}"
                )
        return name, [int(size) for size in matrix.shape], *parts

    return ValueType(_CODE, (kind,), write, read, ("format", "shape", *names.split()))


def read(parts: list[Any]) -> object:
    """Make a sparse array from its received name, shape and parts."""
    match parts:
        case [str() as name, list() as shape, *rest] if name in _CLASSES:
            if not shape or not all(type(size) is int and 0 <= size < 2**63 for size in shape):
                raise ProtocolError("not the shape of a sparse array")
            make: Any = _WAYS[name[:3]][2]
            made: object = make(_CLASSES[name], tuple(shape), *rest)
            return made
    raise ProtocolError("wrong parts for a sparse array")


_ENTRIES: Final = {kind: _entry(name, kind) for name, kind in _CLASSES.items()}


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a class of scipy.sparse, or ``None``."""
    return _ENTRIES.get(kind)
