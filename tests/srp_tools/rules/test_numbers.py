import math

import numpy as np
import pytest

from srp_tools.rules.numbers import is_finite, positive_integer


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1025, 0.5, -9e18, 5e-324])
def test_numbers_are(value: object) -> None:
    assert is_finite(value) and math.isfinite(float(value))


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 2**63, 1e19, math.inf, -math.inf, math.nan, True, None, "1", [], 1j]
)
def test_infinities_large_ints_and_other_types_are_refused(value: object) -> None:
    assert not is_finite(value)


@pytest.mark.parametrize("value", [1, 7, 10**30, np.int64(3), np.uint8(255)])
def test_positive_integers_of_any_type(value: object) -> None:
    found = positive_integer(value)
    assert found == value and type(found) is int


@pytest.mark.parametrize("value", [0, -1, np.int64(0), True, np.True_, 2.0, math.inf, "2", None, [2]])
def test_other_values_are_not_positive_integers(value: object) -> None:
    assert positive_integer(value) is None
