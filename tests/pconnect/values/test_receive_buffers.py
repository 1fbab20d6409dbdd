"""Memory that is reused, but never by two arrays at the same time."""

import gc
import os
import resource
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pconnect.values import decoder
from pconnect.values.decoder import decode
from pconnect.values.dtypes import C_ORDER, F_ORDER, allocate
from pconnect.values.encoder import encode
from pconnect.values.receive_buffers import IDLE_SECONDS, MIN_BYTES, ReceiveBuffers

KIB = 2**10


def address(array: np.ndarray[Any, Any]) -> int:
    pointer: int = array.__array_interface__["data"][0]
    return pointer


@pytest.mark.parametrize("keep", [lambda a: a[3:9], memoryview, lambda a: a.view(np.int8).T])
def test_memory_comes_back_with_the_last_view(keep: Any) -> None:
    buffers = ReceiveBuffers()
    memory = buffers.take(KIB)
    place = address(memory)
    kept: Any = keep(memory)
    del memory
    assert buffers.free_bytes == 0
    assert address(buffers.take(KIB)) != place
    del kept
    assert buffers.free_bytes == 2 * KIB
    again = [buffers.take(KIB) for _ in range(2)]
    assert place in map(address, again) and buffers.free_bytes == 0


@given(st.lists(st.one_of(st.integers(1, 3000), st.tuples(st.integers(0, 20), st.booleans())), max_size=60))
@settings(deadline=None)
def test_no_two_living_arrays_share_memory(steps: list[int | tuple[int, bool]]) -> None:
    buffers = ReceiveBuffers(max_bytes=6000)
    alive: list[tuple[np.ndarray[Any, Any], int]] = []
    for mark, step in enumerate(steps, 1):
        if isinstance(step, int):
            array = np.ndarray((step,), np.uint8, buffers.take(step))
            array[:] = mark
            alive.append((array, mark))
        elif alive:
            index, is_dropped = step[0] % len(alive), step[1]
            array, kept_mark = alive.pop(index)
            if not is_dropped:
                alive.append((array[array.size // 2 :], kept_mark))  # a part keeps the whole array alive
            del array
        assert buffers.free_bytes <= buffers.max_bytes
        assert all((array == mark).all() for array, mark in alive)


def test_no_finalizer_brings_an_array_back_whose_loan_has_ended() -> None:
    buffers = ReceiveBuffers()
    saved: list[Any] = []

    class Holder:
        def __init__(self) -> None:
            self.myself = self
            self.array = buffers.take(KIB)

        def __del__(self) -> None:
            saved.append(self.array)

    Holder()
    gc.collect()
    assert len(saved) == 1 and buffers.free_bytes == 0
    saved.clear()
    gc.collect()
    assert buffers.free_bytes == KIB


def test_threads_never_get_the_same_memory() -> None:
    buffers = ReceiveBuffers(max_bytes=64 * KIB)
    wrong: list[int] = []

    def work(mark: int) -> None:
        for size in range(500):
            array = buffers.take(8 * KIB + size % 3)
            array[:] = mark
            if not (array == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and 0 < buffers.free_bytes <= buffers.max_bytes


def test_a_fork_has_memory_of_its_own() -> None:
    buffers = ReceiveBuffers()
    free, kept = buffers.take(KIB), buffers.take(KIB)
    kept[:] = 1
    place = address(free)
    del free
    child = os.fork()
    if child == 0:
        taken = buffers.take(KIB)
        taken[:] = 2
        kept[:] = 2
        os._exit(0 if address(taken) == place else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    again = buffers.take(KIB)
    assert (kept == 1).all() and not (again == 2).all()


def test_only_memory_of_a_like_size_is_used() -> None:
    buffers = ReceiveBuffers()
    del_later = [buffers.take(800), buffers.take(2000)]
    del_later.clear()
    assert buffers.take(900).size == 900  # it is kept afterwards
    assert buffers.take(1900).size == 2000
    assert buffers.take(700).size == 700
    assert buffers.free_bytes == 800 + 2000 + 900 + 700


def test_what_is_kept_is_bounded_and_the_newest() -> None:
    buffers = ReceiveBuffers(max_bytes=3 * KIB)
    arrays = [buffers.take(KIB) for _ in range(5)]
    places = [address(array) for array in arrays]
    while arrays:
        del arrays[0]
    assert buffers.free_bytes == 3 * KIB
    again = [buffers.take(KIB) for _ in range(3)]
    assert [address(array) for array in again] == places[:1:-1]
    again.clear()
    large = buffers.take(3 * KIB + 1)
    assert buffers.free_bytes == 0  # so that only the large one takes memory
    del large
    assert buffers.free_bytes == 0


def test_idle_memory_is_given_back() -> None:
    buffers = ReceiveBuffers()
    buffers.release_idle(100.0)
    buffers.take(KIB)
    buffers.release_idle(100.0 + IDLE_SECONDS)
    buffers.take(KIB)  # it is used again
    buffers.release_idle(101.0 + IDLE_SECONDS)  # too early for a check
    buffers.release_idle(100.0 + 2 * IDLE_SECONDS)
    assert buffers.free_bytes == KIB
    buffers.release_idle(100.0 + 3 * IDLE_SECONDS)
    assert buffers.free_bytes == 0


@pytest.mark.parametrize("order", [C_ORDER, F_ORDER])
@pytest.mark.parametrize("text", ["<f8", ">c16", "<M8[ns]", "f4,(3,)i2", "<f16"])
def test_large_arrays_are_exact_and_writeable(text: str, order: int) -> None:
    dtype = np.dtype(text)
    shape = [MIN_BYTES // dtype.itemsize // 16 + 1, 16]
    array = allocate(dtype, shape, order, shape[0] * 16 * dtype.itemsize)
    plain = np.empty(shape, dtype, "F" if order == F_ORDER else "C")
    assert type(array) is np.ndarray and array.dtype == plain.dtype and array.strides == plain.strides
    assert array.flags.writeable and array.flags.aligned and array.nbytes == plain.nbytes


def test_an_array_that_comes_again_faults_no_page() -> None:
    value = np.ones(2**23)
    head, buffers = encode(value)
    received: Any = None
    for k in range(12):
        if k == 2:  # the next array arrives while one is still in use, so two alternate
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        incoming = decode(head, value.nbytes)
        incoming.buffers[0][:] = buffers[0]
        received = incoming.finish()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 100
    assert received[-1] == 1


def test_large_bytes_are_copied_from_memory_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ReceiveBuffers()
    monkeypatch.setattr(decoder, "RECEIVE_BUFFERS", pool)
    value = bytes(range(256)) * 2**13
    head, buffers = encode([value, value])
    incoming = decode(head, 2 * len(value))
    for target, source in zip(incoming.buffers, buffers, strict=True):
        target[:] = source
    assert incoming.finish() == [value, value]
    del incoming, target
    assert pool.free_bytes == 2 * len(value)
