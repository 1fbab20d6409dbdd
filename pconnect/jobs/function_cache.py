"""Functions that jobs call: each is sent to each worker once, and its jobs are timed.

A job gets the function in the state it has at `submit`. Anything that the function refers to may have changed since the
last job: its closure, its globals, the attributes of an object, the items of an array. No cheap test proves that
nothing has changed. Therefore each `submit` pickles the function, unless the pickle is only a name; a map pickles it
once. Large data would make this slow, so the memory of arrays, and bytes objects, are not copied but compared byte for
byte with the data sent before, which takes a twentieth of the time. For a long list of other objects nothing is faster
than pickling (doc/decisions/0016-warm-memory.md).
"""

import copy
import hashlib
import itertools
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Self

from pconnect.commands.function_pickling import describe, pack_function
from pconnect.jobs.duration_estimate import DurationEstimate, DurationEstimates
from pconnect.protocol.frames import NO_LIMIT
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message

# Keep up to this many functions for later use, and up to this many bytes in total.
_KEPT_FUNCTIONS = 256
_KEPT_BYTES = 2**28
# From this many contiguous bytes on, the lookup key of a function covers only a sample, of the second size. After the
# lookup, all bytes are compared.
_LARGE_BYTES = 2**16
_SAMPLED_BYTES = 2**12


class Function:
    """A function in the form in which each worker gets it, once."""

    _numbers = itertools.count(1)

    def __init__(self, name: str, contents: list[Any], estimate: DurationEstimate) -> None:
        self.number = next(self._numbers)
        self.estimate = estimate
        self.name = name
        self.contents = contents  # [pickled function, source texts, memory of an array, ...]
        self.size = sum(len(buffer) for buffer in self.encode())

    def with_estimate(self, estimate: DurationEstimate) -> Self:
        """Return the same function with another estimate, for jobs that are timed separately."""
        other = copy.copy(self)
        other.estimate = estimate
        return other

    def holds(self, parts: Sequence[bytes | bytearray], memory: Sequence[memoryview]) -> bool:
        """Return whether its pickle consists of `parts`, and its arrays have the contents `memory`."""
        text, _, *kept = self.contents
        pickled: bytes = text.encode() if isinstance(text, str) else text
        ends = list(itertools.accumulate(map(len, parts)))
        # `startswith` compares without copying, and is ten times as fast as comparing memoryviews.
        return (
            ends[-1] == len(pickled)
            and all(pickled.startswith(part, end - len(part)) for part, end in zip(parts, ends, strict=True))
            and len(kept) == len(memory)
            and all(
                len(data) == view.nbytes and data.startswith(view)
                for data, view in zip(kept, memory, strict=True)
            )
        )

    def encode(self) -> list[bytes | memoryview]:
        """Return the message for a worker."""
        return encode_message(Kind.FUNCTION, self.number, self.contents, NO_LIMIT)


class Functions:
    """The most recently used functions; keeping them avoids sending one to the same worker twice."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[bytes, Function] = OrderedDict()
        self._by_identity: OrderedDict[int, tuple[Any, Function]] = OrderedDict()
        self._estimates = DurationEstimates()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, function: Callable[..., Any] | str, foreign: str = "") -> Function:
        """Return a function in its present state; for `foreign` see `pack_call`.

        Raises `ConfigurationError` if it cannot be pickled.
        """
        if isinstance(function, str):
            return self._keep(function, [function.encode()], {}, [])
        known = self._by_identity.get(id(function))
        if known is not None and known[0] is function:
            return known[1]
        found = self._keep(function, *pack_function(function, foreign))
        # A function pickled by name cannot change; any other may refer to data that has changed.
        if _is_importable(function):
            with self._lock:
                self._by_identity[id(function)] = function, found
                if len(self._by_identity) > _KEPT_FUNCTIONS:
                    self._by_identity.popitem(last=False)
        return found

    def _keep(
        self,
        function: Callable[..., Any] | str,
        parts: Sequence[bytes | bytearray],
        sources: dict[str, str],
        memory: Sequence[memoryview],
    ) -> Function:
        digest = _digest(parts, memory)
        with self._lock:
            found = self._by_digest.get(digest)
            if found is not None and not found.holds(parts, memory):
                self._size -= self._by_digest.pop(digest).size
                found = None
            if found is None:
                estimate = self._estimates.get(function, digest)
                pickled = function if isinstance(function, str) else b"".join(parts)
                # Copied, because the arrays may change before every worker has them.
                copies = [bytes(view) if view.readonly else bytearray(view) for view in memory]
                contents = [pickled, sources, *copies]
                found = self._by_digest[digest] = Function(describe(function), contents, estimate)
                self._size += found.size
            self._by_digest.move_to_end(digest)
            while len(self._by_digest) > (_KEPT_FUNCTIONS if self._size <= _KEPT_BYTES else 1):
                _, forgotten = self._by_digest.popitem(last=False)
                self._size -= forgotten.size
        return found


def _digest(parts: Sequence[bytes | bytearray], memory: Sequence[memoryview]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part if len(part) < _LARGE_BYTES else _sample(memoryview(part)))
    for view in memory:
        digest.update(b"%d " % view.readonly + _sample(view))
    return digest.digest()


def _sample(view: memoryview) -> bytes:
    step = view.nbytes // _SAMPLED_BYTES | 1  # odd, so that the sample covers different bytes of the items
    return b"%d " % view.nbytes + view[::step].tobytes() + view[-_SAMPLED_BYTES:].tobytes()


def _is_importable(function: Callable[..., Any]) -> bool:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in {None, "__main__"} or "." in name:
        return False
    return getattr(sys.modules.get(str(module)), name, None) is function
