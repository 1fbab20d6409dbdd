import gc
import weakref
from typing import Any

import numpy as np
import pytest

from pconnect.errors import MessageTooLargeError
from pconnect.jobs.shared_arrays import Contents, Sharing, keep_array
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Decoder, Message
from pconnect.remote_entry import shared_array

LIMIT = 2**20


def sharing(contents: Contents | None = None) -> Sharing:
    return Sharing(contents or Contents(), 1000, LIMIT)


def received(buffers: list[bytes | memoryview]) -> list[Message]:
    """Return the messages as a worker receives them."""
    decoder, messages = Decoder(Role.WORKER, LIMIT), []
    left = memoryview(b"".join(buffers))
    while left:
        buffer = decoder.get_buffer()
        count = min(len(buffer), len(left))
        buffer[:count] = left[:count]
        left = left[count:]
        messages += decoder.received(count)
    return messages


def number(found: tuple[Any, ...] | None) -> int:
    assert found is not None
    function, (key,) = found
    assert function is shared_array
    return int(key)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(1000.0),
        np.asfortranarray(np.arange(2000.0).reshape(40, 50)),
        np.arange(4000.0)[::2],
        np.arange(2000.0).reshape(40, 50)[:, 3:40],
        np.zeros(500, dtype="M8[ns]"),
        np.zeros(500, dtype=[("a", "i2"), ("b", "f8")]),
    ],
    ids=["C", "Fortran", "strided", "block", "times", "records"],
)
def test_an_array_is_replaced_by_a_number_and_arrives_read_only(array: np.ndarray) -> None:
    shared = sharing()
    key = number(shared.reduce(array))
    (found,) = shared.take_found()
    assert found.size == array.nbytes
    (message,) = received(found.encode())
    assert (message.kind, message.tag) == (Kind.SHARED, key)
    keep_array(message.tag, message.value)
    arrived = shared_array(key)
    assert not arrived.flags.writeable
    assert arrived.dtype == array.dtype
    np.testing.assert_array_equal(arrived, array)
    keep_array(key, None)
    with pytest.raises(KeyError):
        shared_array(key)


@pytest.mark.parametrize("value", [np.zeros(10), "x" * 5000, np.full(500, None), np.ma.zeros(500)])
def test_small_and_special_arrays_are_not_shared(value: object) -> None:
    assert sharing().reduce(value) is None


def test_equal_contents_have_one_number() -> None:
    contents = Contents()
    first, second = sharing(contents), sharing(contents)
    a = np.arange(1000.0)
    key = number(first.reduce(a))
    assert number(first.reduce(a.copy())) == key
    assert number(second.reduce(a)) == key
    assert len(first.take_found()) == 1
    assert first.take_found() == ()
    others = [a.reshape(10, 100), a.view(np.int64), np.asfortranarray(a.reshape(10, 100)), a + 1]
    assert len({key, *(number(first.reduce(other)) for other in others)}) == 5


def test_a_change_is_noticed_by_the_next_sharing() -> None:
    contents = Contents()
    a = np.arange(1000.0)
    before = number(sharing(contents).reduce(a))
    a[500] = -1
    assert number(sharing(contents).reduce(a)) != before


def test_arrays_of_abandoned_jobs_are_sent_again() -> None:
    contents = Contents()
    a = np.arange(1000.0)
    shared = sharing(contents)
    before = number(shared.reduce(a))
    shared.distrust()
    assert number(sharing(contents).reduce(a)) != before


def test_an_array_beyond_the_limit_is_refused() -> None:
    with pytest.raises(MessageTooLargeError):
        sharing().reduce(np.zeros(2**17))


def test_an_array_is_released_with_the_jobs_that_need_it() -> None:
    own = sharing()
    array = np.ones(1000)
    reference = weakref.ref(array)
    own.reduce(array)
    found = own.take_found()
    del array
    assert reference() is not None  # it is still to be sent
    del found
    gc.collect()
    assert reference() is None
    # A new array may occupy the same address: it is not taken for the old one.
    others = [np.full(1000, float(k)) for k in range(10)]
    assert len({number(own.reduce(other)) for other in others}) == 10


def test_a_worker_keeps_arrays_until_it_is_asked_to_forget_them() -> None:
    array = np.ones(1000)
    reference = weakref.ref(array)
    keep_array(10**6, array)
    del array
    assert shared_array(10**6)[0] == 1
    keep_array(10**6, None)
    gc.collect()
    assert reference() is None
    with pytest.raises(KeyError):
        shared_array(10**6)
