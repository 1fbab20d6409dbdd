"""The buffers that values become."""

import numpy as np
import pytest

from pconnect.errors import MessageTooLargeError, UnsupportedValueError
from pconnect.protocol.frames import HEADER_BYTES
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import check_size, encode_message

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
    with pytest.raises(MessageTooLargeError, match=f"takes {size} bytes"):
        encode_message(Kind.VALUE, 0, value, size - 1)
