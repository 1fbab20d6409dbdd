"""Reductions equal a numpy loop to the last bit, for every dtype, shape and algorithm."""

import functools
import operator
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pconnect import CollectiveError, ConfigurationError, UnsupportedValueError, allreduce, reduce
from pconnect.loop.network import Network
from pconnect.messaging import exchange, reduce_algorithm, tree
from pconnect.messaging.reduce_algorithm import copied, describe, find_operator, fold
from tests.support.cases import for_each
from tests.support.links import LIMIT, networks
from tests.support.members import assert_identical, begin_anew, parts_of, succeed, together
from tests.support.values import VALUES, assert_same

NUMBERS = "?bBhHiIlLqQefdgFDG"
all_ways = pytest.mark.usefixtures("way")
UFUNCS = {"sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum}


@pytest.fixture(scope="module")
def eight() -> Iterator[list[Network]]:
    with networks(8) as made:
        yield made


@pytest.fixture(params=["whole", "sliced", "tree"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(reduce_algorithm, "SMALLEST_SLICE_BYTES", 16)
    if request.param == "tree":  # with more than one step to the root, even in a small network
        monkeypatch.setattr(tree, "DEGREE", 1)
        monkeypatch.setattr(exchange, "ALL_TO_ALL_MEMBERS", 1)
    monkeypatch.setattr(reduce_algorithm, "SLICED_BYTES", 0 if request.param == "sliced" else 2**60)
    return str(request.param)


def values_of(n: int, dtype: str, shape: tuple[int, ...]) -> list[npt.NDArray[Any]]:
    random = np.random.default_rng(n)
    made = []
    for _ in range(n):
        bits = random.integers(-100, 100, shape)
        array = bits.astype(dtype)
        if array.dtype.kind in "fc":
            array = array / np.asarray(7, dtype)
        made.append(np.asarray(array, dtype))  # for a 0-d array, the division returned a scalar
    return made


def check(nets: list[Network], values: list[Any], op: str) -> None:
    expected = functools.reduce(UFUNCS[op], values)

    def work(net: Network) -> tuple[Any, Any]:
        value = values[net.node]
        last = reduce(value, net, op=op, root=-1, timeout=LIMIT)
        return allreduce(value, net, op=op, timeout=LIMIT), last

    outcomes = succeed(nets, work)
    for total, _ in outcomes:
        assert_identical(total, expected)
    assert [last is None for _, last in outcomes] == [True] * (len(nets) - 1) + [False]
    assert_identical(outcomes[-1][1], expected)


@pytest.mark.parametrize("dtype", [*NUMBERS, ">f8", ">i2"])
@pytest.mark.parametrize("op", list(UFUNCS))
@all_ways
def test_all_numbers(eight: list[Network], dtype: str, op: str) -> None:
    check(parts_of(eight, 3), values_of(3, dtype, (5, 7)), op)


@pytest.mark.parametrize("dtype", ["M8[D]", "m8[us]"])
@pytest.mark.parametrize("op", ["min", "max"])
@all_ways
def test_dates(eight: list[Network], dtype: str, op: str) -> None:
    values = values_of(3, dtype, (40,))
    values[1][7] = "NaT"
    check(parts_of(eight, 3), values, op)


@pytest.mark.parametrize("n", range(2, 9))
@all_ways
def test_any_number_of_members_and_sizes_that_do_not_divide(eight: list[Network], n: int) -> None:
    for shape in ((1,), (n - 1,), (101,), (3, 0, 2), (4, 5)):
        check(parts_of(eight, n), values_of(n, "f4", shape), "sum")


@pytest.mark.parametrize("op", list(UFUNCS))
@all_ways
def test_arrays_without_axes_stay_arrays(eight: list[Network], op: str) -> None:
    values = values_of(3, "f8", ())
    totals = succeed(parts_of(eight, 3), lambda net: allreduce(values[net.node], net, op=op, timeout=LIMIT))
    for total in totals:
        assert_identical(total, np.asarray(functools.reduce(UFUNCS[op], values)))


@all_ways
def test_any_order_of_memory(eight: list[Network]) -> None:
    plain = values_of(3, "f8", (6, 8))
    check(
        parts_of(eight, 3), [np.asfortranarray(plain[0]), plain[1], np.repeat(plain[2], 2, 1)[:, ::2]], "sum"
    )


@all_ways
def test_wrap_around_and_logic_are_numpys(eight: list[Network]) -> None:
    check(parts_of(eight, 3), [np.full(4, 100, "i1")] * 3, "sum")
    check(parts_of(eight, 3), [np.array([True, False, True])] * 3, "sum")


def test_large_arrays_take_the_way_of_slices_by_themselves(eight: list[Network]) -> None:
    check(parts_of(eight, 4), values_of(4, "f8", (reduce_algorithm.SLICED_BYTES // 8 + 1,)), "sum")


@all_ways
def test_a_single_member(eight: list[Network]) -> None:
    own = eight[2][[2]]
    value = np.arange(5)
    result = allreduce(value, own)
    assert result is not value
    assert_identical(result, value)
    assert reduce([1], own) == [1]


@all_ways
def test_values_that_are_no_arrays_are_combined_as_python_does(eight: list[Network]) -> None:
    def work(net: Network) -> list[Any]:
        k = net.node + 1
        return [
            allreduce([k], net, timeout=LIMIT),
            allreduce((k,), net, timeout=LIMIT),
            allreduce("ab"[:k], net, op="max", timeout=LIMIT),
            allreduce(10**30 * k, net, op="prod", timeout=LIMIT),
            allreduce(k if k == 2 else k / 2, net, op="min", timeout=LIMIT),
            allreduce(np.int8(100), net, op="max", timeout=LIMIT),
        ]

    for outcome in succeed(parts_of(eight, 3), work):
        assert_same(outcome, [[1, 2, 3], (1, 2, 3), "ab", 6 * 10**90, 0.5, np.int8(100)])


def test_nan_counts_for_numpys_numbers_as_in_numpy(eight: list[Network]) -> None:
    for total in succeed(
        parts_of(eight, 2), lambda net: allreduce(np.float64([1, np.nan][net.node]), net, op="min")
    ):
        assert np.isnan(total)


@all_ways
def test_the_order_is_that_of_the_members(eight: list[Network]) -> None:
    def work(net: Network) -> tuple[Any, Any, Any]:
        back = net[::-1]
        return (
            allreduce(f"{net.node}", back, timeout=LIMIT),
            allreduce(np.full(9, 2.0 + net.node), net, op=np.subtract, timeout=LIMIT),
            allreduce(np.full(9, 2.0 + net.node), back, op=lambda a, b: a - b, timeout=LIMIT),
        )

    for text, forth, back in succeed(parts_of(eight, 3), work):
        assert text == "210"
        assert (forth == 2.0 - 3.0 - 4.0).all()
        assert (back == 4.0 - 3.0 - 2.0).all()


@all_ways
def test_a_function_gets_whole_arrays(eight: list[Network]) -> None:
    matrices = values_of(3, "f8", (4, 4))
    for total in succeed(
        parts_of(eight, 3), lambda net: allreduce(matrices[net.node], net, op=operator.matmul, timeout=LIMIT)
    ):
        assert_identical(total, matrices[0] @ matrices[1] @ matrices[2])


@all_ways
def test_values_are_not_changed_and_results_are_new(eight: list[Network]) -> None:
    def add_in_place(a: Any, b: Any) -> Any:
        a += b
        return a

    def work(net: Network) -> list[bool]:
        value = np.full(50, float(net.node))
        new = []
        ops: list[Any] = [*UFUNCS, add_in_place, lambda a, b: a if net.node == 0 else b, np.hypot]
        for op in ops:
            total = allreduce(value, net, op=op, timeout=LIMIT)
            new.append(not np.shares_memory(total, value))
            total[:] = 99
        listed = [net.node]
        new.append(allreduce(listed, net, op="min", timeout=LIMIT) is not listed)
        return [*new, bool((value == net.node).all())]

    for outcome in succeed(parts_of(eight, 3), work):
        assert all(outcome)


def test_operators_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "np_here", np, raising=False)
    assert find_operator("np_here.hypot").ufunc is np.hypot
    assert find_operator("np_here.linalg.norm").ufunc is None
    assert find_operator("divmod").function(7, 2) == (3, 1)
    assert find_operator(np.hypot).label == "ufunc hypot"
    assert find_operator(np.matmul).ufunc is None  # it does not work element by element
    assert find_operator(np.frompyfunc(max, 2, 1)).ufunc is None
    for wrong, match in (
        ("np_here.hipot", "no such name in __main__"),
        ("mim", "no such name"),
        (5, "op=5 is neither a function"),
        ("np_here.pi", "neither"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            find_operator(wrong)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (
            [np.zeros(3), np.zeros(4), np.zeros(3)],
            ("float64 array of shape (3,)", "float64 array of shape (4,)"),
        ),
        ([np.zeros(3), np.zeros(3), np.zeros(3, "f4")], ("float64 array", "float32 array")),
        ([np.zeros(3), 1.0, 1.0], ("float64 array of shape (3,)", "no array")),
    ],
)
@pytest.mark.parametrize("call", [reduce, allreduce])
@all_ways
def test_arrays_that_do_not_fit_are_named_at_all_members(
    eight: list[Network], call: Any, values: list[Any], texts: tuple[str, str]
) -> None:
    nets = parts_of(eight, 3)
    for error in together(nets, lambda net: call(values[net.node], net, timeout=LIMIT)):
        assert isinstance(error, CollectiveError)
        assert all(text in str(error) for text in texts)
        assert str(error).count(" called ") == 2
        assert "node 0 (host0)" in str(error) or "node 1 (host1)" in str(error)
    begin_anew(eight)


@all_ways
def test_the_dtype_is_what_the_operator_gives(eight: list[Network]) -> None:
    def work(net: Network) -> Any:
        return allreduce(np.arange(6) + net.node, net, op=np.less, timeout=LIMIT)

    for total in succeed(parts_of(eight, 3), work):
        assert_identical(total, np.less(np.less(np.arange(6), np.arange(6) + 1), np.arange(6) + 2))


@for_each(VALUES)
def test_a_copy_is_what_would_arrive(value: Any) -> None:
    assert_same(value, copied(value))


def test_what_cannot_be_sent_cannot_be_copied() -> None:
    with pytest.raises(UnsupportedValueError):
        copied([object()])


def test_masks_are_kept() -> None:
    values = [np.ma.MaskedArray([1.0, 2.0], [False, True]), np.ma.MaskedArray([3.0, 4.0], [False, False])] * 2
    total = fold(find_operator("sum"), values, values[0])
    assert total.mask.tolist() == [False, True]
    assert total[0] == 8
    assert describe(total) == "masked float64 array of shape (2,)"  # it takes another path than a plain array
