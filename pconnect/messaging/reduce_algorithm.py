"""Operators of `reduce` and `allreduce`, and the exchange of slices of large arrays.

Values are always folded in rank order, ``((x0 op x1) op x2) ...``. So the result does not depend on the layout of the
network, is the same to the last bit on every member and in a numpy loop, and is correct for operators that do not
commute.

Large arrays. Every member sends slice i of the flattened array to member i, which folds these slices and sends the
result to all members (or to the root). Each member sends ``2 (n - 1) / n`` times the array, as little as with a ring,
but in two steps instead of ``2 (n - 1)``. And each element is folded in rank order, which a ring cannot do. If there
are so many members that slices would be too small for a message, only some members have a slice to fold. This requires
an operator that works element by element: the named operators and numpy's ufuncs. Other functions get whole arrays.

All other values are folded by the root, or by rank 0, which sends the result to all members. With a user's function,
each member computes the result itself.
"""

import builtins
import operator
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pconnect.errors import ConfigurationError
from pconnect.messaging import broadcast_algorithm, exchange
from pconnect.messaging.collective_call import Call
from pconnect.values import decoder, dtypes, encoder

#: Arrays of at least this many bytes are reduced by slices; see doc/decisions/0005-collectives.md for the measurement.
SLICED_BYTES = 2**18
#: For smaller slices, the cost of a message to each member is too high; see doc/decisions/0015-growth.md.
SMALLEST_SLICE_BYTES = 2**16


@dataclass(frozen=True)
class Operator:
    """An operator that combines two values."""

    label: str  #: must be the same on all members
    function: Callable[[Any, Any], Any]  #: combines two values
    ufunc: np.ufunc | None = None  #: the ufunc for plain arrays, if `function` works element by element
    trusted: bool = False  #: whether it preserves the dtype of arrays that have the same dtype


def _least(a: Any, b: Any) -> Any:
    return np.minimum(a, b) if _is_numpy(a) or _is_numpy(b) else min(a, b)


def _greatest(a: Any, b: Any) -> Any:
    return np.maximum(a, b) if _is_numpy(a) or _is_numpy(b) else max(a, b)


def _is_numpy(value: object) -> bool:
    return isinstance(value, np.ndarray | np.generic)


_NAMED = {
    "sum": Operator("sum", operator.add, np.add, trusted=True),
    "prod": Operator("prod", operator.mul, np.multiply, trusted=True),
    "min": Operator("min", _least, np.minimum, trusted=True),
    "max": Operator("max", _greatest, np.maximum, trusted=True),
}


def find_operator(op: object) -> Operator:
    """Return the operator for a user's `op` argument.

    `op`: ``"sum"``, ``"prod"``, ``"min"``, ``"max"``, a function of two values, or the (dotted) name of a function in
    this process's ``__main__``. Raises `ConfigurationError` if there is no such function in this process.

    Examples
    --------
    >>> find_operator("sum").function(1, 2), find_operator("divmod").function(7, 2)
    (3, (3, 1))
    """
    if isinstance(op, str):
        if op in _NAMED:
            return _NAMED[op]
        op = _look_up(op)
    if not callable(op):
        raise ConfigurationError(
            f"op={op!r} is neither a function of two values nor the name of one: {', '.join(_NAMED)} always work"
        )
    # The ufuncs of numpy.frompyfunc return arrays of objects, which cannot be sent.
    if isinstance(op, np.ufunc) and (op.nin, op.nout, op.signature) == (2, 1, None) and op.types != ["OO->O"]:
        return Operator(f"ufunc {op.__name__}", op, op)
    return Operator("a function", op)


def _look_up(name: str) -> object:
    first, *rest = name.split(".")
    main = sys.modules["__main__"]
    try:
        found = getattr(main, first) if hasattr(main, first) else getattr(builtins, first)
        for attribute in rest:
            found = getattr(found, attribute)
    except AttributeError:
        raise ConfigurationError(
            f"op={name!r}: there is no such name in __main__ of this process; define it here, or use one of "
            f"{', '.join(_NAMED)}"
        ) from None
    return found


def describe(value: object) -> str:
    """Return the properties of a value that must be the same on all members for a reduction.

    Examples
    --------
    >>> describe(np.zeros((2, 3))), describe(5)
    ('float64 array of shape (2, 3)', 'no array')
    """
    if not isinstance(value, np.ndarray):
        return "no array"
    masked = "masked " if isinstance(value, np.ma.MaskedArray) else ""
    return f"{masked}{value.dtype} array of shape {value.shape}"


def fold(chosen: Operator, values: Iterable[Any], own: object) -> Any:
    """Combine values in order, each as soon as it arrives. May overwrite their arrays, but not the array of `own`.

    Examples
    --------
    >>> fold(find_operator("sum"), iter([[1], [2], [3]]), [1]), fold(find_operator("max"), [np.int8(1), np.int8(7)], 0)
    ([1, 2, 3], np.int8(7))
    """
    total: Any = None
    for count, value in enumerate(values):
        if count == 0:
            total = value
        elif chosen.trusted and _are_alike(total, value):
            assert chosen.ufunc is not None  # noqa: S101 - trusted operators have one
            total = chosen.ufunc(total, value, out=value if total is own else total)
        else:
            result = chosen.function(total, value)
            # numpy converts 0-d arrays to scalars.
            is_scalar = isinstance(total, np.ndarray) and isinstance(result, np.generic)
            total = np.asarray(result) if is_scalar else result
    return total


def _are_alike(total: object, value: object) -> bool:
    return (
        type(total) is np.ndarray
        and type(value) is np.ndarray
        and (total.dtype, total.shape) == (value.dtype, value.shape)
        and total.dtype.isnative  # the result is always native
    )


def copied(value: Any) -> Any:
    """Return a value as it would arrive: with new arrays and containers. Raises `UnsupportedValueError`."""
    head, buffers = encoder.encode(value)
    incoming = decoder.decode(head, sum(buffer.nbytes for buffer in buffers), len(head))
    for target, source in zip(incoming.buffers, buffers, strict=True):
        target[:] = source
    return incoming.finish()


def reduce_to(call: Call, chosen: Operator, value: Any, root: int | None) -> Any:
    """Reduce all values. Return the result on the root (on all members if `root` is ``None``), elsewhere ``None``."""
    call.agree(op=chosen.label, value=describe(value))
    if call.size > 2 and chosen.ufunc and type(value) is np.ndarray and value.nbytes >= SLICED_BYTES:
        return _reduce_slices(call, chosen, value, list(range(call.size)) if root is None else [root])
    # A user's function may change its arguments, or return one of them.
    own = value if chosen.ufunc else copied(value)
    at_one = root is not None or (chosen.ufunc and call.size > exchange.ALL_TO_ALL_MEMBERS)
    values = exchange.gather(call, root or 0, own) if at_one else exchange.allgather(call, own)
    result = None if values is None else fold(chosen, values, own)
    if root is None and at_one:
        result = broadcast_algorithm.broadcast(call, 0, result)
    return copied(result) if result is value else result


def _reduce_slices(call: Call, chosen: Operator, array: npt.NDArray[Any], roots: list[int]) -> Any:
    count = max(1, min(call.size, array.nbytes // SMALLEST_SLICE_BYTES))
    slices = np.array_split(np.ascontiguousarray(array).reshape(-1), count)
    # Each member starts with its neighbour, so that they do not all send to the same member at the same time.
    for rank in (*range(call.rank + 1, count), *range(min(call.rank, count))):
        call.post([rank], slices[rank])
    own = None
    if call.rank < count:
        mine = slices[call.rank]
        own = fold(chosen, call.in_rank_order(mine, call.size), mine)
        call.post([rank for rank in roots if rank != call.rank], own)
    if call.rank not in roots:
        return None
    whole: npt.NDArray[Any] | None = None
    begin = 0
    for part in call.in_rank_order(own, count):
        if whole is None:
            size = array.size * part.dtype.itemsize
            whole = dtypes.allocate(part.dtype, [array.size], dtypes.C_ORDER, size)
        np.copyto(whole[begin : begin + part.size], part, casting="no")
        begin += part.size
    assert whole is not None  # noqa: S101 - there is a first slice
    return whole.reshape(array.shape)
