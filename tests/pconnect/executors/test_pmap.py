"""`pmap`: the results have the shape of the input, and each failure names its item."""

import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError
from pconnect.executors.pmap import JobFailure, pmap
from pconnect.views.network_views import ClientNetwork

LIMIT = 20.0


def test_an_array_gives_an_array_of_its_shape(jobs_network: ClientNetwork) -> None:
    array = np.arange(12.0).reshape(3, 4)
    found = jobs_network.pmap(lambda x: x * 2, array)
    assert found.shape == (3, 4) and (found == 2 * array).all()


def test_a_single_element_is_used_for_all(jobs_network: ClientNetwork) -> None:
    assert jobs_network.pmap(pow, [2, 3, 4], [2]).tolist() == [4, 9, 16]
    assert jobs_network.pmap(pow, np.array(2), [1, 2, 3]).tolist() == [2, 4, 8]
    assert jobs_network.pmap(pow, 2, [1, 2, 3]).tolist() == [2, 4, 8]


def test_tuples_give_several_results(jobs_network: ClientNetwork) -> None:
    quotients, remainders = jobs_network.pmap(divmod, np.array([[7, 8], [9, 10]]), [3])
    assert quotients.tolist() == [[2, 2], [3, 3]] and remainders.tolist() == [[1, 2], [0, 1]]


def test_results_of_any_kind(jobs_network: ClientNetwork) -> None:
    assert jobs_network.pmap(lambda n: [0] * n, [0, 1, 2], uniform_output=False) == [[], [0], [0, 0]]
    cells = jobs_network.pmap(lambda n: [0] * n, np.array([[0, 1], [2, 3]]), uniform_output=False)
    assert cells.shape == (2, 2) and cells[1, 1] == [0, 0, 0]
    for function in (lambda n: [0] * n, lambda n: [n, n], lambda n: None if n else 1):
        with pytest.raises(ConfigurationError, match="uniform_output=False"):
            jobs_network.pmap(function, [0, 1, 2])


@pytest.mark.parametrize("chunksize", ["auto", 2])
def test_an_exception_is_a_result_like_others(jobs_network: ClientNetwork, chunksize: Any) -> None:
    found = jobs_network.pmap(
        ValueError, [1, 2, 3], uniform_output=False, allow_pickle=True, chunksize=chunksize
    )
    assert [(type(each), each.args) for each in found] == [(ValueError, (k,)) for k in (1, 2, 3)]


@pytest.mark.parametrize("chunksize", ["auto", 2])
def test_the_error_handler_gets_the_failed_item(jobs_network: ClientNetwork, chunksize: Any) -> None:
    failures: list[tuple[JobFailure, Any]] = []

    def handle(failure: JobFailure, *elements: Any) -> int:
        failures.append((failure, elements))
        return -1

    found = jobs_network.pmap(
        lambda x, y: int(x) // int(y), np.array([[6, 7], [8, 9]]), np.array([[1, 7], [0, 3]]), error_handler=handle,
        chunksize=chunksize,
    )  # fmt: skip
    if chunksize == "auto":
        assert found.tolist() == [[6, 1], [-1, 3]]
        failure, elements = failures[0]
        assert len(failures) == 1 and elements == (8, 0)
        assert failure.index == (1, 0) and failure.identifier == "ZeroDivisionError"
        assert "ZeroDivisionError" in failure.traceback and "zero" in failure.message
    else:  # a chunk fails as a whole
        assert found.tolist() == [[6, 1], [-1, -1]]
        assert [failure.index for failure, _ in failures] == [(1, 0), (1, 1)]


def test_the_index_of_a_list_is_a_number(jobs_network: ClientNetwork) -> None:
    found = jobs_network.pmap(abs, [1, "a", -3], error_handler=lambda failure, x: (failure.index, x)[0] * 100)
    assert found.tolist() == [1, 100, 3]


def test_without_a_handler_the_first_failure_is_raised(jobs_network: ClientNetwork) -> None:
    with pytest.raises(JobFailure, match=r"item 1: .*node [12]") as told:
        jobs_network.pmap(divmod, [1, 1, 1], [1, 0, 0])
    assert isinstance(told.value.__cause__, ZeroDivisionError) and told.value.index == 1


def test_inputs_of_different_shapes_are_refused(jobs_network: ClientNetwork) -> None:
    with pytest.raises(ConfigurationError, match=r"different shapes \[\(2,\), \(3,\)\]"):
        jobs_network.pmap(pow, [1, 2], [1, 2, 3])
    with pytest.raises(ConfigurationError, match="no input was given"):
        jobs_network.pmap(abs)
    with pytest.raises(ConfigurationError, match="tuples of different lengths"):
        jobs_network.pmap(lambda n: (0,) * n, [1, 2])


def test_empty_inputs_give_empty_results(jobs_network: ClientNetwork) -> None:
    assert jobs_network.pmap(abs, [], uniform_output=False) == []
    assert jobs_network.pmap(abs, np.empty((0, 3))).shape == (0, 3)
    assert jobs_network.pmap(pow, [], [2]).shape == (0,)


def test_reduce_combines_in_the_order_of_the_inputs(jobs_network: ClientNetwork) -> None:
    """The sum equals that of one process to the last bit."""
    values = np.random.default_rng(5).standard_normal((40, 5)) * 10.0 ** np.arange(5)
    expected = np.float64(0)
    for value in values.reshape(-1):
        expected = expected + value
    for chunksize in ("auto", 7):
        found = jobs_network.pmap(lambda x: x, values, reduce=lambda total, x: total + x, chunksize=chunksize)
        assert found == expected


def test_reduce_combines_in_the_order_of_arrival(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    began = tmp_path / "began"

    def wait_for_another(k: int) -> list[int]:
        end = time.monotonic() + LIMIT
        if k:
            began.touch()
        while not k and not began.exists() and time.monotonic() < end:
            time.sleep(0.01)
        if not k:
            time.sleep(0.2)
        return [k]

    options: dict[str, Any] = {"reduce": lambda total, result: total + result}
    assert jobs_network.pmap(wait_for_another, range(4), **options) == [0, 1, 2, 3]
    began.unlink()
    found = jobs_network.pmap(wait_for_another, range(4), ordered=False, **options)
    assert found[0] != 0 and sorted(found) == [0, 1, 2, 3]


@pytest.mark.parametrize("ordered", [True, False])
def test_reduce_keeps_no_results(jobs_network: ClientNetwork, ordered: bool) -> None:
    kept: dict[int, Any] = {}
    most = 0

    def add(total: Any, result: Any) -> Any:
        nonlocal most
        for value in (total, result):
            kept[id(value)] = weakref.ref(value)
        most = max(most, sum(reference() is not None for reference in kept.values()))
        return total + result

    total = jobs_network.pmap(lambda k: np.full(1000, k), range(200), reduce=add, ordered=ordered)
    assert (total == sum(range(200))).all()
    assert most <= 4


def test_reduce_of_tuples_failures_and_single_results(jobs_network: ClientNetwork) -> None:
    smallest, biggest = jobs_network.pmap(
        lambda x: (x, x), [4, 2, 9], reduce=lambda a, b: (min(a[0], b[0]), max(a[1], b[1]))
    )
    assert (smallest, biggest) == (2, 9)
    for ordered in (True, False):
        handled = jobs_network.pmap(
            lambda x: 12 // int(x), np.array([[1, 2], [0, 4]]), reduce=lambda a, b: a + b, ordered=ordered,
            error_handler=lambda failure, _: 1000 * failure.index[0] + 100 * failure.index[1],
        )  # fmt: skip
        assert handled == 12 + 6 + 1000 + 3
    assert jobs_network.pmap(abs, [-7], reduce=divmod) == 7


def fail_or_sleep(k: int) -> int:
    if k == 0:
        raise KeyError(k)
    time.sleep(60)
    return k


def test_when_the_caller_fails_the_other_jobs_are_cancelled(jobs_network: ClientNetwork) -> None:
    executor = jobs_network.executor()
    begin = time.monotonic()
    with pytest.raises(ZeroDivisionError) as told:
        pmap(
            executor, fail_or_sleep, [range(6)], uniform_output=True, chunksize="auto",
            error_handler=lambda *_: 1 / 0,
        )  # fmt: skip
    executor.shutdown()
    assert told.value is not None and time.monotonic() - begin < LIMIT


def test_wrong_options_are_refused(jobs_network: ClientNetwork) -> None:
    for options, said in (
        ({"ordered": False}, "ordered=False is only for reduce="),
        ({"reduce": 3}, "reduce=3 cannot be called"),
        ({"error_handler": 3}, "error_handler=3 cannot be called"),
        ({"max_workers": 0}, "max_workers=0 is not allowed"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            jobs_network.pmap(abs, [1], **options)
    for vectorized in (False, True):
        with pytest.raises(ConfigurationError, match="inputs are empty"):
            jobs_network.pmap(abs, [], reduce=max, vectorized=vectorized)


def test_a_vectorized_function_gets_chunks(jobs_network: ClientNetwork) -> None:
    def scaled(x: Any, y: Any, factor: Any) -> Any:
        assert x.shape == (len(y), 2) and factor.shape == (1,)
        return x.sum(axis=1) * factor + y

    x, y = np.arange(14.0).reshape(7, 2), np.arange(7.0)
    for chunksize in ("auto", 3, 100):
        found = jobs_network.pmap(scaled, x, y, [2], vectorized=True, chunksize=chunksize)
        assert found.tolist() == (x.sum(axis=1) * 2 + y).tolist()
    quotients, remainders = jobs_network.pmap(np.divmod, np.arange(6), [4], vectorized=True)
    assert quotients.tolist() == [0, 0, 0, 0, 1, 1] and remainders.tolist() == [0, 1, 2, 3, 0, 1]
    assert jobs_network.pmap(np.square, [], vectorized=True).shape == (0,)
    cells = jobs_network.pmap(
        lambda x: [[0] * k for k in x], [2, 1, 0], vectorized=True, uniform_output=False, chunksize=2
    )
    assert cells == [[0, 0], [0], []]


def test_a_vectorized_function_must_return_one_value_for_each_item(jobs_network: ClientNetwork) -> None:
    with pytest.raises(ConfigurationError, match="returned a single value"):
        jobs_network.pmap(np.sum, np.arange(6), vectorized=True)
    total = jobs_network.pmap(np.sum, np.arange(6), vectorized=True, chunksize=4, reduce=lambda a, b: a + b)
    assert total == 15


def test_a_chunk_fails_as_a_whole(jobs_network: ClientNetwork) -> None:
    def positive(x: Any) -> Any:
        if (x < 0).any():
            raise ValueError("below 0")
        return x

    data = np.array([1, 2, -3, 4, 5])
    failures: list[Any] = []

    def handle(failure: JobFailure, part: Any) -> Any:
        failures.append((failure.index, failure.identifier, part.tolist()))
        return part * 0

    found = jobs_network.pmap(positive, data, vectorized=True, chunksize=2, error_handler=handle)
    assert found.tolist() == [1, 2, 0, 0, 5] and failures == [(slice(2, 4), "ValueError", [-3, 4])]
    with pytest.raises(JobFailure, match=r"(?s)items 2 to 3: .*below 0"):
        jobs_network.pmap(positive, data, vectorized=True, chunksize=2)


def test_chunks_draw_the_same_numbers_with_a_seed(jobs_network: ClientNetwork) -> None:
    def draw(x: Any) -> Any:
        import pconnect

        return pconnect.rng().random(len(x))

    def drawn(net: Any, **options: Any) -> list[float]:
        return net.pmap(draw, np.arange(100), vectorized=True, seed=3, **options).tolist()  # type: ignore[no-any-return]

    assert drawn(jobs_network) == drawn(jobs_network[1], max_workers=1)
    expected = [
        np.random.default_rng(np.random.SeedSequence(3, spawn_key=(k,))).random(50).tolist() for k in (0, 1)
    ]
    assert drawn(jobs_network, chunksize=50) == expected[0] + expected[1]
