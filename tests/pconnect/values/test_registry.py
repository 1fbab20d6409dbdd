"""Users' classes that are registered on both ends, on one end, wrongly, or not at all."""

import datetime
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse

from pconnect.errors import (
    ConfigurationError,
    ProtocolError,
    UnavailableTypeError,
    UnreadableValueError,
    UnsupportedValueError,
)
from pconnect.values import decoder, encoder
from pconnect.values import registry as registered_types
from pconnect.values.registry import register_type
from tests.support.hostile import head_of, mark


class Point:
    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y


class Special(Point):
    pass


def to_value(point: Point) -> object:
    return point.x, point.y


def from_value(value: Any) -> Point:
    x, y = value
    return Point(x, y)


def special(value: Any) -> Special:
    return Special(*value)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test with an empty registry."""
    monkeypatch.setattr(registered_types, "_entries", {})
    monkeypatch.setattr(registered_types, "_makers", {})


def transmit(value: object) -> Any:
    return decoder.decode(encoder.pack(value), 0).finish()


def test_a_registered_class_arrives_wherever_it_stands() -> None:
    register_type(Point, "test.Point", to_value, from_value)
    received = transmit({"a": [Point(1, Point(np.float32(2), {3}))]})["a"][0]
    assert type(received) is Point and received.x == 1
    assert type(received.y.x) is np.float32 and received.y.y == {3}


def test_on_the_wire_is_the_name_and_a_value() -> None:
    register_type(Point, "test.Point", to_value, from_value)
    assert encoder.pack(Point(1, 2)) == head_of(mark(64, "test.Point", mark(1, 1, 2)))


def test_large_arrays_of_it_are_not_copied() -> None:
    register_type(Point, "test.Point", to_value, from_value)
    array = np.zeros(10000)
    _, (buffer,) = encoder.encode(Point(array, 0))
    assert np.shares_memory(np.asarray(buffer), array)


def test_a_subclass_is_not_sent_as_its_base() -> None:
    register_type(Point, "test.Point", to_value, from_value)
    with pytest.raises(UnsupportedValueError, match=r"^value: cannot send <class '.*Special'>$"):
        encoder.encode(Special(1, 2))


def test_a_part_that_cannot_be_sent_is_named() -> None:
    register_type(Point, "test.Point", to_value, from_value)
    with pytest.raises(UnsupportedValueError) as caught:
        encoder.encode([Point(1, object())])
    assert str(caught.value) == "to_value of 'test.Point'(value[0])[1]: cannot send <class 'object'>"


def test_an_error_of_to_value_is_one_of_sending() -> None:
    register_type(Point, "test.Point", lambda point: 1 / point.x, from_value)
    with pytest.raises(UnsupportedValueError) as caught:
        encoder.encode({"a": Point(0, 0)})
    assert str(caught.value) == (
        f"value['a']: cannot send {Point}: its to_value raised ZeroDivisionError: division by zero"
    )
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_to_value_that_returns_its_own_kind_ends() -> None:
    register_type(Point, "test.Point", lambda point: Point(point, 0), from_value)
    with pytest.raises(UnsupportedValueError, match="nested deeper than"):
        encoder.encode(Point(1, 2))


def test_an_error_of_from_value_is_one_of_this_value() -> None:
    register_type(Point, "test.Point", lambda _: 5, from_value)
    with pytest.raises(
        UnreadableValueError, match=r"'test\.Point' arrived, but its from_value raised TypeError"
    ) as caught:
        transmit([Point(1, 2)])
    assert isinstance(caught.value.__cause__, TypeError)
    assert not isinstance(caught.value, UnavailableTypeError)


def test_a_name_that_is_not_registered_here_says_what_to_do() -> None:
    with pytest.raises(
        UnavailableTypeError, match=r"'os\.system' arrived.* call pconnect\.register_type here"
    ):
        decoder.decode(head_of([mark(64, "os.system", "ls")]), 0).finish()


def test_it_is_made_when_it_is_taken_and_not_before() -> None:
    calls = []
    register_type(Point, "test.Point", to_value, lambda value: calls.append(value) or Point(*value))  # type: ignore[func-returns-value]
    array = np.arange(1000.0)
    head, (buffer,) = encoder.encode([array, Point(3, 4)])
    incoming = decoder.decode(head, buffer.nbytes)
    incoming.buffers[0][:] = buffer
    with pytest.raises(UnreadableValueError, match="not allowed here"):
        incoming.finish(at_once=True)
    assert calls == []
    received: Any = incoming.finish()
    assert calls == [(3, 4)] and received[1].y == 4 and (received[0] == array).all()


def test_where_no_such_value_belongs_it_is_an_error_of_the_peer() -> None:
    with pytest.raises(ProtocolError):
        decoder.unpack(head_of(mark(64, "os.system", "ls")))


@pytest.mark.parametrize(
    "kind",
    [
        int, str, list, dict, bytes, tuple, datetime.date, Fraction, np.ndarray, np.float64, np.ma.MaskedArray,
        type(None), scipy.sparse.csr_array, pd.DataFrame, pd.RangeIndex, pa.Table, pa.Int64Array,
    ],
)  # fmt: skip
def test_what_can_be_sent_stays_what_it_is(kind: type) -> None:
    with pytest.raises(ConfigurationError, match="can be sent already"):
        register_type(kind, "test.kind", str, str)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101, 5, None, b"abc"])
def test_names_are_for_people(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="1 to 100 printable characters"):
        register_type(Point, name, to_value, from_value)


def test_only_classes_are_registered() -> None:
    with pytest.raises(ConfigurationError, match="is not a class"):
        register_type("Point", "test.Point", to_value, from_value)  # type: ignore[arg-type]


def test_nothing_is_registered_twice_unless_it_is_replaced() -> None:
    register_type(Point, "test.Point", to_value, from_value)
    with pytest.raises(ConfigurationError, match=r"the name '.*' is registered for"):
        register_type(Special, "test.Point", to_value, special)
    with pytest.raises(ConfigurationError, match="is already registered; pass replace=True"):
        register_type(Point, "test.Other", to_value, from_value)
    register_type(Special, "test.Point", to_value, special, replace=True)
    with pytest.raises(UnsupportedValueError):
        encoder.encode(Point(1, 2))
    register_type(Special, "test.Other", to_value, special, replace=True)
    assert type(transmit(Special(1, 2))) is Special
    with pytest.raises(UnavailableTypeError):
        decoder.decode(head_of(mark(64, "test.Point", 1)), 0).finish()
