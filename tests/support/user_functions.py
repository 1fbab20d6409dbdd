"""Functions as a user would define them; they travel with the text of this file, for tracebacks."""

from typing import Any

from pconnect import UnsupportedValueError, job_side

progress = job_side.progress
Error = UnsupportedValueError


def locally(name: str) -> Any:
    """Return a function that is sent by value, like a notebook's functions."""
    return {
        "add": lambda a, *, b: a + b,
        "shape": lambda a: a.shape,
        "item": lambda a, k: a[k],
        "after": lambda n: n + 1,
        "reports": lambda n: (progress(n), Error.__name__)[1],
        "negative": lambda n: -n,
        "call": lambda function, a, k: function(a[k]),
    }[name]
