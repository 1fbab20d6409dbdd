"""Small values, decoded in one call, and hostile heads."""

import contextlib
import datetime
import math
import random
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ProtocolError, UnreadableValueError, UnsupportedValueError
from pconnect.values import encoder
from pconnect.values.decoder import LARGE_HEAD_BYTES, NOT_SMALL, decode, decode_small, unpack
from pconnect.values.encoder import encode
from pconnect.values.item_limit import MAX_TABLE_BYTES
from tests.pconnect.values.test_codec import quick
from tests.support.cases import for_each
from tests.support.hostile import HOSTILE, MEMORY, head_of
from tests.support.values import VALUES, assert_same, nested

SMALL: list[object] = [
    None, True, -1, 2**63, 1.5, math.inf, "text", "\ud800", [], [1, "a", None], [7, [1, 2.5], {}, None],
    [{"a": 1}, {"b": [1]}], [b"bytes"], ["x" * 300],
]  # fmt: skip


@pytest.mark.parametrize("value", SMALL, ids=repr)
def test_both_ways_lead_to_the_same(value: object) -> None:
    head, buffers = encode(value)
    assert not buffers
    assert decode_small(head) in (value, NOT_SMALL)
    assert decode(head, 0).finish() == value
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # values that are written in one call have the same form as others
        patch.setattr(encoder, "_SMALL_ITEMS", -1)
        assert encode(value)[0] == head


@pytest.mark.parametrize("value", [(1, 2), [(1, 2)], [{1: 2}], {1, 2}, [2**70]], ids=repr)
def test_what_has_marks_is_left_to_the_other(value: object) -> None:
    assert decode_small(encode(value)[0]) is NOT_SMALL


@pytest.mark.parametrize("head", [b"\x90\x93\x01", b"\x90\x01\x02", b"\x90\x91\xc1"])
def test_a_malformed_one_is_an_error_of_the_peer(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_small(head)


# Heads that our encoder never writes.


def finish(head: bytes, payload_bytes: int = 0) -> object:
    incoming = decode(head, payload_bytes)
    for buffer in incoming.buffers:
        buffer[:] = bytes(buffer.nbytes)
    return incoming.finish()


@for_each(HOSTILE)
def test_malformed_heads_are_protocol_errors(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        finish(head)


def test_sizes_must_add_up_before_anything_is_allocated() -> None:
    head, _ = encode([np.zeros(10**6), bytes(10**6)])
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as caught:
            decode(head, 10)
        assert tracemalloc.get_traced_memory()[1] < 10**5
    finally:
        tracemalloc.stop()
    assert str(caught.value) == "the head describes 9000000 bytes of buffers, but 10 follow it"


def test_no_memory_is_a_protocol_error() -> None:
    for entry in ([0, "<f8", [2**57]], [2, 2**60]):
        with pytest.raises(ProtocolError):
            decode(head_of(msgpack.ExtType(0, b""), [entry]), 2**60)


def test_a_timestamp_of_others_is_a_datetime() -> None:
    assert_same(datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC), unpack(b"\x90\xd6\xff\0\0\0\1"))


@quick
@given(st.binary(max_size=80), st.sampled_from([b"", b"\x90"]))
def test_random_bytes_raise_only_protocol_errors(data: bytes, start: bytes) -> None:
    with contextlib.suppress(ProtocolError, UnreadableValueError):
        finish(start + data)


def test_mutated_heads_raise_only_protocol_errors() -> None:
    chance = random.Random(7)
    for _, value in VALUES:
        head, buffers = encode(value)
        payload_bytes = sum(buffer.nbytes for buffer in buffers)
        for _ in range(20):
            mutated = bytearray(head[:3000])
            for _ in range(chance.randint(1, 3)):
                mutated[chance.randrange(len(mutated))] = chance.choice(
                    [0, 1, 0x7F, 0x80, 0xC7, 0xFF, chance.randrange(256)]
                )
            with contextlib.suppress(ProtocolError, UnreadableValueError):
                finish(bytes(mutated), payload_bytes)


@pytest.mark.parametrize(("name", "head"), MEMORY)
def test_memory_is_bounded_by_what_came_in(name: str, head: bytes) -> None:
    tracemalloc.start()
    try:
        finish(head)
    except ProtocolError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100 * len(head) + 200_000, name


# Limits.


def test_a_table_without_end_is_refused() -> None:
    small_entry = msgpack.packb([2, 0])
    for table in (
        b"\xdd" + (400_000).to_bytes(4, "big") + small_entry * 400_000,  # too many items
        msgpack.packb([[0, "x" * MAX_TABLE_BYTES, [1]]]),  # too many bytes
    ):
        with pytest.raises(ProtocolError):
            decode(table + b"\xc0", 0)


def test_a_value_of_more_buffers_than_the_table_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "MAX_TABLE_ITEMS", 30)
    structured = np.ones(600, "i4,f8")
    value = [np.arange(700.0), b"x" * 5000, bytearray(5000), structured] * 3
    head, buffers = encode(value)
    assert 2 <= len(buffers) < len(value)
    incoming = decode(head, sum(buffer.nbytes for buffer in buffers))
    for source, target in zip(buffers, incoming.buffers, strict=True):
        target[:] = source
    assert_same(value, incoming.finish())


def test_dtypes_that_take_too_much_to_write_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "MAX_TABLE_BYTES", 50)
    with pytest.raises(UnsupportedValueError, match="dtypes are too long"):
        encode(np.ones(5000, [("a name that is long enough to matter", "f8")]))


LARGE: list[tuple[str, object]] = [
    ("lists", [[]] * 100_000),
    ("numbers", list(range(100_000))),
    ("text", "x" * 3 * LARGE_HEAD_BYTES),
    ("tuples", [(i, {i: None}) for i in range(6000)]),
    ("deep", nested(450, lambda inner: [inner, "x" * 400])),
    ("arrays", [np.arange(5) for _ in range(2000)]),
]


@for_each(LARGE)
def test_large_heads_are_read_in_pieces(value: object) -> None:
    head, _ = encode(value)
    looks: list[None] = []
    assert len(head) > LARGE_HEAD_BYTES
    assert repr(decode(head, 0).finish(look=lambda: looks.append(None))) == repr(value)
    assert len(looks) > len(head) // LARGE_HEAD_BYTES
    for limit in (len(head) - 1, len(head)):  # counted, or skimmed
        assert repr(decode(head, 0, limit).finish()) == repr(value)


@for_each(LARGE)
def test_large_heads_that_end_early_or_late(value: object) -> None:
    head, _ = encode(value)
    for limit in (1000, len(head) + 1000):
        for wrong in (head[:-1], head + b"\xc0", head[: len(head) // 2]):
            with pytest.raises(ProtocolError):
                decode(wrong, 0, max_items=limit).finish()


@for_each(LARGE)
def test_a_value_can_be_made_after_it_was_interrupted(value: object) -> None:
    head, buffers = encode([np.ones(5000), value])
    incoming = decode(head, 40_000)
    incoming.buffers[0][:] = buffers[0]
    for most in range(3):
        count = 0

        def look(most: int = most) -> None:
            nonlocal count
            count += 1
            if count > most:
                raise TimeoutError

        with pytest.raises(TimeoutError):
            incoming.finish(look=look)
    assert repr(incoming.finish()) == repr([np.ones(5000), value])


def test_items_are_limited() -> None:
    head, _ = encode([[]] * 100_000)
    assert decode(head, 0, 100_001 + 1).finish() == [[]] * 100_000
    with pytest.raises(ProtocolError, match=r"more items than 50000, the limit"):
        decode(head, 0, 50_000).finish()
