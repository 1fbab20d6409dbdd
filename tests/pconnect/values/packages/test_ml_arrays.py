"""Arrays of ml_dtypes arrive bit for bit."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pconnect import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values.packages.ml_arrays import _NAMES, read
from tests.support.transmission import transmit

KINDS = [getattr(ml_dtypes, name) for name in sorted(_NAMES) if hasattr(ml_dtypes, name)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (40, 50)])
def test_arrays(kind: Any, shape: tuple[int, ...]) -> None:
    array = np.ones(shape).astype(kind)
    arrived = transmit(array)
    assert type(arrived) is np.ndarray and arrived.dtype == array.dtype and arrived.shape == shape
    assert arrived.tobytes() == array.tobytes()
    assert arrived.flags.writeable


def test_orders_and_parts_of_arrays() -> None:
    array = np.arange(12.0).reshape(3, 4).astype(ml_dtypes.bfloat16)
    for view in (array.T, array[::2], np.asfortranarray(array), [{"a": array}]):
        arrived = transmit(view)
        if isinstance(view, list):
            arrived, view = arrived[0]["a"], array  # noqa: PLW2901
        assert np.array_equal(arrived, view) and arrived.dtype == array.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_scalars(kind: Any) -> None:
    scalar = np.ones((), kind)[()]
    arrived = transmit(scalar)
    assert type(arrived) is type(scalar) and arrived == scalar


def test_another_byte_order_keeps_the_numbers() -> None:
    array = np.array([1, 2, 3], ml_dtypes.bfloat16)
    swapped = array.astype(array.dtype.newbyteorder())
    assert transmit(swapped).tolist() == [1, 2, 3]
    with pytest.raises(ProtocolError):
        read(["bfloat16", np.zeros(2, np.dtype("u2").newbyteorder())])


def test_a_dtype_that_this_version_lacks_is_not_the_peers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ml_dtypes, "float8_e3m4")
    with pytest.raises(UnavailableTypeError, match="float8_e3m4"):
        read(["float8_e3m4", np.zeros(2, "u1")])


def test_a_class_that_only_has_the_name_is_refused() -> None:
    with pytest.raises(UnsupportedValueError):
        transmit(type("bfloat16", (), {"__module__": "ml_dtypes"})())


def test_inside_of_a_structured_dtype_it_is_refused() -> None:
    with pytest.raises(UnsupportedValueError):
        transmit(np.zeros(2, [("a", ml_dtypes.bfloat16)]))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        ["bfloat16"],
        ["finfo", np.zeros(2, "u2")],
        ["bfloat16", np.zeros(2, "u1")],
        ["bfloat16", np.zeros(2, "f2")],
        ["bfloat16", 3],
        [b"bfloat16", np.zeros(2, "u2")],
        ["bfloat16", np.zeros(2, "u2"), 1],
    ],
)
def test_wrong_parts(parts: list[Any]) -> None:
    with pytest.raises(ProtocolError):
        read(parts)
