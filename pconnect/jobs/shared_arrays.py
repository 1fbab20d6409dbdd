"""Large arrays among the arguments of many jobs; each is sent to each worker once.

A job pickled with `Sharing.reduce` contains a number in place of each such array. Before the job, the scheduler sends
the worker those of its arrays that the worker lacks. A number identifies contents: a `Sharing` reads each array once,
so two equal arrays have one number, and an array that was changed since another `Sharing` gets a new one. On the worker
the arrays are read-only, because other jobs use them as well.

Neither side keeps arrays alive for long: the client keeps those of jobs in flight, a worker the last ones it received.
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

# The contents of this many arrays are recognised when they occur again.
_KNOWN_CONTENTS = 256

# An upper bound for the bytes sent in addition to the contents.
_MAX_HEAD_BYTES = 2**12


class SharedArray:
    """An array that jobs need. `number` identifies its contents, `size` is in bytes."""

    def __init__(self, number: int, array: np.ndarray[Any, Any]) -> None:
        self.number = number
        self.size = array.nbytes
        self._array = array

    def encode(self) -> list[bytes | memoryview]:
        """Return the message for a worker; the array is sent from its own memory."""
        return encode_message(Kind.SHARED, self.number, self._array, NO_LIMIT)


class Contents:
    """The numbers of the arrays most recently shared in a network."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._next = itertools.count(1)
        self._lock = threading.Lock()

    def number(self, array: np.ndarray[Any, Any]) -> int:
        """Return the number for the present contents of an array."""
        is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        array = without_padding(array)
        data = np.ascontiguousarray(array.T if is_fortran else array)
        digest = hashlib.blake2b(data.reshape(-1).view(np.uint8).data, digest_size=32).digest()
        key = (digest, array.shape, repr(array.dtype), is_fortran)
        with self._lock:
            number = self._numbers.pop(key, 0) or next(self._next)
            self._numbers[key] = number  # the newest is last
            if len(self._numbers) > _KNOWN_CONTENTS:
                del self._numbers[next(iter(self._numbers))]
        return number

    def forget(self, numbers: set[int]) -> None:
        """Stop recognising these contents, because workers may hold something else under their numbers."""
        with self._lock:
            self._numbers = {key: number for key, number in self._numbers.items() if number not in numbers}


class Sharing:
    """The large arrays in the arguments of jobs that belong together, such as those of one joblib call.

    As with the arguments of all jobs, the arrays must not be changed until these jobs have ended.

    `min_bytes`: smaller arrays are sent in the usual way. `max_message_bytes`: the limit of the workers.
    """

    def __init__(self, contents: Contents, min_bytes: int, max_message_bytes: int) -> None:
        self._contents = contents
        self._min_bytes = min_bytes
        self._max_message_bytes = max_message_bytes
        # By identity of the array, with the number of its contents.
        self._known: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._purged_at = _KNOWN_CONTENTS
        self._found: dict[int, SharedArray] = {}

    def reduce(self, value: object) -> tuple[Any, ...] | None:
        """Return the replacement to pickle for a value, if it is a large array."""
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
        """Return the arrays found since the last call."""
        found, self._found = self._found, {}
        return tuple(found.values())

    def distrust(self) -> None:
        """Send all arrays anew next time: jobs were abandoned, and arrays may change while they are being sent."""
        self._contents.forget({number for _, number in list(self._known.values())})
        self._known.clear()

    def _number(self, array: np.ndarray[Any, Any]) -> int:
        key = id(array)
        reference, number = self._known.get(key, (None, 0))
        if reference is not None and reference() is array:
            return number
        number = self._contents.number(array)
        # No weakref callback: it would run in the user's code when an array is freed, and a Ctrl-C during it would be
        # lost.
        self._known[key] = weakref.ref(array), number
        if len(self._known) > self._purged_at:
            self._known = {key: known for key, known in self._known.items() if known[0]() is not None}
            self._purged_at = 2 * len(self._known) + _KNOWN_CONTENTS
        return number


def keep_array(number: int, array: np.ndarray[Any, Any] | None) -> None:
    """Keep an array, or forget it if `array` is ``None``; called in a worker."""
    if array is None:
        shared_arrays.pop(number, None)
    else:
        array.flags.writeable = False
        shared_arrays[number] = array
