"""The buffers of encoded values, and the decoder."""

import contextlib
import secrets
import tracemalloc
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import MessageTooLargeError, ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.protocol.frames import HEADER_BYTES, Header
from pconnect.protocol.kinds import ACCEPTS, Kind, Role
from pconnect.protocol.messages import SCRATCH_BYTES, Decoder, Message, Unfinished, check_size, encode_message
from tests import fuzz_decoder
from tests.support.cases import for_each
from tests.support.examples import examples
from tests.support.hostile import head_of, mark
from tests.support.package_values import ARROW, PANDAS, SPARSE
from tests.support.science_values import SCIENCE
from tests.support.values import VALUES, assert_same

LIMIT = 2**24


def test_a_value_that_cannot_be_sent() -> None:
    with pytest.raises(UnsupportedValueError, match="object"):
        encode_message(Kind.VALUE, 0, [object()], LIMIT)


def test_arrays_are_sent_from_their_own_memory() -> None:
    array = np.arange(10_000.0)
    buffers = encode_message(Kind.VALUE, 0, {"a": array}, LIMIT)
    assert len(buffers) == 2
    assert np.shares_memory(np.frombuffer(buffers[1], "u1"), array)


def test_the_size_of_a_value_is_that_of_head_and_buffers() -> None:
    value = np.zeros(5000, "u1")
    size = sum(map(len, encode_message(Kind.VALUE, 0, value, LIMIT))) - HEADER_BYTES
    encode_message(Kind.VALUE, 0, value, size)
    check_size(size, size)
    with pytest.raises(MessageTooLargeError, match=f"has {size} bytes"):
        encode_message(Kind.VALUE, 0, value, size - 1)


LIMIT = 2**24
# Sizes around the decoder's limits: small buffers, directly filled buffers, the scratch buffer, large heads.
BORDERS: dict[str, object] = {
    f"{name} {size}": make(size)
    for name, make in (("array", lambda n: np.arange(n, dtype="u1")), ("head", lambda n: "x" * n))
    for size in (
        4095,
        4096,
        4097,
        SCRATCH_BYTES - HEADER_BYTES,
        SCRATCH_BYTES,
        SCRATCH_BYTES + 1,
        3 * SCRATCH_BYTES,
    )
}


def data_of(kind: Kind, tag: int, value: object) -> bytes:
    return b"".join(encode_message(kind, tag, value, LIMIT))


def feed(decoder: Decoder, data: bytes, chunks: Iterable[int] = ()) -> list[Message]:
    """Pass `data` to the decoder like reads from a socket: at most a given number of bytes, then as many as fit."""
    messages: list[Message] = []
    sizes = iter(chunks)
    rest = memoryview(data)
    while rest:
        buffer = decoder.get_buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(rest), next(sizes, len(rest)))
        buffer[:count] = rest[:count]
        messages += decoder.received(count)
        rest = rest[count:]
    return messages


def only(messages: list[Message]) -> Any:
    assert len(messages) == 1
    assert (messages[0].kind, messages[0].tag) == (Kind.VALUE, 5)
    return finished(messages[0].value)


def finished(value: object) -> object:
    return value.finish() if type(value) is Unfinished else value


# Any value, cut at any position.


@for_each(VALUES)
def test_whole(value: object) -> None:
    decoder = Decoder(Role.NODE, LIMIT)
    assert_same(value, only(feed(decoder, data_of(Kind.VALUE, 5, value))))
    assert not decoder.in_message


@for_each(VALUES)
def test_byte_by_byte(value: object) -> None:
    decoder = Decoder(Role.NODE, LIMIT)
    data = data_of(Kind.VALUE, 5, value)
    # Far from the beginning, there is one long buffer.
    chunks = [1] * min(len(data), 5000) + [97] * (len(data) // 97)
    assert feed(decoder, data[:-1], chunks) == []
    assert decoder.in_message
    assert_same(value, only(feed(decoder, data[-1:])))
    assert not decoder.in_message


@for_each(VALUES)
def test_with_the_beginning_of_the_next(value: object) -> None:
    decoder = Decoder(Role.NODE, LIMIT)
    data = data_of(Kind.VALUE, 5, value)
    following = data_of(Kind.VALUE, 5, "next")
    assert_same(value, only(feed(decoder, data + following[:7])))
    assert decoder.in_message
    assert only(feed(decoder, following[7:])) == "next"


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in BORDERS.items()])
@pytest.mark.parametrize("chunk", [1000, 4096, 16384, SCRATCH_BYTES, 10**9])
def test_sizes_around_the_borders(value: object, chunk: int) -> None:
    decoder = Decoder(Role.NODE, LIMIT)
    data = data_of(Kind.VALUE, 5, value)
    messages = feed(decoder, data * 3, [chunk] * len(data))
    assert len(messages) == 3
    for message in messages:
        assert_same(value, finished(message.value))
    assert not decoder.in_message


MIXED = [value for _, value in VALUES[::7]] + [
    np.arange(30_000.0),
    b"",
    ["y" * 1000] * 70,
    {"a": np.zeros((600, 2))},
]
STREAM = b"".join(data_of(Kind.VALUE, tag, value) for tag, value in enumerate(MIXED))


@examples(25)
@given(st.lists(st.integers(1, 100_000) | st.integers(1, 50), max_size=200))
def test_any_chunking_gives_the_same_messages(chunks: list[int]) -> None:
    messages = feed(Decoder(Role.NODE, LIMIT), STREAM, chunks)
    assert [message.tag for message in messages] == list(range(len(MIXED)))
    for value, message in zip(MIXED, messages, strict=True):
        assert_same(value, finished(message.value))


# Only messages.


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_random_bytes_raise_nothing_but_protocol_errors(parts: list[bytes]) -> None:
    decoder = Decoder(Role.NODE, 1000)
    try:
        feed(decoder, b"".join(parts))
    except ProtocolError:
        return
    assert sum(map(len, parts)) < HEADER_BYTES


@examples(300)
@given(
    st.binary(max_size=200),
    st.integers(0, 50),
    st.lists(st.integers(1, 20), max_size=50),
)
def test_random_heads_raise_nothing_but_protocol_errors(head: bytes, payload: int, chunks: list[int]) -> None:
    data = Header(Kind.VALUE, 0, len(head), payload).pack() + head + bytes(payload)
    with contextlib.suppress(ProtocolError):
        feed(Decoder(Role.NODE, 1000), data, chunks)


@examples(300)
@given(st.data())
def test_altered_messages_raise_nothing_but_protocol_errors(data: st.DataObject) -> None:
    message = bytearray(data_of(Kind.VALUE, 5, {"a": [np.arange(3.0), (1, 2)], "b": np.ones(2, ">i2")}))
    position = data.draw(st.integers(0, len(message) - 1))
    message[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        feed(Decoder(Role.NODE, 1000), bytes(message))


@pytest.mark.parametrize("role", Role)
def test_a_role_accepts_only_its_kinds(role: Role) -> None:
    for kind in Kind:
        data = data_of(kind, 1, None)
        if kind in ACCEPTS[role]:
            assert feed(Decoder(role, LIMIT), data) == [Message(kind, 1, None, size=2)], kind
        else:
            with pytest.raises(ProtocolError, match=f"{kind.name} is not for {role.value}"):
                feed(Decoder(role, LIMIT), data)


# Limits.


def test_the_largest_message_and_one_more() -> None:
    value = np.zeros(5000, "u1")
    size = sum(map(len, encode_message(Kind.VALUE, 5, value, LIMIT))) - HEADER_BYTES
    data = b"".join(encode_message(Kind.VALUE, 5, value, size))
    assert_same(value, only(feed(Decoder(Role.NODE, size), data)))
    with pytest.raises(MessageTooLargeError, match=rf"has {size} bytes.*max_message_bytes = {size - 1}"):
        encode_message(Kind.VALUE, 5, value, size - 1)
    with pytest.raises(ProtocolError, match=f"{size} bytes was announced"):
        feed(Decoder(Role.NODE, size - 1), data)


def test_the_limit_is_looked_at_before_memory_is_taken() -> None:
    decoder = Decoder(Role.NODE, 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="announced"):
            feed(decoder, Header(Kind.VALUE, 0, 2**31, 2**40).pack())
        assert tracemalloc.get_traced_memory()[1] < 2**17
    finally:
        tracemalloc.stop()


# Memory.


def test_an_array_is_received_into_its_own_memory() -> None:
    array = np.arange(100_000.0)
    header, payload = encode_message(Kind.VALUE, 5, array, LIMIT)
    decoder = Decoder(Role.NODE, LIMIT)
    assert feed(decoder, bytes(header)) == []
    target = decoder.get_buffer()
    assert len(target) == array.nbytes
    address = np.frombuffer(target, "u1").ctypes.data
    target[:] = payload
    received = only(decoder.received(len(target)))
    assert received.ctypes.data == address
    assert_same(array, received)


def test_the_next_message_does_not_touch_the_last_one() -> None:
    decoder = Decoder(Role.NODE, LIMIT)
    first = only(feed(decoder, data_of(Kind.VALUE, 5, {"a": np.ones(100), "b": b"x" * 50})))
    feed(decoder, data_of(Kind.VALUE, 5, {"a": np.zeros(100), "b": b"y" * 50}) * 500)
    assert_same({"a": np.ones(100), "b": b"x" * 50}, first)


def test_a_value_that_cannot_be_made_here_does_not_stop_those_after_it() -> None:
    head = head_of([mark(64, "a name that is not registered", 1), mark(0)[0]], [[2, 5000]])
    unreadable = Header(Kind.VALUE, 5, len(head), 5000).pack() + head + bytes(5000)
    for chunk in (1, 1000, len(unreadable)):
        decoder = Decoder(Role.NODE, LIMIT)
        first, second = feed(decoder, unreadable + data_of(Kind.VALUE, 6, "next"), [chunk] * len(unreadable))
        assert first.tag == 5 and type(first.value) is Unfinished
        for _ in range(2):
            with pytest.raises(UnavailableTypeError, match="a name that is not registered"):
                first.value.finish()
        assert second[:3] == (Kind.VALUE, 6, "next")


def test_of_a_collective_call_only_the_users_value_is_left_for_later() -> None:
    value = [[0, 1], 5, "call", 1, sp.csr_array(np.eye(3))]
    (message,) = feed(Decoder(Role.NODE, LIMIT), data_of(Kind.COLLECTIVE, 7, value))
    assert message.value[:4] == value[:4]
    assert_same(value[4], message.value[4].finish())


@pytest.mark.parametrize("contents", [mark(64, 1), {"a": mark(64, 1)}, [mark(64, 1)] * 5])
def test_of_a_collective_call_the_rest_is_plain(contents: object) -> None:
    head = head_of(contents)
    with contextlib.suppress(ProtocolError):
        (message,) = feed(Decoder(Role.NODE, LIMIT), Header(Kind.COLLECTIVE, 7, len(head), 0).pack() + head)
        raise AssertionError(message)


def test_a_message_of_our_own_has_no_such_value() -> None:
    head = head_of(mark(64, "a name that is not registered", 1))
    with pytest.raises(ProtocolError, match="malformed value of DONE"):
        feed(Decoder(Role.CLIENT, LIMIT), Header(Kind.DONE, 5, len(head), 0).pack() + head)


@pytest.mark.filterwarnings("ignore")  # some packages warn about values that they then refuse
def test_inputs_of_the_fuzzer() -> None:
    # A million examples take a minute: python -m tests.fuzz_decoder
    figures = fuzz_decoder.run(2000, seed=secrets.randbelow(2**31))
    assert figures.refused and figures.values
    for values in (SPARSE + ARROW + PANDAS, SCIENCE):
        figures = fuzz_decoder.run(1000, secrets.randbelow(2**31), values)
        assert figures.refused and figures.values
