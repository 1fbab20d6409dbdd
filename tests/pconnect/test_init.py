"""The public names of the package."""

import pytest

import pconnect


@pytest.mark.parametrize("name", pconnect.__all__)
def test_every_name_is_there(name: str) -> None:
    vars(pconnect).pop(name, None)  # as if it were used for the first time
    assert getattr(pconnect, name).__name__ == name
    assert name in dir(pconnect)


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="module 'pconnect' has no attribute 'psent'"):
        _ = pconnect.psent
