"""`pmap`: the results have the shape of the input, and each failure names its item."""

from typing import Any

import numpy as np
import pytest

from pconnect import ConfigurationError
from pconnect.executors.pmap import JobFailure
from pconnect.views.network_views import ClientNetwork

LIMIT = 20.0


def test_an_array_gives_an_array_of_its_shape(jobs_network: ClientNetwork) -> None:
    array = np.arange(12.0).reshape(3, 4)
    found = jobs_network.pmap(lambda x: x * 2, array)
    assert found.shape == (3, 4) and (found == 2 * array).all()


def test_a_single_element_is_used_for_all(jobs_network: ClientNetwork) -> None:
    assert jobs_network.pmap(pow, [2, 3, 4], [2]).tolist() == [4, 9, 16]
    assert jobs_network.pmap(pow, np.array(2), [1, 2, 3]).tolist() == [2, 4, 8]


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
