"""Numbers from another machine, before anything is done with them.

JSON and our own encoding have integers of any size. Those beyond a float raise `OverflowError` in `math.isfinite` and
`float`, where an error of its sender is expected.
"""

from typing import TypeGuard

_END = 2.0**63  # also what C and databases have of integers


def is_finite(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number, and no truth value, of less than 2**63 in size: a float can express it.

    Examples
    --------
    >>> [is_finite(each) for each in (1, -2.5, True, "1", 10**400, float("nan"), float("inf"))]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and -_END < value < _END
