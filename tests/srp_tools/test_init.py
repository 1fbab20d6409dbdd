"""The exported names of the package."""

import pytest

import srp_tools


@pytest.mark.parametrize("name", sorted({*srp_tools.__all__} - {"__version__"}))
def test_every_name_is_there(name: str) -> None:
    vars(srp_tools).pop(name, None)  # as if it were used for the first time
    assert getattr(srp_tools, name).__name__ == name
    assert name in dir(srp_tools)


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'srp_tools' has no attribute 'login_in'"):
        _ = srp_tools.login_in
