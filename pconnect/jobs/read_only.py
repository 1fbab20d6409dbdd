"""Read-only arrays: jobs of a worker share some arrays, and a write by one job would change the data of the next."""

from typing import Any

import numpy as np

# Error texts for a refused write from numpy and compiled code: the first for `array[...] = x`, the second for `out=`
# and ``+=``.
_REFUSALS = ("read-only", "readonly", "not writable", "not writeable")
_ADVICE = (
    "Jobs share the arrays of broadcast values and the arrays that a function refers to, so they are read-only here. "
    "Change a copy: array = array.copy()"
)


def make_read_only(value: Any) -> None:
    """Make arrays read-only: `value`, or those in lists, tuples, dicts and attributes (as in sparse matrices)."""
    rest, seen = [value], set()
    while rest:
        each = rest.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, np.ndarray):
            each.flags.writeable = False
            if isinstance(each, np.ma.MaskedArray):
                rest.append(np.ma.getmask(each))
        elif isinstance(each, dict):
            rest.extend(each.values())
        elif isinstance(each, list | tuple | set | frozenset):
            rest.extend(each)
        elif not isinstance(each, type):
            rest.extend(getattr(each, "__dict__", {}).values())


def explain(error: BaseException) -> None:
    """Add advice to an error caused by a write to a read-only array."""
    if isinstance(error, ValueError | TypeError | BufferError) and any(
        words in str(error) for words in _REFUSALS
    ):
        error.add_note(_ADVICE)
