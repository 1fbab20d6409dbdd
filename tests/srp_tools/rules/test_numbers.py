import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from srp_tools.rules.numbers import is_finite, is_positive, positive_integer


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1025, 0.5, -9e18, 5e-324])
def test_numbers_are(value: object) -> None:
    assert is_finite(value) and math.isfinite(float(value))


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 2**63, 1e19, math.inf, -math.inf, math.nan, True, None, "1", [], 1j]
)
def test_infinities_large_ints_and_other_types_are_refused(value: object) -> None:
    assert not is_finite(value)


@pytest.mark.parametrize(
    "value", [1, 0.5, math.inf, np.float32(2), np.array(3.0), Decimal("0.1"), Fraction(1, 3)]
)
def test_positive_numbers_of_any_type(value: object) -> None:
    assert is_positive(value)


@pytest.mark.parametrize("value", [0, -1, math.nan, "2", b"2", None, [2], 1j, np.zeros(2), 10**400])
def test_other_values_are_not_positive(value: object) -> None:
    assert not is_positive(value)


@pytest.mark.parametrize("value", [1, 7, 10**30, np.int64(3), np.uint8(255)])
def test_positive_integers_of_any_type(value: object) -> None:
    found = positive_integer(value)
    assert found == value and type(found) is int


@pytest.mark.parametrize("value", [0, -1, np.int64(0), True, np.True_, 2.0, math.inf, "2", None, [2]])
def test_other_values_are_not_positive_integers(value: object) -> None:
    assert positive_integer(value) is None
