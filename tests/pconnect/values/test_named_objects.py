"""Dataclasses and C records, which are found by name as well: accepted and refused ones."""

import dataclasses
import os
import sys
import time
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from pconnect.errors import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values import decoder, encoder
from tests.support.hostile import head_of, mark

HERE = __name__


def transmit(value: object) -> Any:
    return decoder.decode(encoder.pack(value), 0).finish()


def received(code: int, *parts: object) -> Any:
    return decoder.decode(head_of(mark(code, *parts)), 0).finish()


# Dataclasses.


@dataclasses.dataclass(frozen=True)
class Fit:
    slope: float
    errors: Any = None
    unit: typing.ClassVar[str] = "m"
    start: dataclasses.InitVar[int] = 0

    def __post_init__(self, start: int) -> None:
        if start == 0:
            raise RuntimeError("a received value calls nothing of the class")


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int


@dataclasses.dataclass
class Deleting:
    x: int

    def __del__(self) -> None: ...


@dataclasses.dataclass
class OfDict(dict[str, int]):
    x: int


def test_a_dataclass_arrives_as_one_of_the_receivers_class() -> None:
    fit = Fit(1.5, [np.arange(3)], start=1)
    vars(fit)["note"] = "more"
    made = transmit([fit])[0]
    assert type(made) is Fit and made.slope == 1.5 and made.errors[0].tolist() == [0, 1, 2]
    assert vars(made).keys() == {"slope", "errors", "note"}


def test_results_of_scipy_that_are_dataclasses_arrive() -> None:
    result = scipy.stats.bootstrap((np.arange(10.0),), np.mean, rng=1)
    made = transmit(result)
    assert type(made) is type(result) and made.confidence_interval == result.confidence_interval
    assert (made.bootstrap_distribution == result.bootstrap_distribution).all()


@pytest.mark.parametrize("value", [Slotted(1), Deleting(1), OfDict(1), Fit])
def test_dataclasses_that_need_their_code_are_refused(value: object) -> None:
    with pytest.raises(UnsupportedValueError):
        encoder.encode(value)
    if not isinstance(value, type):
        with pytest.raises(UnavailableTypeError):
            received(52, HERE, type(value).__name__, {"x": 1})


def test_a_dataclass_of_a_function_is_refused() -> None:
    @dataclasses.dataclass
    class Inner:
        x: int

    with pytest.raises(UnsupportedValueError, match=r"inside a function.*send dataclasses\.asdict\(value\)"):
        encoder.encode(Inner(1))


def test_a_dataclass_that_is_not_there_or_has_other_fields() -> None:
    for module, name, attributes in (
        ("far.away", "Fit", {"slope": 1}),
        (HERE, "Fit", {"slope": 1}),
        (HERE, "Point", {"x": 1}),
        ("subprocess", "Popen", {}),
    ):
        with pytest.raises(UnavailableTypeError, match=f"dataclass {module}.{name} arrived.*asdict"):
            received(52, module, name, attributes)
    malformed: object
    for malformed in ([], {1: 2}, None):
        with pytest.raises(ProtocolError):
            received(52, HERE, "Fit", malformed)


# C records.


@pytest.mark.parametrize(
    "value", [Path("/").stat(), time.gmtime(0), os.times(), os.uname(), sys.version_info]
)
def test_a_record_arrives_with_all_its_fields(value: Any) -> None:
    if type(value) is type(sys.version_info):  # nobody can make one
        with pytest.raises(UnavailableTypeError):
            received(53, "sys", "version_info", *value)
        return
    made = transmit([value])[0]
    assert type(made) is type(value) and made.__reduce__() == value.__reduce__()


def test_nothing_but_a_record_is_taken_for_one() -> None:
    class Imitation(tuple[int, ...]):
        n_fields = n_sequence_fields = 1
        __slots__ = ()

        def __new__(cls, _: object) -> Any:
            raise RuntimeError("a received value calls nothing of the class")

    globals()["Imitation"] = Imitation
    for module, name, items in (
        (HERE, "Imitation", [1]),
        ("builtins", "tuple", [1]),
        ("subprocess", "Popen", ["true"]),
        ("os", "stat_result", [1]),
        ("far.away", "record", [1]),
    ):
        with pytest.raises(UnavailableTypeError, match=f"record of the class {module}.{name} arrived"):
            received(53, module, name, *items)
