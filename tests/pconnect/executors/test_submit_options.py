"""Keyword arguments of `submit` that could be meant for the function as well."""

import functools
from typing import Any

import pytest

from pconnect.errors import ConfigurationError
from pconnect.executors.submit_options import given_options


def simulate(*, seed: int) -> int:
    return seed


def of_position(seed: int, /, **more: int) -> int:
    return seed + len(more)


@pytest.mark.parametrize(
    "function", [simulate, functools.partial(simulate, seed=3), lambda x, seed=1: x + seed]
)
def test_an_option_that_is_also_a_parameter_is_refused(function: Any) -> None:
    assert given_options(function, allow_pickle=False, seed=None) == {"allow_pickle": False}
    with pytest.raises(
        ConfigurationError, match=r"\(\.\.\.\) and submit both have a parameter seed: for the function"
    ):
        given_options(function, allow_pickle=True, seed=0)


@pytest.mark.parametrize("function", [of_position, max, type, "simulate", 5])
def test_an_option_that_is_no_parameter_is_not_ambiguous(function: Any) -> None:
    assert given_options(function, allow_pickle=None, seed=0) == {"seed": 0}
