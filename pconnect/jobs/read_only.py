"""Arrays that several jobs of a worker share are read-only: what one job wrote there, the next would read."""

from typing import Any

import numpy as np

# What numpy and compiled code say to a write; the first is of `array[...] = x`, the second of `out=` and ``+=``.
_REFUSALS = ("read-only", "readonly", "not writable", "not writeable")
_ADVICE = (
    "Jobs share the arrays of broadcast values and those that a function refers to, so they are read-only here. "
    "Change a copy: array = array.copy()"
)


def make_read_only(value: Any) -> None:
    """Make arrays read-only: this one, or those in lists, tuples, dicts and attributes, such as of sparse matrices."""
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
    """Add the remedy to an error that comes from a write to a read-only array."""
    if isinstance(error, ValueError | TypeError | BufferError) and any(
        words in str(error) for words in _REFUSALS
    ):
        error.add_note(_ADVICE)
