"""Reuse of the memory of large received arrays after they are dropped.

New memory costs a receiver more than reading bytes into it: the system zeroes each page, and on a virtual machine the
host may have to find it first (doc/decisions/0013-receive-buffers.md has the measurements). So arrays do not own their
memory here. Their last base is a *loan*, and when it ends, the memory is free for the next array.

Why two arrays never share memory: only arrays refer to a loan, and each array and view on the same memory refers to it
through other arrays. Arrays take no part in garbage collection of cycles, so a loan ends only when the last of them is
freed, and no finalizer can revive an array whose loan has ended.

Why no lock is needed: a loan may end in any thread, and at any point in `take` where an object is freed. The only
shared object is a deque, whose operations are atomic, and memory that was taken out of it belongs to nobody else. After
a fork, each process has its own memory, as with all Python objects.
"""

from collections import deque
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: Smaller arrays are left to the allocator, which reuses their memory itself.
MIN_BYTES: Final = 2**20
#: Limit of the kept memory: four arrays of 64 MiB, which is little on a machine that works with such arrays.
MAX_BYTES: Final = 2**28
#: Memory is freed when it has not been used for this long, or up to twice as long: an iteration may compute for half a
#: minute before it receives again.
IDLE_SECONDS: Final = 30.0
# Memory may be larger than requested by this fraction; the excess is wasted.
_SPARE_PART: Final = 8

_Memory = npt.NDArray[np.uint8]


def unset_memory(byte_count: int) -> memoryview:
    """Return uninitialized memory. Unlike with a bytearray, only the parts that are written to cost anything."""
    return np.empty(byte_count, np.uint8).data


class ReceiveBuffers:
    """Reusable memory for arrays.

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
        self.max_bytes = max_bytes  #: limit of the free memory that is kept
        self._free: deque[tuple[_Memory, int]] = deque()  # with the period of the last use, newest last
        self._period = 0
        self._look_at = 0.0

    @property
    def free_bytes(self) -> int:
        """The size of the free memory that is kept."""
        return sum(
            memory.nbytes for memory, _ in tuple(self._free)
        )  # a copy, because a loan may end meanwhile

    def take(self, byte_count: int) -> _Memory:
        """Return uninitialized memory of at least this size. It is reused when no array refers to it any longer.

        Raises `MemoryError` if there is none.
        """
        memory = self._find(byte_count)
        if memory is None:
            if byte_count > self.max_bytes:
                self._free.clear()  # so large a buffer will not be kept, and memory may be scarce now
            memory = self._allocate(byte_count)
        return np.asarray(_Loan(memory, self))

    def _find(self, byte_count: int) -> _Memory | None:
        most = byte_count + byte_count // _SPARE_PART
        passed: list[tuple[_Memory, int]] = []
        found = None
        while found is None and self._free:
            try:
                entry = self._free.pop()  # the newest, which is most likely in the processor's cache
            except IndexError:  # another thread took it
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
        """Keep memory that no array refers to any longer."""
        if memory.nbytes > self.max_bytes:
            return
        self._free.append((memory, self._period))
        while self.free_bytes > self.max_bytes:
            try:
                self._free.popleft()
            except IndexError:  # another thread took it
                return

    def release_idle(self, now: float) -> None:
        """Free memory that has been idle for some time. Call this periodically with a clock's time in seconds."""
        if now < self._look_at:
            return
        self._look_at = now + IDLE_SECONDS
        used_last, self._period = self._period, self._period + 1
        for _ in range(len(self._free)):
            try:
                entry = self._free.popleft()
            except IndexError:  # another thread took it
                return
            if entry[1] >= used_last:
                self._free.append(entry)


class _Loan:
    """The last base of all arrays that share a piece of memory; see the module's docstring."""

    __slots__ = ("__array_interface__", "_memory", "_owner")

    def __init__(self, memory: _Memory, owner: ReceiveBuffers) -> None:
        self.__array_interface__: dict[str, Any] = memory.__array_interface__
        self._memory = memory
        self._owner = owner

    def __del__(self) -> None:
        self._owner.give_back(self._memory)


#: The buffers of this process.
RECEIVE_BUFFERS: Final = ReceiveBuffers()
