"""Checks for numbers from another machine before anything uses them.

JSON and our own encoding allow integers of any size. An integer too large for a float raises `OverflowError` in
`math.isfinite` and `float`, although the caller expects an error about the sender.
"""

from typing import TypeGuard

_END = 2.0**63  # the limit of integers in C and in databases as well


def is_finite(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number (not a bool) with an absolute value below 2**63, which a float can represent.

    Examples
    --------
    >>> [is_finite(each) for each in (1, -2.5, True, "1", 10**400, float("nan"), float("inf"))]
    [True, True, False, False, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and -_END < value < _END
