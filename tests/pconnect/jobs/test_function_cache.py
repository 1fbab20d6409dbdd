"""Functions that are sent again, and those that are not."""

import math
from collections.abc import Callable

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


def test_a_function_that_is_timed_by_itself_is_the_same_to_workers() -> None:
    function = Functions().get(math.sqrt)
    other = function.with_estimate(DurationEstimate())
    assert (other.number, other.encode()) == (function.number, function.encode())
    other.estimate.learn(0.0)
    assert function.estimate.ahead == 1
