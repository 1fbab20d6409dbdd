"""The table itself: its numbers are part of the protocol."""

import fractions

import pytest

from pconnect.errors import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values import decoder, encoder
from pconnect.values.builtin_types import TABLE
from tests.support.hostile import head_of, mark
from tests.support.values import VALUES

CODES = {
    "tuple": 1,
    "set": 2,
    "frozenset": 3,
    "bytearray": 5,
    "complex": 7,
    "slice": 8,
    "range": 9,
    "ellipsis": 10,
    "Counter": 12,
    "OrderedDict": 13,
    "defaultdict": 14,
    "deque": 15,
    "date": 16,
    "time": 17,
    "datetime": 18,
    "timedelta": 19,
    "timezone": 20,
    "ZoneInfo": 21,
    "Decimal": 22,
    "Fraction": 23,
    "UUID": 24,
    "SimpleNamespace": 25,
    "PosixPath": 26,
    "PureWindowsPath": 26,
    "float64": 33,
    "datetime64": 33,
    "record": 33,
    "longdouble": 33,
    "str_": 34,
    "bytes_": 35,
    "MaskedArray": 36,
    "MaskedConstant": 37,
    "Float64DType": 38,
    "VoidDType": 38,
}


def test_numbers_never_change() -> None:
    found = {kind.__name__: entry.code for entry in TABLE for kind in entry.types}
    assert {name: found.get(name) for name in CODES} == CODES


def test_each_number_and_each_type_is_used_once() -> None:
    codes = [entry.code for entry in TABLE]
    kinds = [kind for entry in TABLE for kind in entry.types]
    assert len(codes) == len(set(codes)) and all(0 < code < 64 for code in codes)
    assert len(kinds) == len(set(kinds))


def test_the_corpus_has_every_type() -> None:
    missing = {entry.code for entry in TABLE} - {
        entry.code for entry in TABLE for _, value in VALUES if type(value) in entry.types
    }
    assert missing == {4, 6, 32}  # dict, large int and array have no exact type in the table


def test_parts_that_are_attributes_have_names() -> None:
    for entry in TABLE:
        for _, value in VALUES:
            if type(value) in entry.types and entry.names:
                assert len(entry.write(value)) == len(entry.names)


def test_a_time_zone_that_is_missing_here_is_said_to_be() -> None:
    with pytest.raises(UnavailableTypeError, match=r"'No/Such' arrived, .* run pip install tzdata"):
        decoder.decode(head_of(mark(21, "No/Such")), 0).finish()


def test_a_fraction_that_takes_long_to_reduce_is_sent_by_nobody_and_taken_by_nobody() -> None:
    most = 2 ** (2**18) - 1
    largest = fractions.Fraction(most, 2)
    assert decoder.unpack(encoder.pack(largest)) == largest
    with pytest.raises(UnsupportedValueError, match="Fraction with more than 262144 bits"):
        encoder.pack(fractions.Fraction(1, most + 2))
    [entry] = [entry for entry in TABLE if entry.code == 23]
    with pytest.raises(ProtocolError, match="wrong parts for Fraction"):
        entry.read([most + 2, 3])
