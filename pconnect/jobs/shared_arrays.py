"""Large arrays among the arguments of many jobs, which are sent to each worker once.

A job that is pickled with `Sharing.reduce` has, in place of such an array, a number; the scheduler sends a worker the
arrays that a job needs and the worker lacks, before the job. Numbers stand for contents: each array is read through
once for a `Sharing`, so two equal ones have one number, and one that was changed since another `Sharing` has a new one.
At the worker they are read-only, because other jobs use them, too.

Neither side keeps arrays alive for long: this one only those of jobs under way, a worker the last it was sent.
"""

import hashlib
import itertools
import threading
import weakref
from typing import Any

import numpy as np

from pconnect.protocol.frames import NO_LIMIT
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import check_size, encode_message
from pconnect.remote_entry import shared_array, shared_arrays
from pconnect.values.padding import without_padding

# So many contents are recognised when they come again.
_KNOWN_CONTENTS = 256

# More than what is sent beside the contents.
_MAX_HEAD_BYTES = 2**12


class SharedArray:
    """One array that jobs need. `number`: of its contents. `size`: in bytes."""

    def __init__(self, number: int, array: np.ndarray[Any, Any]) -> None:
        self.number = number
        self.size = array.nbytes
        self._array = array

    def encode(self) -> list[bytes | memoryview]:
        """Return the message for a worker; the array is sent from its own memory."""
        return encode_message(Kind.SHARED, self.number, self._array, NO_LIMIT)


class Contents:
    """The numbers of what was shared last in one network."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._next = itertools.count(1)
        self._lock = threading.Lock()

    def number(self, array: np.ndarray[Any, Any]) -> int:
        """Return the number of what an array contains now."""
        is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        array = without_padding(array)
        data = np.ascontiguousarray(array.T if is_fortran else array)
        digest = hashlib.blake2b(data.reshape(-1).view(np.uint8).data, digest_size=32).digest()
        key = (digest, array.shape, repr(array.dtype), is_fortran)
        with self._lock:
            number = self._numbers.pop(key, 0) or next(self._next)
            self._numbers[key] = number  # the newest last
            if len(self._numbers) > _KNOWN_CONTENTS:
                del self._numbers[next(iter(self._numbers))]
        return number

    def forget(self, numbers: set[int]) -> None:
        """Recognise contents no more, because what workers have under these numbers may be something else."""
        with self._lock:
            self._numbers = {key: number for key, number in self._numbers.items() if number not in numbers}


class Sharing:
    """The large arrays in the arguments of jobs that belong together, such as those of one call of joblib's.

    Until they have ended, the arrays must not be changed, as with arguments of all jobs.

    `min_bytes`: smaller ones are left where they are. `max_message_bytes`: limit of the workers.
    """

    def __init__(self, contents: Contents, min_bytes: int, max_message_bytes: int) -> None:
        self._contents = contents
        self._min_bytes = min_bytes
        self._max_message_bytes = max_message_bytes
        # By identity, with the number of its contents.
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._purged_at = _KNOWN_CONTENTS
        self._found: dict[int, SharedArray] = {}

    def reduce(self, value: object) -> tuple[Any, ...] | None:
        """Return what is pickled instead of a value, if it is a large array."""
        if type(value) not in {np.ndarray, np.memmap}:
            return None
        assert isinstance(value, np.ndarray)  # noqa: S101 - for the type checker
        if value.nbytes < self._min_bytes or value.dtype.hasobject:
            return None
        check_size(value.nbytes + _MAX_HEAD_BYTES, self._max_message_bytes)
        number = self._number(value)
        if number not in self._found:
            self._found[number] = SharedArray(number, value.view(np.ndarray))
        return shared_array, (number,)

    def take_found(self) -> tuple[SharedArray, ...]:
        """Return the arrays that were met since the last call."""
        found, self._found = self._found, {}
        return tuple(found.values())

    def distrust(self) -> None:
        """Have all sent anew next time: jobs were given up, and arrays may change while they are on their way."""
        self._contents.forget({number for _, number in list(self._known.values())})
        self._known.clear()

    def _number(self, array: np.ndarray[Any, Any]) -> int:
        key = id(array)
        reference, number = self._known.get(key, (None, 0))
        if reference is not None and reference() is array:
            return number
        number = self._contents.number(array)
        # Nothing is called when an array is freed, which happens in the user's code: a Ctrl-C during it would be lost.
        self._known[key] = weakref.ref(array), number
        if len(self._known) > self._purged_at:
            self._known = {key: known for key, known in self._known.items() if known[0]() is not None}
            self._purged_at = 2 * len(self._known) + _KNOWN_CONTENTS
        return number


def keep_array(number: int, array: np.ndarray[Any, Any] | None) -> None:
    """Keep an array, or forget one; in a worker."""
    if array is None:
        shared_arrays.pop(number, None)
    else:
        array.flags.writeable = False
        shared_arrays[number] = array
