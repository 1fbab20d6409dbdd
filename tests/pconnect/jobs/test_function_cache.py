"""Functions that are sent again, and functions that are not."""

import functools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pconnect.commands.function_pickling import unpack_function
from pconnect.jobs.duration_estimate import DurationEstimate
from pconnect.jobs.function_cache import Functions


def test_the_same_function_has_one_number() -> None:
    functions = Functions()

    def local(x: int) -> int:
        return x + 1

    numbers = [functions.get(f).number for f in (math.sqrt, local, "len", math.sqrt, local, "len")]
    assert numbers[:3] == numbers[3:] and len(set(numbers)) == 3


def test_a_changed_closure_is_another_function() -> None:
    functions = Functions()

    def make(n: int) -> Callable[[], int]:
        return lambda: n

    assert functions.get(make(1)).number == functions.get(make(1)).number
    assert functions.get(make(1)).number != functions.get(make(2)).number


def test_old_functions_are_forgotten() -> None:
    functions = Functions()
    first = functions.get("lambda: 0").number
    for k in range(1, 300):
        functions.get(f"lambda: {k}")
    assert functions.get("lambda: 0").number != first


def test_a_separately_timed_function_is_the_same_function_for_workers() -> None:
    function = Functions().get(math.sqrt)
    other = function.with_estimate(DurationEstimate())
    assert (other.number, other.encode()) == (function.number, function.encode())
    other.estimate.learn(0.0)
    assert function.estimate.ahead == 1


class Model:
    """Holds an array, and counts how often it is pickled."""

    def __init__(self, weights: np.ndarray[Any, Any]) -> None:
        self.weights = weights
        self.pickles = 0

    def __call__(self) -> float:
        return float(self.weights.sum())

    def __getstate__(self) -> dict[str, Any]:
        self.pickles += 1
        return {"weights": self.weights}


@pytest.mark.parametrize("index", [0, 1, 123_456, -1])
def test_one_changed_item_of_a_large_array_is_noticed(index: int) -> None:
    functions, model = Functions(), Model(np.zeros(200_000))
    first = functions.get(model)
    assert functions.get(model) is first
    model.weights[index] = 1
    second = functions.get(model)
    assert second.number != first.number and functions.get(model) is second
    assert [unpack_function(f.contents[0], {}, f.contents[2:])() for f in (first, second)] == [0, 1]


def test_unchanged_large_arrays_are_not_copied() -> None:
    functions, weights = Functions(), np.ones(2**22)
    first = functions.get(Model(weights))
    tracemalloc.start()
    try:
        assert all(functions.get(Model(weights)) is first for _ in range(5))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


BLOCK = bytes(range(256)) * 2**13  # 2 MiB
LARGE: dict[str, Callable[[], Any]] = {
    "bytes": lambda: BLOCK,
    "bytearray": lambda: bytearray(BLOCK),
    "list": lambda: [BLOCK, BLOCK[1:], 1],
    "dict": lambda: {"a": BLOCK, 2: [BLOCK[1:]]},
}


class Holder:
    def __init__(self, data: Any) -> None:
        self.data = data

    def get(self) -> Any:
        return self.data


def calls_with(data: Any) -> dict[str, Callable[[], Any]]:
    return {"closure": lambda: data, "partial": functools.partial(max, [data]), "method": Holder(data).get}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("call", calls_with(0))
def test_unchanged_large_bytes_are_not_copied(kind: str, call: str) -> None:
    functions, data = Functions(), LARGE[kind]()
    first = functions.get(calls_with(data)[call])
    assert unpack_function(first.contents[0], {}, first.contents[2:])() == data
    tracemalloc.start()
    try:
        assert all(functions.get(calls_with(data)[call]) is first for _ in range(5))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("index", [0, 1, 54_321, -1])
@pytest.mark.parametrize("call", calls_with(0))
def test_one_changed_item_of_a_large_list_or_bytearray_is_noticed(index: int, call: str) -> None:
    for data in (list(range(100_000)), bytearray(100_000), dict.fromkeys(range(100_000), 7)):
        functions = Functions()
        first = functions.get(calls_with(data)[call])
        assert functions.get(calls_with(data)[call]) is first
        data[index] = 200  # an item of a bytearray is at most 255
        second = functions.get(calls_with(data)[call])
        assert second is not first and functions.get(calls_with(data)[call]) is second
        assert unpack_function(second.contents[0], {}, second.contents[2:])() == data


def test_a_long_text_is_recognised() -> None:
    functions = Functions()
    texts = [f"lambda: {'x' * 10**5!r} + {k!r}" for k in "ab"]
    numbers = [functions.get(text).number for _ in range(2) for text in texts]
    assert numbers == numbers[:2] * 2 and len(set(numbers)) == 2


def test_two_alternating_models_are_recognised_by_their_contents() -> None:
    functions, models = Functions(), [Model(np.full(100_000, k)) for k in (1.0, 2.0)]
    numbers = [functions.get(model).number for _ in range(3) for model in models]
    assert numbers == numbers[:2] * 3


def test_changes_of_referenced_objects_are_noticed() -> None:
    functions, scale, box = Functions(), 1, [1]
    names: dict[str, Any] = {"factor": 1}
    by_global = eval("lambda: factor", names)

    def by_closure() -> object:
        return scale, box

    calls: list[Callable[[], Any]] = [by_global, by_closure, functools.partial(max, box)]
    before = [functions.get(call).number for call in calls]
    assert [functions.get(call).number for call in calls] == before
    names["factor"], scale = 2, 2
    box.append(2)
    after = [functions.get(call) for call in calls]
    assert not {function.number for function in after}.intersection(before)
    assert [unpack_function(f.contents[0], {})() for f in after] == [2, (2, [1, 2]), 2]


def test_an_array_is_read_only_in_the_worker_even_if_writable_here() -> None:
    for writeable in (True, False):
        array = np.ones(10**5)
        array.flags.writeable = writeable
        function = Functions().get(lambda array=array: array)
        assert not unpack_function(function.contents[0], {}, function.contents[2:])().flags.writeable
        assert array.flags.writeable is writeable
