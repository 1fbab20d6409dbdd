import math

import pytest

from srp_tools.rules.numbers import is_finite


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1025, 0.5, -9e18, 5e-324])
def test_numbers_are(value: object) -> None:
    assert is_finite(value) and math.isfinite(float(value))


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 2**63, 1e19, math.inf, -math.inf, math.nan, True, None, "1", [], 1j]
)
def test_infinities_large_ints_and_other_types_are_refused(value: object) -> None:
    assert not is_finite(value)
