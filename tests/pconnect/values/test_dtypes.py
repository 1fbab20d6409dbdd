"""Descriptions of dtypes, round trips, and invalid descriptions."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values import dtypes as arrays
from tests.support.examples import examples
from tests.support.values import EMPTY_FIELD, PADDED, RECORD, TITLED

LITTLE = "<" if np.dtype("<i2").isnative else ">"


@pytest.mark.parametrize(
    ("dtype", "description"),
    [
        (np.dtype("?"), "|b1"),
        (np.dtype("<f8"), "<f8"),
        (np.dtype(">f8"), ">f8"),
        (np.dtype("S5"), "|S5"),
        (np.dtype(">U3"), ">U3"),
        (np.dtype("V0"), "|V0"),
        (np.dtype("<M8"), "<M8"),
        (np.dtype(">m8[25us]"), ">m8[25us]"),
        (np.dtype("<M8[2147483647s]"), "<M8[2147483647s]"),
        (np.dtype("<c16"), "<c16"),
        (PADDED, [[["a", "|i1", 0], ["b", f"{LITTLE}f8", 8]], 16, 1]),
        (RECORD, [[["a", f"{LITTLE}i4", 0], ["b", f"{LITTLE}U2", 4]], 12, 2]),
        (TITLED, [[["a", f"{LITTLE}f4", 0, "the title"], ["b", "|b1", 4]], 5, 0]),
        (np.dtype(("<i2", (3, 1))), ["<i2", [3, 1]]),
        (np.dtype([]), [[], 0, 0]),
    ],
)
def test_descriptions_are_part_of_the_protocol(dtype: np.dtype[Any], description: object) -> None:
    assert arrays.describe_dtype(dtype) == description
    restored = arrays.restore_dtype(description)
    assert restored == dtype
    assert (restored.fields, restored.type, restored.isalignedstruct) == (
        dtype.fields,
        dtype.type,
        dtype.isalignedstruct,
    )


@examples(50)
@given(st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes(), hnp.nested_dtypes()))
def test_any_dtype_there_and_back(dtype: np.dtype[Any]) -> None:
    description = arrays.describe_dtype(dtype)
    assert arrays.restore_dtype(description) == dtype
    assert arrays.describe_dtype(arrays.restore_dtype(description)) == description


def test_what_numpy_cannot_make_again_is_refused_before_it_is_sent() -> None:
    dtype = np.dtype([(("title", "a"), "i4"), ("b", [("c", "i4")])])
    dtype.names = ("title", "b")
    with pytest.raises(UnsupportedValueError, match="cannot make it from its fields"):
        arrays.describe_dtype(dtype)
    with pytest.raises(UnsupportedValueError, match="cannot make it from its fields"):
        arrays.describe_dtype(np.dtype((dtype, (2,))))


def test_long_long_keeps_its_type() -> None:
    for character in "lqLQ":
        dtype = np.dtype(character)
        assert arrays.restore_dtype(arrays.describe_dtype(dtype)).type is dtype.type
        assert arrays.describe_dtype(dtype.newbyteorder()) != arrays.describe_dtype(dtype)


@pytest.mark.skipif(np.dtype("g").itemsize == 8, reason="long double is double here")
def test_long_double_of_another_format_is_refused() -> None:
    text = np.dtype("g").str
    assert arrays.restore_dtype(f"{text}:{np.finfo('g').nmant}") == np.dtype("g")
    for foreign in (text, f"{text}:112" if np.finfo("g").nmant != 112 else f"{text}:63"):
        with pytest.raises(ProtocolError, match="not a dtype on this machine"):
            arrays.restore_dtype(foreign)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (
            np.dtype("O"),
            "cannot send the dtype object; convert it to a dtype of fixed size or to a list first",
        ),
        (np.dtype([("a", [("b", "O")])]), "cannot send the dtype object"),
        (np.dtypes.StringDType(), "cannot send the dtype StringDType"),
        (np.dtype([((5, "a"), "i4")]), "cannot send a dtype with the title 5, which is not a str"),
    ],
)
def test_unsupported_dtypes(dtype: Any, text: str) -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        arrays.describe_dtype(dtype)
    assert str(caught.value).startswith(text)


FIELD = ["a", "<f8", 0]


@pytest.mark.parametrize(
    "description",
    [
        None,
        5,
        b"<f8",
        "",
        "f8",
        "O",
        "|O",
        "|O8",
        "<i3",
        "<i1",
        "=i4",
        "<f8,<f8",
        "(2,)<f8",
        "<M8[0s]",
        "<M8[-1s]",
        "<M8[2147483648s]",
        "<M8[4294967296s]",
        "<M8[9999999999s]",
        "<M8[x]",
        "<M8[1s]",
        "<U2147483647",
        "|S99999999999",
        "<f8:52",
        "<f9",
        "|V-1",
        "<S3",
        "int",
        "T",
        "|b1 ",
        [],
        ["<f8"],
        ["<f8", []],
        ["<f8", [-1]],
        ["<f8", [2**40]],
        ["<f8", [2**31 - 1] * 3],
        ["<f8", [1.0]],
        ["<f8", ["1"]],
        ["|V0", [3]],
        ["<f8", [1] * 100],
        ["O", [1]],
        [[FIELD], 4, 0],
        [[FIELD], 8],
        [[FIELD, FIELD], 8, 0],
        [[["a", "<f8", -8]], 8, 0],
        [[["a", "<f8", 8]], 8, 0],
        [[[b"a", "<f8", 0]], 8, 0],
        [[["a", "<f8", 0.0]], 8, 0],
        [[["a", "<f8", 0, 5]], 8, 0],
        [[["a", "<f8"]], 8, 0],
        [[5], 8, 0],
        [[["a", "O", 0]], 8, 0],
        [[["a", "<f8", 3]], 16, 1],
        [[FIELD], 2**80, 0],
        [[FIELD], -1, 0],
        [[["a", "<f8", 2**80]], 8, 0],
        [[["a", "<f8", 0, "a"]], 8, 0],
    ],
)
def test_what_describes_no_dtype(description: object) -> None:
    with pytest.raises(ProtocolError):
        arrays.restore_dtype(description)


def test_nesting_without_end() -> None:
    description: object = "<f8"
    for _ in range(5000):
        description = [[["a", description, 0]], 8, 0]
    with pytest.raises(ProtocolError):
        arrays.restore_dtype(description)


@pytest.mark.parametrize("shape", [None, "3", (3,), [-1], [1.0], [True + 0.5], ["3"], 3])
def test_invalid_shapes(shape: object) -> None:
    with pytest.raises(ProtocolError, match="not the shape of an array"):
        arrays.byte_count(np.dtype("f8"), shape)


def test_byte_count_does_not_overflow() -> None:
    assert arrays.byte_count(np.dtype("f8"), [2**62, 2**62]) == 2**127
    assert arrays.byte_count(np.dtype("f8"), []) == 8


def test_no_array_has_the_dtype_of_a_subarray() -> None:
    with pytest.raises(ProtocolError, match="not the dtype of an array"):
        arrays.byte_count(np.dtype(("f8", (2,))), [3])


def test_items_of_no_size_keep_their_dtype() -> None:
    for text in ("S0", "U0", "V0"):
        array = arrays.allocate(np.dtype(text), [3, 2], arrays.C_ORDER)
        assert (array.dtype, array.shape, array.nbytes) == (np.dtype(text), (3, 2), 0)


def test_flat_bytes_follow_the_memory() -> None:
    grid = np.asfortranarray(np.arange(6, dtype="u1").reshape(2, 3))
    assert arrays.flat_bytes(grid).tolist() == [0, 3, 1, 4, 2, 5]
    assert arrays.flat_bytes(np.zeros((0, 3))).nbytes == 0
    assert arrays.flat_bytes(np.zeros(3, EMPTY_FIELD)["none"]).nbytes == 0


def test_only_what_is_not_contiguous_is_copied() -> None:
    grid = np.zeros((4, 6))
    for array, order, same in (
        (grid, 0, True),
        (grid.T, 1, True),
        (grid[::2], 0, False),
        (grid[:0], 0, True),
    ):
        found, kept = arrays.contiguous(array)
        assert (found, kept is array) == (order, same)
        assert kept.flags.c_contiguous or kept.flags.f_contiguous


def test_no_memory_is_a_protocol_error() -> None:
    for shape in ([2**57], [2**62, 2**62], [1] * 65):
        with pytest.raises(ProtocolError, match="cannot allocate the array"):
            arrays.allocate(np.dtype("f8"), shape, arrays.C_ORDER)
    with pytest.raises(ProtocolError, match="cannot allocate the array"):
        arrays.filled(np.dtype("f8"), [1] * 65, arrays.C_ORDER, bytes(8))


@pytest.mark.parametrize("dtype", ["f8", ">f8", "i2", "U3", "M8[s]", "g", [("a", ">i4"), ("b", "f8")], "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arrays_are_joined_as_numpy_does(dtype: Any, order: Any, axis: int) -> None:
    for rows in (2, 400):  # small, and large enough for reused memory
        parts = [np.zeros((rows, rows * 3), dtype, order) for _ in range(5)]
        whole, expected = arrays.joined(parts, axis), np.concatenate(parts, axis)
        assert (whole.dtype, whole.shape) == (expected.dtype, expected.shape)
        assert whole.flags.f_contiguous == expected.flags.f_contiguous
        assert np.array_equal(whole, expected)


def test_joined_parts_are_in_their_places() -> None:
    parts = [np.full((k + 1, 200_000), k) for k in range(4)]
    assert np.array_equal(arrays.joined(parts, 0), np.concatenate(parts, 0))
    masked = [np.ma.MaskedArray([1, 2], [False, True]), np.ma.MaskedArray([3], [False])]
    assert arrays.joined(masked, 0).mask.tolist() == [False, True, False]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("shapes", "axis"),
    [([(300_000,), (2, 300_000)], 0), ([(3, 200_000), (3, 200_001)], 0), ([()], 0), ([(2,)], 1)],
)
def test_what_cannot_be_joined(shapes: list[tuple[int, ...]], axis: int) -> None:
    with pytest.raises(ValueError):
        arrays.joined([np.zeros(shape) for shape in shapes], axis)


def test_the_memory_of_joined_arrays_is_used_again() -> None:
    parts = [np.ones(2**18)] * 2
    first = arrays.joined(parts, 0)
    address = first.ctypes.data
    del first
    assert arrays.joined(parts, 0).ctypes.data == address
