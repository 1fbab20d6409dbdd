"""Small values, written and read in one go, are as `codec` has them."""

import math

import pytest

from pconnect.errors import ProtocolError
from pconnect.values import codec
from pconnect.values.atoms import NO_ATOM, decode_atom, encode_plain

VALUES: list[object] = [
    None, True, -1, 2**63, 1.5, math.inf, "text", "\ud800", [], [1, "a", None], [7, [1, 2.5], {}, None],
    [{"a": 1}, {"b": [1]}], [b"bytes"], ["x" * 300],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_both_ways_lead_to_the_same(value: object) -> None:
    head, buffers = codec.encode(value)
    assert not buffers
    assert decode_atom(head) in (value, NO_ATOM)
    if isinstance(value, list):
        assert encode_plain(value) == head


@pytest.mark.parametrize("value", [[(1, 2)], [2**70], [1j], [{1}]], ids=repr)
def test_what_has_to_be_taken_apart_is_left_to_the_other(value: list[object]) -> None:
    assert encode_plain(value) is None


@pytest.mark.parametrize("value", [(1, 2), [(1, 2)], [{1: 2}], {1, 2}, [2**70]], ids=repr)
def test_what_has_marks_is_left_to_the_other(value: object) -> None:
    assert decode_atom(codec.encode(value)[0]) is NO_ATOM


@pytest.mark.parametrize("head", [b"\x90\x93\x01", b"\x90\x01\x02", b"\x90\x91\xc1"])
def test_a_malformed_one_is_an_error_of_the_peer(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_atom(head)
