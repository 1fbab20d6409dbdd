"""pandas scalars, as numpy scalars or as the few numbers they consist of. Needs no pyarrow. See `optional_types`."""

import datetime
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from pconnect.errors import ProtocolError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType, make_named

__all__ = ["data_frame", "find_entry", "read"]

_CODE: Final = 45
_MAX_FREQUENCY: Final = 40  # characters
_SIDES: Final = ("left", "right", "both", "neither")


def data_frame(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Any:
    """Return rows with headings as a `pandas.DataFrame`."""
    return pd.DataFrame(rows, columns=list(headings))


def _write_timestamp(value: Any) -> tuple[object, ...]:
    # In UTC and in the timestamp's own unit.
    return "Timestamp", value.to_datetime64(), value.tz, value.fold


def _make_timestamp(utc: Any, zone: Any, fold: int) -> Any:
    if type(utc) is not np.datetime64 or type(fold) is not int or fold not in (0, 1):
        raise ProtocolError("wrong parts for Timestamp")
    # Given a name, pandas would search for the zone, even in files.
    if zone is not None and not isinstance(zone, datetime.tzinfo):
        raise ProtocolError("not the time zone of a Timestamp")
    made = pd.Timestamp(utc)
    # With a zone, UTC determines which of two equal local times is meant.
    return made.replace(fold=fold) if zone is None else made.tz_localize("UTC").tz_convert(zone)


def _write_timedelta(value: Any) -> tuple[object, ...]:
    return "Timedelta", value.to_timedelta64()


def _make_timedelta(value: Any) -> Any:
    if type(value) is not np.timedelta64:
        raise ProtocolError("wrong parts for Timedelta")
    return pd.Timedelta(value)


def _write_period(value: Any) -> tuple[object, ...]:
    parts = value.ordinal, value.freqstr
    if _make_period(*parts) != value:
        raise UnsupportedValueError(f"cannot send a Period with the frequency {value.freq!r}")
    return "Period", *parts


def _make_period(ordinal: Any, frequency: Any) -> Any:
    if type(ordinal) is not int or type(frequency) is not str or len(frequency) > _MAX_FREQUENCY:
        raise ProtocolError("wrong parts for Period")
    return pd.Period(ordinal=ordinal, freq=frequency)


def _write_interval(value: Any) -> tuple[object, ...]:
    return "Interval", value.left, value.right, value.closed


def _make_interval(left: Any, right: Any, closed: Any) -> Any:
    if closed not in _SIDES:
        raise ProtocolError("wrong parts for Interval")
    return pd.Interval(left, right, closed)


_MAKERS: Final[dict[str, Callable[..., Any]]] = {
    "Timestamp": _make_timestamp,
    "Timedelta": _make_timedelta,
    "Period": _make_period,
    "Interval": _make_interval,
    "NaT": lambda: pd.NaT,
    "NA": lambda: pd.NA,
}


def read(parts: list[Any]) -> object:
    """Make a value from its received parts."""
    return make_named(_MAKERS, parts, "a pandas scalar")


def _entry(kind: type, write: Callable[[Any], tuple[object, ...]], *names: str) -> ValueType:
    return ValueType(_CODE, (kind,), write, read, ("class", *names))


_ENTRIES: Final[dict[type, ValueType]] = {
    pd.Timestamp: _entry(pd.Timestamp, _write_timestamp, "value", "tz", "fold"),
    pd.Timedelta: _entry(pd.Timedelta, _write_timedelta, "value"),
    pd.Period: _entry(pd.Period, _write_period, "ordinal", "freqstr"),
    pd.Interval: _entry(pd.Interval, _write_interval, "left", "right", "closed"),
    type(pd.NaT): _entry(type(pd.NaT), lambda _: ("NaT",)),
    type(pd.NA): _entry(type(pd.NA), lambda _: ("NA",)),
}


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a pandas class if they are scalars, or ``None``."""
    return _ENTRIES.get(kind)
