"""The bytes between the fields of an item are sent as zeros, and arrive as zeros."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.recfunctions import repack_fields

from pconnect.commands.function_pickling import pack_function, pickle_value, unpack_function, unpack_value
from pconnect.errors import UnsupportedValueError
from pconnect.jobs.shared_arrays import Contents
from pconnect.values import encoder
from pconnect.values.decoder import decode
from pconnect.values.dtypes import joined
from pconnect.values.encoder import encode, pack
from pconnect.values.padding import clear_padding, without_padding
from tests.support.examples import examples
from tests.support.values import OVERLAPPING, PADDED

POISON = 0xAB
DATA = 7

UNION = np.dtype({"names": ["x", "y"], "formats": ["<u4", "<u2"], "offsets": [1, 3], "itemsize": 12})
NESTED = np.dtype([("a", "u1"), ("b", PADDED, (3,)), ("c", [("d", "i2"), ("e", "f8")])], align=True)
TITLED = np.dtype({"names": ["a"], "formats": ["i2"], "offsets": [2], "titles": ["the title"], "itemsize": 9})
SOME_FIELDS = np.dtype([("a", "i4"), ("secret", "S9"), ("b", "f4")])[["a", "b"]]
RECORD = np.dtype((np.record, PADDED))
LARGE_ITEM = np.dtype([("a", "i1", (5000,)), ("b", PADDED, (400,))], align=True)
DTYPES = [PADDED, UNION, OVERLAPPING, NESTED, TITLED, SOME_FIELDS, RECORD, LARGE_ITEM]
X87 = np.dtype("g").itemsize == 16 and np.finfo("g").nmant == 63


def poison_heap() -> None:
    """Fill free memory with a pattern that reveals any copy of it."""
    sizes = [*range(8, 520, 8), *(2**n * 3 for n in range(8, 17)), *(2**n for n in range(9, 18)), 2**21]
    kept = [np.full(size, POISON, np.uint8) for size in sizes for _ in range(4)]
    kept.clear()


def filled_array(dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an array whose bytes are all equal, including the padding."""
    count = int(np.prod(shape)) * dtype.itemsize
    return np.full(count, DATA, np.uint8).view(dtype).reshape(shape)


def leaves(dtype: np.dtype[Any], offset: int = 0) -> Iterator[tuple[int, int]]:
    """Return the offset and the size of each plain field of an item, as a simple definition of the rule."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        for index in range(int(np.prod(shape))):
            yield from leaves(base, offset + index * base.itemsize)
    elif dtype.names is not None and dtype.fields is not None:
        for name in dtype.names:
            yield from leaves(dtype.fields[name][0], offset + dtype.fields[name][1])
    elif dtype.char in "gG" and X87:
        for part in range(0, dtype.itemsize, 16):
            yield offset + part + (0 if dtype.isnative else 6), 10
    else:
        yield offset, dtype.itemsize


def expected_bytes(array: npt.NDArray[Any]) -> bytes:
    """Return the memory of an array in C order, with zeros outside the fields."""
    items = array.view(np.dtype((np.void, array.itemsize))).copy("C").reshape(-1).view(np.uint8)
    rows = items.reshape(-1, array.itemsize)
    wanted = np.zeros_like(rows)
    for offset, size in leaves(array.dtype):
        wanted[:, offset : offset + size] = rows[:, offset : offset + size]
    return wanted.tobytes()


def raw(array: npt.NDArray[Any]) -> bytes:
    """Return the memory of an array, in C order, byte by byte."""
    return array.view(np.dtype((np.void, array.itemsize))).tobytes()


def transmit(value: Any) -> Any:
    poison_heap()
    head, buffers = encode(value)
    incoming = decode(head, sum(buffer.nbytes for buffer in buffers))
    for source, target in zip(buffers, incoming.buffers, strict=True):
        target[:] = source
    poison_heap()
    return incoming.finish()


def views(array: npt.NDArray[Any]) -> list[tuple[str, npt.NDArray[Any]]]:
    """Return a two-dimensional array in all possible memory layouts."""
    return [
        ("C", array),
        ("every second", array[::2]),
        ("backwards", array[::-1, ::-1]),
        ("Fortran", np.asfortranarray(array.view(f"V{array.itemsize}")).view(array.dtype)),
        ("transposed, every second", array.T[:, ::2]),
        ("broadcast", np.broadcast_to(array[:1], (4, *array.shape[1:]))),
        ("0-d", array[0, :1].reshape(())),
        ("empty", array[:0]),
        ("copied by numpy", array[::2].copy()),
    ]


@pytest.mark.parametrize("inline_bytes", [0, 2**30])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_arrives_as_zeros(dtype: np.dtype[Any], inline_bytes: int) -> None:
    for shape in ((3, 2), (40, 5)):
        for name, array in views(filled_array(dtype, shape)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(encoder, "_INLINE_BYTES", inline_bytes)
                received = transmit(array)
            assert received.dtype == array.dtype and received.shape == array.shape
            assert raw(received) == expected_bytes(array), name
            packed = decode(pack(array), 0).finish()
            assert isinstance(packed, np.ndarray) and raw(packed) == expected_bytes(array), name


@examples(100)
@given(st.data())
def test_any_array_arrives_as_its_fields_and_zeros(data: st.DataObject) -> None:
    dtype = data.draw(
        hnp.nested_dtypes(hnp.scalar_dtypes() | st.just(PADDED) | st.just(UNION), max_itemsize=400)
    )
    aligned: Any = {"align": True} if dtype.names is not None and data.draw(st.booleans()) else {}
    dtype = np.dtype(dtype, **aligned)
    if dtype.itemsize == 0 or dtype.subdtype is not None:
        return
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    for name, array in views(filled_array(dtype, shape)):
        if array.nbytes:
            assert raw(transmit(array)) == expected_bytes(array), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scalars_masked_arrays_and_records(dtype: np.dtype[Any]) -> None:
    array = filled_array(dtype, (6,))
    wanted = expected_bytes(array[:1])
    scalar = transmit(array[1])
    assert type(scalar) is type(array[1]) and scalar.tobytes() == wanted
    masked = np.ma.MaskedArray(array[::2], fill_value=array[0])
    received = transmit(masked)
    assert raw(np.asarray(received.data)) == wanted * 3
    assert raw(received._fill_value) == wanted


@pytest.mark.skipif(not X87, reason="long doubles have no padding here")
@pytest.mark.parametrize("text", ["<g", ">g", "<G", ">G"])
def test_long_doubles_have_padding(text: str) -> None:
    for count in (3, 1000):
        array = filled_array(np.dtype(text[0] + np.dtype(text[1]).str[1:]), (count,))
        received = transmit(array)
        assert raw(received) == expected_bytes(array) and raw(received).count(0) == count * 6 * (
            1 + (text[1] == "G")
        )
    poison_heap()
    assert transmit(np.ones(3).astype("g")).tobytes() == (np.ones(1, "g").tobytes()[:10] + bytes(6)) * 3
    assert transmit(np.longdouble(1)).tobytes()[10:] == bytes(6)


def test_fields_that_were_left_out_do_not_leave() -> None:
    people = np.zeros(500, [("name", "S8"), ("password", "S16"), ("age", "i4")])
    people["password"] = b"secret"
    people["name"] = b"alice"
    for count in (5, 500):
        head, buffers = encode(people[:count][["name", "age"]])
        everything = head + b"".join(buffers)
        assert b"alice" in everything and b"secret" not in everything


def test_pointers_to_objects_that_were_left_out_do_not_leave() -> None:
    cells = np.zeros(500, [("number", "i8"), ("cell", "O")])
    for count in (5, 500):
        with pytest.raises(
            UnsupportedValueError, match=r"^value: cannot send fields of an array .*repack_fields"
        ):
            encode(cells[:count][["number"]])
        transmit(repack_fields(cells[:count][["number"]]))


def test_what_has_no_padding_is_not_copied() -> None:
    for array in (
        np.zeros(5),
        np.zeros(5, [("a", "i4"), ("b", "f8")]),
        np.zeros(5, "V7"),
        filled_array(PADDED, (0,)),
    ):
        assert without_padding(array) is array


def test_the_order_in_memory_stays() -> None:
    array = np.zeros((4, 5), PADDED, order="F")
    assert without_padding(array).flags.f_contiguous
    assert without_padding(array.T).flags.c_contiguous


def test_padding_is_cleared_in_place() -> None:
    array = filled_array(NESTED, (3, 4))
    wanted = expected_bytes(array)
    clear_padding(array)
    assert raw(array) == wanted
    numbers = np.arange(5)
    clear_padding(numbers)
    assert numbers.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rows", [3, 60_000])  # small, and large enough for reused memory
def test_padding_of_joined_arrays_is_zero(rows: int) -> None:
    parts = [filled_array(PADDED, (rows, 2)) for _ in range(3)]
    poison_heap()
    assert raw(joined(parts, 0)) == expected_bytes(np.concatenate(parts))
    masked = [np.ma.MaskedArray(part) for part in parts]
    poison_heap()
    whole: Any = joined(masked, 0)
    assert raw(np.asarray(whole.data)) == expected_bytes(np.concatenate(parts))


def unpickled(value: object) -> Any:
    poison_heap()
    return unpack_value([True, pickle_value(value)], allow_pickle=True)


def test_pickles_have_no_padding() -> None:
    array = filled_array(PADDED, (50,))
    for value in (array, array[::2], array[::-1]):
        assert raw(unpickled(value)) == expected_bytes(value)
    assert unpickled([array[3], "x"])[0].tobytes() == expected_bytes(array[:1])

    def function() -> object:
        return array[1:2]

    poison_heap()
    parts, _, memory = pack_function(function)
    assert b"".join(map(bytes, memory)) == expected_bytes(array)
    received: Any = unpack_function(b"".join(parts), {}, [bytes(part) for part in memory])()
    assert raw(received) == expected_bytes(array[:1])


def test_equal_contents_have_one_number_whatever_is_between_the_fields() -> None:
    contents = Contents()
    array = filled_array(PADDED, (50,))
    other = array.copy()
    clear_padding(other)
    assert contents.number(array) == contents.number(other) == contents.number(other[::-1])


class _Subclass(np.ndarray):
    """A user's array class."""


@pytest.mark.parametrize("make", [np.ma.array, lambda a: a.view(np.recarray), lambda a: a.view(_Subclass)])
def test_a_pickled_array_of_another_class_keeps_it_and_brings_no_padding(make: Any) -> None:
    memory = np.full(6 * 16, 7, np.uint8)
    array = memory.view(np.dtype("i1,i8", align=True))
    array["f0"], array["f1"] = 1, 2
    for padded in (make(array), make(array)[::-2]):
        data = pickle_value(padded)
        assert b"\7\7\7" not in data
        again = unpickled(padded)
        assert type(again) is type(padded)
        assert np.array_equal(np.asarray(again), np.asarray(padded))
    assert np.count_nonzero(memory == 7) == 6 * 7  # the user's array is unchanged
