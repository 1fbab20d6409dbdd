"""Checks for numbers from users, and from other machines, before anything uses them.

JSON and our own encoding allow integers of any size. An integer too large for a float raises `OverflowError` in
`math.isfinite` and `float`, although the caller expects an error about the sender.
"""

import operator
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


def positive_integer(value: object) -> int | None:
    """Return a positive integer as an ``int``, also one of numpy; ``None`` for any other value, including a bool.

    Examples
    --------
    >>> [positive_integer(each) for each in (3, 0, -1, True, 2.0, "2", None)]
    [3, None, None, None, None, None, None]
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return number if number > 0 and not isinstance(value, bool) else None
