"""Round trips of every type, exact texts of refusals, and hostile heads."""

import collections
import datetime
import enum
import inspect
import io
import pathlib
import signal
import struct
import sys
import time
import tracemalloc
import types
import zoneinfo
from collections.abc import Callable
from typing import Any, cast

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pconnect.errors import UnsupportedValueError
from pconnect.values import encoder
from pconnect.values.decoder import decode, unpack
from pconnect.values.encoder import encode, pack
from tests.support.cases import for_each
from tests.support.examples import examples
from tests.support.transmission import transmit
from tests.support.values import RECORD, VALUES, Fit, assert_same, nested

# Round trips.


@for_each(VALUES)
def test_every_type_arrives_as_it_was(value: object) -> None:
    assert_same(value, transmit(value))


@for_each(VALUES)
def test_every_type_can_be_packed(value: object) -> None:
    assert_same(value, decode(pack(value), 0).finish())


def test_all_values_in_one() -> None:
    assert_same(VALUES, transmit(VALUES))


arrays = hnp.arrays(
    dtype=st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes(), hnp.nested_dtypes()),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    fill=st.nothing(),
)
hashable = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.binary(),
        st.complex_numbers(), st.dates(), st.datetimes(timezones=st.none() | st.timezones()), st.timedeltas(),
        st.times(), st.decimals(allow_nan=False), st.fractions(), st.uuids(), st.sampled_from(signal.Signals),
        st.builds(pathlib.Path, st.text(st.characters(exclude_characters="\0"))),
        st.builds(pathlib.PureWindowsPath, st.text()),
    ),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)  # fmt: skip
values = st.recursive(
    hashable | arrays | st.builds(bytearray, st.binary()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.builds(Fit, st.floats(), inner),
        st.builds(collections.Counter, st.dictionaries(hashable, st.integers(), max_size=4)),
        st.builds(collections.OrderedDict, st.dictionaries(hashable, inner, max_size=4)),
        st.builds(
            collections.defaultdict,
            st.sampled_from([None, int, list]),
            st.dictionaries(hashable, inner, max_size=4),
        ),
        st.builds(collections.deque, st.lists(inner, max_size=4), st.none() | st.integers(4, 9)),
        st.builds(
            lambda items: types.SimpleNamespace(**items), st.dictionaries(st.text(), inner, max_size=4)
        ),
        st.tuples(inner),
        st.dictionaries(hashable, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4),
        st.sets(hashable, max_size=4),
        st.builds(slice, inner, inner),
    ),
    max_leaves=8,
)
quick = settings(examples(30), suppress_health_check=list(HealthCheck))


@quick
@given(values)
def test_any_value_arrives_as_it_was(value: object) -> None:
    assert_same(value, transmit(value))


@quick
@given(arrays, st.integers(0, 3), st.sampled_from([0, 4096]))
def test_any_array_arrives_as_it_was(array: Any, turn: int, inline_bytes: int) -> None:
    changes = [array, np.asfortranarray(array), array.T, array[..., ::2] if array.ndim else array]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_INLINE_BYTES", inline_bytes)
        assert_same(changes[turn], transmit(changes[turn]))


# Copies and owners of memory.


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_contiguous_arrays_are_referenced(order: Any) -> None:
    array = np.zeros((100, 100), order=order)
    _, (buffer,) = encode([array])
    assert np.shares_memory(np.asarray(buffer), array)


def test_large_array_arrives_in_the_memory_that_was_filled() -> None:
    head, (buffer,) = encode(np.ones(1000))
    incoming = decode(head, buffer.nbytes)
    filled = np.asarray(incoming.buffers[0])
    incoming.buffers[0][:] = buffer
    received: Any = incoming.finish()
    assert np.shares_memory(received, filled) and received.flags.owndata
    assert incoming.buffers == []


def test_small_arrays_need_no_buffer_and_are_owned() -> None:
    head, buffers = encode(np.ones(10))
    received = unpack(head)
    assert buffers == [] and isinstance(received, np.ndarray) and received.flags.owndata


def test_read_only_array_arrives_writeable() -> None:
    array = np.ones(1000)
    array.flags.writeable = False
    transmit(array)[0] = 5


def test_large_bytearray_can_be_resized_by_its_new_owner() -> None:
    head, (source,) = encode(bytearray(10000))
    incoming = decode(head, source.nbytes)
    (kept,) = incoming.buffers
    kept[:] = source
    received: Any = incoming.finish()
    received.append(1)
    with pytest.raises(ValueError, match="released"):
        kept.tolist()


def test_masked_data_is_not_copied() -> None:
    array = np.ma.MaskedArray(np.zeros(10000), np.ones(10000, bool))
    _, (data, mask) = encode(array)
    assert np.shares_memory(np.asarray(data), array.data)
    assert np.shares_memory(np.asarray(mask), array.mask)


def test_pack_never_makes_buffers() -> None:
    data = pack({"a": np.ones(10000), "b": bytes(10000)})
    assert len(data) > 90000
    assert decode(memoryview(bytearray(data)), 0).buffers == []


def test_heads_of_scalars_are_tiny() -> None:
    assert [len(encode(value)[0]) for value in (1, None, 2.5, "abc")] == [2, 2, 10, 5]


def test_a_long_str_does_not_stay_in_memory() -> None:
    text = "x" * 10**7
    tracemalloc.start()
    try:
        encode(text)
        assert tracemalloc.get_traced_memory()[0] < 10**6
    finally:
        tracemalloc.stop()


# Values that are refused.


class Length(float):
    pass


class Items(dict[str, int]):
    pass


def local_enumeration() -> Any:
    class Color(enum.IntEnum):
        RED = 1

    return Color


class Unnameable:
    def __repr__(self) -> str:
        raise RuntimeError("no value is asked for its text")


class NoDictKey(Unnameable):
    pass


# A file of the oldest format: no transitions, one kind of time, called "UTC".
ZONE_FILE = b"TZif" + bytes(16) + struct.pack(">6L", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"
NAMELESS = datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo.from_file(io.BytesIO(ZONE_FILE)))
HERE = __name__
OTHER_DTYPE = "convert it to a dtype of fixed size or to a list first"
REFUSED: list[tuple[object, str]] = [
    (object(), "value: cannot send <class 'object'>"),
    ({"a": [1, (), 3, Unnameable()]}, f"value['a'][3]: cannot send <class '{HERE}.Unnameable'>"),
    ({1: {(1, 2): [b"", object]}}, "value[1][(1, 2)][1]: cannot send <class 'type'>"),
    ([{"x": 1, NoDictKey(): 2}], f"list(value[0])[1]: cannot send <class '{HERE}.NoDictKey'>"),
    ({(1, (print,)): 1}, "list(value)[0][1][0]: cannot send <class 'builtin_function_or_method'>"),
    ([frozenset([print])], "list(value[0])[0]: cannot send <class 'builtin_function_or_method'>"),
    (slice(1, object()), "value.stop: cannot send <class 'object'>"),
    (Items(), f"value: cannot send <class '{HERE}.Items'>; convert it to dict first"),
    ([Length(2)], f"value[0]: cannot send <class '{HERE}.Length'>; convert it to float first"),
    (
        [local_enumeration().RED],
        "value[0]: cannot send <enum 'Color'>, which is defined inside a function, where no receiver can find it: "
        "define it in a module, or send the member's name or value",
    ),
    (Fit(1, [print]), "value.residuals[0]: cannot send <class 'builtin_function_or_method'>"),
    (
        collections.Counter({"a": cast(Any, print)}),
        "dict(value)['a']: cannot send <class 'builtin_function_or_method'>",
    ),
    (types.SimpleNamespace(x=print), "vars(value)['x']: cannot send <class 'builtin_function_or_method'>"),
    (
        (collections.defaultdict(lambda: 0),),
        "value[0]: cannot send a defaultdict whose default_factory is not a builtin type: set default_factory = None "
        "or convert it to dict first",
    ),
    (
        np.zeros(1, RECORD).view(np.recarray),
        f"value: cannot send {np.recarray}; convert it to numpy.ndarray first",
    ),
    ((np.array([None]),), f"value[0]: cannot send the dtype object; {OTHER_DTYPE}"),
    (np.zeros(9999, [("a", "i4"), ("b", "O")]), f"value: cannot send the dtype object; {OTHER_DTYPE}"),
    (np.array(["a"], np.dtypes.StringDType()), f"value: cannot send the dtype StringDType128; {OTHER_DTYPE}"),
    (
        NAMELESS,
        "value.tzinfo: cannot send a ZoneInfo without a key, because the receiver could not find the zone",
    ),
    (memoryview(b""), "value: cannot send <class 'memoryview'>"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED)
def test_what_cannot_be_sent_is_named(value: object, text: str) -> None:
    for write in (encode, pack):
        with pytest.raises(UnsupportedValueError) as caught:
            write(value)
        assert str(caught.value) == text


def cycle() -> list[object]:
    value: list[object] = [1]
    value.append({"a": value})
    return value


def test_a_value_that_contains_itself_is_refused() -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        encode(cycle())
    way = "[1]['a']" * 6
    assert str(caught.value) == f"value{way}...: contains itself"


def test_a_value_that_contains_itself_many_times_is_refused_at_once() -> None:
    value: list[object] = [np.zeros(1000)]
    value.extend([value] * 1000)
    begin = time.perf_counter()
    with pytest.raises(UnsupportedValueError, match=r"^value(\[1\]){12}\.\.\.: contains itself$"):
        encode(value)
    assert time.perf_counter() - begin < 5  # it takes a millisecond


def test_a_value_that_contains_itself_far_below_meets_the_limit() -> None:
    value: list[object] = []
    value.extend([nested(700, lambda inner: [inner], value)] * 3)
    with pytest.raises(UnsupportedValueError, match=r"^value: nested deeper than 10000 levels$"):
        encode(value)


def test_what_is_refused_far_below_is_named_by_its_depth() -> None:
    value = [1, nested(450, lambda inner: {"a": (inner,)}, {1: object()})]
    with pytest.raises(UnsupportedValueError) as caught:
        encode(value)
    assert str(caught.value) == "a part of value below 800 levels: cannot send <class 'object'>"


def test_running_out_of_stack_is_an_error_like_others() -> None:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        else:
            encode(nested(199, lambda inner: [inner]))

    used = len(inspect.stack(0))
    with pytest.raises(UnsupportedValueError, match="nested too deeply for the remaining Python stack"):
        deeper(sys.getrecursionlimit() - used - 100)


@pytest.mark.parametrize("levels", [199, 200, 201, 400, 9999, 10000])
@pytest.mark.parametrize(
    "wrap", [lambda inner: (inner,), lambda inner: {"a": inner}, lambda inner: {1: inner}]
)
def test_any_depth_arrives(wrap: Callable[[Any], object], levels: int) -> None:
    received = transmit(nested(levels, wrap, b"x" * 5000))
    for _ in range(levels):
        (received,) = received.values() if isinstance(received, dict) else received
    assert received == b"x" * 5000


def test_beyond_the_depth_limit() -> None:
    with pytest.raises(UnsupportedValueError, match=r"^value: nested deeper than 10000 levels$"):
        encode(nested(10001, lambda inner: [inner]))


def test_buffers_of_branches_arrive_where_they_were() -> None:
    def wrap(inner: object) -> object:
        counter.append(np.full(600, len(counter), "f8"))
        return [counter[-1], inner, (inner if len(counter) % 150 == 0 else None), bytes(len(counter) + 4096)]

    counter: list[Any] = []
    value = nested(320, wrap)
    head, buffers = encode(value)
    again, buffers_again = encode(transmit(value))
    assert head == again
    assert [bytes(buffer) for buffer in buffers] == [bytes(buffer) for buffer in buffers_again]


def test_beyond_the_lengths_of_msgpack(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __init__(self, **_: object) -> None: ...

        def pack(self, _: object) -> bytes:
            raise ValueError("list is too large")

    monkeypatch.setattr(msgpack, "Packer", Full)
    with pytest.raises(
        UnsupportedValueError, match=r"exceeds msgpack's length limits, .*\(list is too large\)"
    ):
        encode((1,))
