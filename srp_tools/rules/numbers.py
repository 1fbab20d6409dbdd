"""Checks for numbers from users, and from other machines, before anything uses them.

JSON and our own encoding allow integers of any size. An integer too large for a float raises `OverflowError` in
`math.isfinite` and `float`, although the caller expects an error about the sender.
"""

import numbers
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


def is_count(value: object) -> bool:
    """Return whether a value is an integer of at least 0, also one of numpy.

    Examples
    --------
    >>> [is_count(each) for each in (0, 3, -1, 1.5, "2")]
    [True, True, False, False, False]
    """
    return isinstance(value, numbers.Integral) and int(value) >= 0


def is_positive(value: object) -> bool:
    """Return whether a value is a number of any type that is greater than 0, also infinity, and fits into a float.

    Examples
    --------
    >>> [is_positive(each) for each in (0.5, 3, float("inf"), 0, float("nan"), "2")]
    [True, True, True, False, False, False]
    """
    try:
        return not isinstance(value, str | bytes) and float(value) > 0  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


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
