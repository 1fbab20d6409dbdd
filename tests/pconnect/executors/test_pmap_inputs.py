"""The inputs and results of `pmap`: elements, chunks along axis 0, and what does not match."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pconnect import ConfigurationError, program, serial
from pconnect.executors.pmap_inputs import Chunks, Elements


def chunks_of(*inputs: Any, chunksize: int | str = "auto", **options: Any) -> list[list[Any]]:
    with serial() as net, net.executor(**options) as executor:
        work = Chunks(executor, "f", inputs, chunksize)
        return [[part.tolist() for part in work.elements(k)] for k in range(work.job_count)]


def test_chunks_are_along_axis_0() -> None:
    assert chunks_of([1, 2, 3, 4, 5], chunksize=2) == [[[1, 2]], [[3, 4]], [[5]]]
    assert chunks_of(np.eye(3), [7, 8, 9], chunksize=2) == [
        [[[1, 0, 0], [0, 1, 0]], [7, 8]],
        [[[0, 0, 1]], [9]],
    ]


def test_a_single_element_goes_to_each_call_as_it_is() -> None:
    assert chunks_of([1, 2, 3], np.array(5), [[6]], chunksize=2) == [[[1, 2], 5, [[6]]], [[3], 5, [[6]]]]
    assert chunks_of(5, [6]) == [[[5], [6]]]


def test_auto_makes_four_chunks_for_a_slot_and_64_with_a_seed() -> None:
    assert [len(part) for (part,) in chunks_of(range(21))] == [6, 6, 6, 3]
    assert [len(part) for (part,) in chunks_of(range(640), seed=1)] == [10] * 64
    assert [len(part) for (part,) in chunks_of(range(3))] == [1, 1, 1]


def test_inputs_of_different_lengths_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"different lengths \[2, 3\] along axis 0"):
        chunks_of([1, 2], [[9]], [1, 2, 3])
    with pytest.raises(ConfigurationError, match="chunksize=0"):
        chunks_of([1, 2], chunksize=0)


def joined(*results: Any, uniform: bool = True) -> Any:
    """Join the results of two chunks of two items, and one of one item."""
    with serial() as net, net.executor() as executor:
        return Chunks(executor, "f", [range(5)], 2).joined(list(results), uniform=uniform)


def test_results_of_chunks_are_joined_along_axis_0() -> None:
    assert joined([1, 2], np.array([3.5, 4]), [5]).tolist() == [1, 2, 3.5, 4, 5]
    assert joined(np.zeros((2, 4)), np.ones((2, 4)), np.zeros((1, 4))).sum(axis=1).tolist() == [0, 0, 4, 4, 0]
    first, second = joined(([1, 2], list("ab")), ([3, 4], ["c", "d"]), ([5], ["e"]), uniform=False)
    assert (first, second) == ([1, 2, 3, 4, 5], list("abcde"))


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (
            ([1, 2], [3, 4, 0], [5]),
            r"returned 3 values for items 2 to 3: it must return 2, one for each item",
        ),
        (([1, 2], [3, 4], 5.0), r"returned a single value \(float\) for item 4: it must return 1"),
        ((np.zeros((2, 3)), np.zeros((2, 4)), np.zeros((1, 3))), "results of the chunks do not match"),
        (([1, 2], [None, 4], [5]), "not arrays of one type"),
        (([1, 2], ["a", "b"], [5]), "not arrays of one type"),
        ((["a", "b"], ["c", 4], ["e"]), "not arrays of one type"),
        (("ab", "cd", "e"), r"returned a single value \(str\) for items 0 to 1"),
        (({1: 2, 3: 4}, [3, 4], [5]), r"returned a single value \(dict\)"),
        ((([1, 2], [1, 2]), ([3, 4],), ([5],)), "tuples of different lengths"),
    ],
)
def test_results_of_chunks_that_do_not_fit(results: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        joined(*results)


def test_masks_remain() -> None:
    assert joined(np.ma.masked_equal([1, 2], 2), [3, 4], [5]).tolist() == [1, None, 3, 4, 5]
    with serial() as net:
        data = np.ma.masked_equal([1.0, 2.0, 3.0], 2.0)
        assert net.pmap(lambda x: x + 1, data, vectorized=True).tolist() == [2.0, None, 4.0]


@pytest.mark.parametrize("results", [[1, "a"], ["a", b"a"], [b"\1\0", b"\1\2"], ["a\0", "b"]])
def test_text_is_not_made_from_other_values_and_keeps_its_end(results: list[Any]) -> None:
    """As an array, b"\\1\\0" would be b"\\1"."""
    work = Elements("f", [range(2)], "auto")
    with pytest.raises(ConfigurationError, match="not all single values of one type; uniform_output=False"):
        work.joined(results, uniform=True)
    assert work.joined(results, uniform=False) == results
    assert work.joined(["ab", "c"], uniform=True).tolist() == ["ab", "c"]


def test_an_input_is_any_collection_with_a_length() -> None:
    for items in ({"a": 1, "b": 2}, dict.fromkeys("ab").keys(), ["a", "b"], "ab", np.array(["a", "b"])):
        work = Elements("f", [items, 5], "auto")
        assert [work.elements(k) for k in range(work.job_count)] == [["a", 5], ["b", 5]]
    series = pd.Series([1.5, 2.5], index=[1, 0])
    assert Elements("f", [series, {7}], "auto").elements(0) == [1.5, 7]
    assert Elements("f", [np.eye(1, 2).view(np.matrix)], "auto").elements(1) == [0]
    assert chunks_of({3, 4}, [1, 2], chunksize=2) == [[[3, 4], [1, 2]]]


def test_a_number_and_an_array_without_axes_are_single_elements() -> None:
    assert Elements("f", [5], "auto").joined([6], uniform=True).shape == (1,)
    for uniform in (True, False):
        assert Elements("f", [np.array(5)], "auto").joined([6], uniform=uniform).shape == ()


def test_inputs_without_a_length_are_refused() -> None:
    for make in (lambda items: Elements("f", items, "auto"), lambda items: chunks_of(*items)):
        for wrong in (iter([1]), None, map(abs, [1])):
            with pytest.raises(ConfigurationError, match=r"input 2 is of type \w+, which has no length"):
                make([[1, 2], wrong])
    with pytest.raises(ConfigurationError, match="not possible for input 1: setting an array element"):
        chunks_of([[1, 2], [3]])


def test_elements_have_the_index_of_the_whole_input() -> None:
    array = Elements("f", [np.arange(6).reshape(2, 3), [10]], "auto")
    assert (array.index(4), array.elements(4), array.job_count) == ((1, 1), [4, 10], 6)
    row = Elements("f", [[1, 2, 3]], 2)
    assert (row.index(1), row.job_count, row.has_lists) == (1, 2, True)


def test_each_run_of_a_program_is_a_job() -> None:
    work = Elements(program(["true", "{}"]), [range(6)], 4)
    assert (work.job_count, work.has_lists) == (6, False)
