"""Memory of large arrays that have arrived and are dropped, kept for the next that arrive.

New memory costs a receiver more than the bytes that it reads into it: the system zeroes each page, and on a virtual
machine the host may have to find it first (doc/decisions/0013-receive-buffers.md has the measurements). So an array
does not own its memory here. Its last base is a *loan*, and when that ends, the memory is free for the next array.

Why two arrays never share memory: a loan is referred to by arrays alone, and each array and view in the same memory
refers to it, by way of other arrays. Arrays take no part in the collection of garbage cycles, so a loan ends only when
the last of them is freed, and no finalizer can bring an array back whose loan has ended.

Why no lock is needed: a loan may end in any thread, and at any point of `take`, where an object is freed. All that is
shared is one deque, whose operations are atomic, and memory that was taken out of it is nobody else's. After a fork
each process has memory of its own, as with all of Python's objects.
"""

from collections import deque
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: Arrays of fewer bytes are left to the allocator, which itself keeps what they take.
MIN_BYTES: Final = 2**20
#: So much is kept at most. Four arrays of 64 MiB, and little compared with what a machine has that works with those.
MAX_BYTES: Final = 2**28
#: Memory is given back when it was not used for so long, or up to twice that: an iteration may compute for half a
#: minute before it receives again.
IDLE_SECONDS: Final = 30.0
# Memory may be larger than what is asked for by this part of it: the rest is taken for nothing.
_SPARE_PART: Final = 8

_Memory = npt.NDArray[np.uint8]


def unset_memory(byte_count: int) -> memoryview:
    """Return memory whose contents are not set: unlike a bytearray, it costs only what is written to."""
    return np.empty(byte_count, np.uint8).data


class ReceiveBuffers:
    """Memory for arrays, used again.

    Examples
    --------
    >>> buffers = ReceiveBuffers()
    >>> array = np.ndarray((256, 1024), np.float64, buffer=buffers.take(2**21))
    >>> del array
    >>> buffers.free_bytes
    2097152
    """

    __slots__ = ("_free", "_look_at", "_period", "max_bytes")

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes  #: how much is kept that no array uses
        self._free: deque[tuple[_Memory, int]] = (
            deque()
        )  # with the period in which it was used last; the newest last
        self._period = 0
        self._look_at = 0.0

    @property
    def free_bytes(self) -> int:
        """How much is kept that no array uses."""
        return sum(memory.nbytes for memory, _ in tuple(self._free))  # at once, for a loan may end meanwhile

    def take(self, byte_count: int) -> _Memory:
        """Return memory of at least this size, its contents not set, which comes back once no array uses it.

        Raises `MemoryError` if there is none.
        """
        memory = self._find(byte_count)
        if memory is None:
            if byte_count > self.max_bytes:
                self._free.clear()  # one so large will not come back, and should take no more than it has to
            memory = self._allocate(byte_count)
        return np.asarray(_Loan(memory, self))

    def _find(self, byte_count: int) -> _Memory | None:
        most = byte_count + byte_count // _SPARE_PART
        passed: list[tuple[_Memory, int]] = []
        found = None
        while found is None and self._free:
            try:
                entry = self._free.pop()  # the newest, which is in the processor's cache if any is
            except IndexError:  # another thread was faster
                break
            if byte_count <= entry[0].nbytes <= most:
                found = entry[0]
            else:
                passed.append(entry)
        self._free.extend(reversed(passed))
        return found

    def _allocate(self, byte_count: int) -> _Memory:
        try:
            return np.empty(byte_count, np.uint8)
        except MemoryError:
            self._free.clear()
            return np.empty(byte_count, np.uint8)

    def give_back(self, memory: _Memory) -> None:
        """Keep memory that no array uses any more."""
        if memory.nbytes > self.max_bytes:
            return
        self._free.append((memory, self._period))
        while self.free_bytes > self.max_bytes:
            try:
                self._free.popleft()
            except IndexError:  # another thread was faster
                return

    def release_idle(self, now: float) -> None:
        """Free what was not used for some time; to be called now and then with the time of a clock, in seconds."""
        if now < self._look_at:
            return
        self._look_at = now + IDLE_SECONDS
        used_last, self._period = self._period, self._period + 1
        for _ in range(len(self._free)):
            try:
                entry = self._free.popleft()
            except IndexError:  # another thread was faster
                return
            if entry[1] >= used_last:
                self._free.append(entry)


class _Loan:
    """The last base of all arrays in some memory; see the head of this module."""

    __slots__ = ("__array_interface__", "_memory", "_owner")

    def __init__(self, memory: _Memory, owner: ReceiveBuffers) -> None:
        self.__array_interface__: dict[str, Any] = memory.__array_interface__
        self._memory = memory
        self._owner = owner

    def __del__(self) -> None:
        self._owner.give_back(self._memory)


#: Those of this process.
RECEIVE_BUFFERS: Final = ReceiveBuffers()
