"""Times, durations, periods and intervals of any kind are preserved exactly."""

import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values import decoder, encoder
from pconnect.values.pandas_scalars import find_entry, read
from tests.support.examples import examples
from tests.support.values import assert_same

ZONES = st.none() | st.sampled_from(
    [zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("America/Sao_Paulo")]
)
UNITS = st.sampled_from(["s", "ms", "us", "ns"])
SECONDS = st.integers(-(10**9), 2 * 10**9)


def transmit(value: object) -> Any:
    return decoder.decode(encoder.pack(value), 0).finish()


@examples(60)
@given(SECONDS, UNITS, ZONES)
def test_any_time_arrives_in_its_unit_and_zone(seconds: int, unit: Any, zone: Any) -> None:
    made = pd.Timestamp(seconds, unit="s").as_unit(unit)
    assert_same(made.tz_localize("UTC").tz_convert(zone), transmit(made.tz_localize("UTC").tz_convert(zone)))


@examples(30)
@given(SECONDS, UNITS)
def test_any_duration_arrives_in_its_unit(seconds: int, unit: Any) -> None:
    made = pd.Timedelta(seconds, unit="s").as_unit(unit)
    assert_same(made, transmit(made))


@examples(60)
@given(
    st.integers(-2000, 20000), st.sampled_from(["D", "M", "Y", "h", "2h", "W-SUN", "Q-NOV", "ns", "B", "3M"])
)
@pytest.mark.filterwarnings("ignore:Period with BDay freq")
def test_any_period_arrives(ordinal: int, frequency: str) -> None:
    made = pd.Period(ordinal=ordinal, freq=frequency)
    received = transmit(made)
    assert (received, received.freq, received.ordinal) == (made, made.freq, made.ordinal)


@examples(60)
@given(
    st.tuples(st.integers(), st.integers())
    | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    st.sampled_from(["left", "right", "both", "neither"]),
)
def test_any_interval_arrives(ends: tuple[Any, Any], closed: Any) -> None:
    made = pd.Interval(min(ends), max(ends), closed)
    received = transmit(made)
    assert received == made and received.closed == closed
    assert_same([made.left, made.right], [received.left, received.right])


def test_ends_of_numpy_stay_such() -> None:
    assert_same(np.float32(1), transmit(pd.Interval(np.float32(1), np.float32(2))).left)


def test_a_zone_that_cannot_be_sent_is_named() -> None:
    class Zone(zoneinfo.ZoneInfo):
        pass

    with pytest.raises(UnsupportedValueError, match=r"^value\[0\]\.tz: cannot send"):
        encoder.encode([pd.Timestamp(0, tz=Zone("UTC"))])


def test_what_does_not_fit_is_an_error_of_the_peer() -> None:
    for parts in (
        ["Timestamp", 1, None, 0],
        ["Period", "1", "M"],
        ["Interval", 2, 1, "left"],
        ["NaT", 1],
        [],
    ):
        with pytest.raises(ProtocolError):
            read(parts)


def test_other_classes_are_not_here() -> None:
    assert find_entry(pd.DataFrame) is None and find_entry(type("Timestamp", (), {})) is None
