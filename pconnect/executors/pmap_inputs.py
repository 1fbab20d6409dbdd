"""The inputs of `pmap`, as single elements or as chunks of arrays, and the results put together in their shape."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from typing import Any

import numpy as np

from pconnect.errors import ConfigurationError
from pconnect.executors.executor import Executor, JobMaker
from pconnect.executors.job_map import check_chunksize, submit_chunks, submit_items
from pconnect.jobs.job import Job
from pconnect.values.dtypes import joined

# "auto" makes this many chunks for each slot: a slow chunk delays the end little.
_CHUNKS_PER_SLOT = 4
# With a seed, "auto" makes this many chunks on every cluster: the k-th chunk draws from the k-th stream.
_SEEDED_CHUNKS = 64
_TEXT = "SU"  # kinds of dtypes
_NO_LIST = (str, bytes, Mapping, Set)  # have a length, but their items are not results
_NOT_UNIFORM = "uniform_output=False returns them unchanged"


def items_of(index: Any) -> str:
    """Return the words for an index of an item, or for the slice of a chunk."""
    if isinstance(index, slice) and index.stop - index.start > 1:
        return f"items {index.start} to {index.stop - 1}"
    return f"item {index.start if isinstance(index, slice) else index}"


class Elements:
    """Inputs whose elements are passed one by one. An input with a single element is repeated.

    `count`: number of results. `job_count`: number of jobs. `has_lists`: whether the result of a job is the list of
    the results of its items.
    """

    def __init__(
        self, function: Callable[..., Any] | str, inputs: Sequence[Any], chunksize: int | str
    ) -> None:
        inputs = [_in_order(items, place) for place, items in enumerate(inputs, 1)]
        shapes = [items.shape if isinstance(items, np.ndarray) else (len(items),) for items in inputs]
        # An empty input counts as well, so the largest size is not enough.
        shape = max(shapes, key=lambda s: (math.prod(s) != 1, math.prod(s), len(s)))
        if any(s != shape and math.prod(s) != 1 for s in shapes):
            raise ConfigurationError(
                f"pmap: the inputs have different shapes {shapes}; give them one shape, or a single element"
            )
        self.count = math.prod(shape)
        flat = [items.reshape(-1) if isinstance(items, np.ndarray) else items for items in inputs]
        self._shape = shape
        self._flat = [items if len(items) == self.count else [items[0]] * self.count for items in flat]
        self._function = function
        size = check_chunksize(chunksize) or 1
        self._size = 1 if isinstance(function, JobMaker) else size
        self.has_lists = self._size > 1
        self.job_count = -(-self.count // self._size)

    def submit(self, executor: Executor) -> Iterator[Job]:
        """Submit each job when it is taken from the iterator returned."""
        items = zip(*self._flat, strict=True)
        if self.has_lists:
            return submit_chunks(executor, self._function, items, self._size)
        return submit_items(executor, self._function, items)

    def index(self, position: int) -> Any:
        """Return the index of an element in the inputs: a tuple for arrays, except those with one axis."""
        if len(self._shape) == 1:
            return position
        return tuple(int(k) for k in np.unravel_index(position, self._shape))

    def elements(self, position: int) -> list[Any]:
        """Return the arguments of one call."""
        return [items[position] for items in self._flat]

    def joined(self, results: list[Any], *, uniform: bool) -> Any:
        """Return the results in the shape of the inputs; tuples give one result for each position in them."""
        return _by_position(results, functools.partial(self._shaped, uniform=uniform))

    def _shaped(self, results: list[Any], *, uniform: bool) -> Any:
        if not uniform:
            if len(self._shape) == 1:
                return results
            cells = np.empty(len(results), dtype=object)
            cells[:] = results
            return cells.reshape(self._shape)
        try:
            array = np.array(results)
        except ValueError:
            array = np.empty(0, dtype=object)
        if array.ndim != 1 or len(array) != len(results) or array.dtype == object or _differs(array, results):
            raise ConfigurationError(
                f"pmap: the results are not all single values of one type; {_NOT_UNIFORM}"
            )
        return array.reshape(self._shape)


class Chunks:
    """Arrays that are passed in chunks along axis 0. An array with a single element is passed to each call.

    The attributes are those of `Elements`.
    """

    has_lists = False

    def __init__(
        self,
        executor: Executor,
        function: Callable[..., Any] | str,
        inputs: Sequence[Any],
        chunksize: int | str,
    ) -> None:
        arrays = [_array(items, place) for place, items in enumerate(inputs, 1)]
        lengths = [len(array) for array in arrays if array.size != 1]
        if len(set(lengths)) > 1:
            raise ConfigurationError(
                f"pmap: the inputs have different lengths {lengths} along axis 0; give them one length, or a single "
                "element"
            )
        self.count = lengths[0] if lengths else 1
        self._is_cut = [array.size != 1 for array in arrays] if lengths else [True] * len(arrays)
        self._arrays = arrays if lengths else [array.reshape(-1) for array in arrays]
        self._function = function
        self._size = check_chunksize(chunksize) or _default_size(executor, self.count)
        self.job_count = -(-self.count // self._size)

    def submit(self, executor: Executor) -> Iterator[Job]:
        """Submit each job when it is taken from the iterator returned."""
        return submit_items(executor, self._function, map(self.elements, range(self.job_count)))

    def index(self, position: int) -> slice:
        """Return the part of axis 0 that a chunk covers."""
        begin = position * self._size
        return slice(begin, min(begin + self._size, self.count))

    def elements(self, position: int) -> tuple[Any, ...]:
        """Return the arguments of one call."""
        part = self.index(position)
        pairs = zip(self._arrays, self._is_cut, strict=True)
        return tuple(array[part] if is_cut else array for array, is_cut in pairs)

    def joined(self, results: list[Any], *, uniform: bool) -> Any:
        """Return the results joined along axis 0; tuples give one result for each position in them."""
        return _by_position(results, functools.partial(self._concatenated, uniform=uniform))

    def _concatenated(self, results: list[Any], *, uniform: bool) -> Any:
        for position, result in enumerate(results):
            self._check_length(position, result)
        if not uniform:
            return [value for result in results for value in result]
        if not results:
            return np.empty(0)
        try:
            parts = [np.asanyarray(result) for result in results]
            array = joined(parts, 0)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"pmap: the results of the chunks do not match: {error}; {_NOT_UNIFORM}"
            ) from error
        if array.dtype == object or any(
            _differs(part, result) or (array.dtype.kind in _TEXT and part.dtype.kind != array.dtype.kind)
            for part, result in zip(parts, results, strict=True)
        ):
            raise ConfigurationError(f"pmap: the results are not arrays of one type; {_NOT_UNIFORM}")
        return array

    def _check_length(self, position: int, result: Any) -> None:
        part = self.index(position)
        wanted = part.stop - part.start
        try:
            count = None if isinstance(result, _NO_LIST) else len(result)
        except TypeError:  # it has no length
            count = None
        if count == wanted:
            return
        found = f"{count} values" if count is not None else f"a single value ({type(result).__name__})"
        raise ConfigurationError(
            f"pmap: with vectorized=True the function returned {found} for {items_of(part)}: it must return {wanted}, "
            "one for each item; without vectorized=True it gets the items one by one"
        )


def _in_order(items: Any, place: int) -> Any:
    """Return an input as an array or sequence; a number is its only element. `place`: of the input, for the error."""
    if isinstance(items, int | float | complex | np.generic):
        return [items]
    if isinstance(items, np.matrix) or (hasattr(items, "__array__") and not isinstance(items, np.ndarray)):
        return np.asarray(items)
    if isinstance(items, np.ndarray | Sequence):
        return items
    if isinstance(items, Sized) and isinstance(items, Iterable):  # a set or the keys of a dict, for example
        return list(items)
    raise ConfigurationError(
        f"pmap: input {place} is of type {type(items).__name__}, which has no length: give an array or a list; "
        "net.map takes iterators"
    )


def _array(items: Any, place: int) -> Any:
    """Return an input as an array, with its mask if it has one."""
    items = items if isinstance(items, str | bytes | int | float | complex) else _in_order(items, place)
    try:
        return np.asanyarray(items)
    except ValueError as error:
        raise ConfigurationError(
            f"pmap: with vectorized=True the inputs are converted to arrays, which is not possible for input {place}: "
            f"{error}"
        ) from error


def _differs(array: Any, values: Any) -> bool:
    """Return whether an array of text has other values: numpy converts numbers to text, and cuts off NUL characters."""
    return array.dtype.kind in _TEXT and array.ndim == 1 and array.tolist() != list(values)


def _default_size(executor: Executor, count: int) -> int:
    is_seeded = executor.seeds is not None
    chunks = _SEEDED_CHUNKS if is_seeded else _CHUNKS_PER_SLOT * max(1, executor.usable_slots())
    return max(1, -(-count // chunks))


def _by_position(results: list[Any], join: Callable[[list[Any]], Any]) -> Any:
    """Join the results; if they are tuples, those at each position in them, and return a tuple."""
    if not results or not all(isinstance(result, tuple) for result in results):
        return join(results)
    if len({len(result) for result in results}) > 1:
        raise ConfigurationError(
            "pmap: the function returned tuples of different lengths; return the same number of values each time"
        )
    return tuple(join(list(part)) for part in zip(*results, strict=True))
