"""The number of items in a head: equal to msgpack's, and known before msgpack makes them."""

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ProtocolError
from pconnect.values.encoder import encode
from pconnect.values.item_limit import ALWAYS_ALLOWED, count_items, items_limit
from tests.support.cases import for_each
from tests.support.examples import examples
from tests.support.values import VALUES

MANY = 10**9


def items_of(value: Any) -> int:
    """Count the items of a value from msgpack."""
    if type(value) is list:
        return 1 + sum(map(items_of, value))
    if type(value) is dict:
        return 1 + sum(map(items_of, value)) + sum(map(items_of, value.values()))
    return 1


def packed(objects: list[Any]) -> bytes:
    return b"".join(map(msgpack.packb, objects))


def unpacked(head: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="surrogatepass")
    unpacker.feed(head)
    return list(unpacker)


@for_each(VALUES)
def test_every_head_is_counted_exactly(value: object) -> None:
    head, _ = encode(value)
    made = unpacked(head)
    assert count_items(memoryview(head), MANY) == (sum(map(items_of, made)), len(made))


sizes = st.sampled_from([0, 1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 255, 256, 65535, 65536])
atoms = st.one_of(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.integers(-40, 300)
    | st.floats(allow_nan=False),
    sizes.map(lambda n: "x" * n),
    sizes.map(lambda n: b"x" * n),
    sizes.map(lambda n: msgpack.ExtType(5, b"x" * n)),
    sizes.map(lambda n: list(range(n))),
    sizes.map(lambda n: [0.5] * n),
    sizes.map(lambda n: [[]] * n),
    sizes.map(lambda n: {str(k): k for k in range(n % 100)}),
)
trees = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)


@examples(100)
@given(st.lists(trees, max_size=3))
def test_any_objects_are_counted_exactly(objects: list[Any]) -> None:
    data = packed(objects)
    assert count_items(memoryview(data), MANY) == (sum(map(items_of, objects)), len(objects))


@examples(200)
@given(
    st.binary(max_size=200) | st.lists(trees, max_size=2).map(lambda o: b"".join(map(msgpack.packb, o))),
    st.randoms(),
)
def test_what_is_damaged_is_an_error_or_counted(data: bytes, chance: random.Random) -> None:
    damaged = bytearray(data[:300])
    for _ in range(chance.randrange(4) if damaged else 0):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    cut = damaged[: chance.randrange(len(damaged) + 1)]
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(cut)
    skipped = 0
    try:
        while unpacker.tell() < len(cut):
            unpacker.skip()
            skipped += 1
        is_whole = True
    except (ValueError, msgpack.UnpackException):
        is_whole = False
    try:
        _, alone = count_items(memoryview(cut), MANY)
    except ProtocolError:
        assert not is_whole
    else:
        # Announced but missing items count against the others, so they cannot hide additional complete objects.
        assert alone == skipped if is_whole else alone <= skipped


def test_counting_ends_soon_after_the_limit() -> None:
    head = memoryview(msgpack.packb([[]] * 3_000_000))
    count, _ = count_items(head, 1000)
    assert 1000 < count < 100_000


def test_counting_can_be_ended() -> None:
    class EndedError(Exception):
        pass

    def look() -> None:
        raise EndedError

    with pytest.raises(EndedError):
        count_items(memoryview(bytes(100)), MANY, look)


@pytest.mark.parametrize(
    ("max_message_bytes", "items"),
    [(1, ALWAYS_ALLOWED), (2**30, ALWAYS_ALLOWED), (2**34, 2**24), (2**40, 2**30)],
)
def test_the_item_limit_follows_the_size_limit(max_message_bytes: int, items: int) -> None:
    assert items_limit(max_message_bytes) == items
