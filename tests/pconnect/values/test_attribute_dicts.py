"""Results of scipy: their types on the receiver, and a receiver without scipy."""

import sys
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

from pconnect.errors import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values import decoder, encoder
from pconnect.values.attribute_dicts import _CLASSES, find_entry, read
from tests.support.values import assert_same


def transmit(value: object) -> Any:
    return decoder.decode(encoder.pack(value), 0).finish()


def test_items_are_attributes_again() -> None:
    result = scipy.optimize.OptimizeResult(x=np.ones(2), fun=1.5, lowest=scipy.optimize.OptimizeResult(x=1))
    received = transmit([result])[0]
    assert type(received) is scipy.optimize.OptimizeResult and type(received.lowest) is type(received)
    assert received.fun == 1.5 and list(received) == ["x", "fun", "lowest"]
    assert_same(result, received)


def test_an_inverse_hessian_works_as_before() -> None:
    operator = scipy.optimize.minimize(np.linalg.norm, np.ones(3), method="L-BFGS-B").hess_inv
    received = transmit(operator)
    assert (received @ np.arange(3.0) == operator @ np.arange(3.0)).all()


@pytest.mark.parametrize("axis", [0, None])
def test_the_result_of_a_t_test_works_as_before(axis: int | None) -> None:
    result = scipy.stats.ttest_ind(np.arange(6.0).reshape(3, 2) ** 2, np.arange(6.0).reshape(3, 2), axis=axis)
    received = transmit(result)
    assert type(received) is type(result)
    for each in ("statistic", "pvalue", "df"):
        assert_same(getattr(result, each), getattr(received, each))
    assert_same(result.confidence_interval(0.9), received.confidence_interval(0.9))
    for parts in ([], [1.0] * 7, [np.float64(1.0)] * 6):
        with pytest.raises(ProtocolError, match="wrong parts for the result of a t-test"):
            read(["TtestResult", *parts])


def test_what_cannot_be_sent_in_it_is_named() -> None:
    result: Any = scipy.integrate.solve_ivp(lambda _, y: -y, (0, 1), [1.0], dense_output=True)
    with pytest.raises(UnsupportedValueError, match=r"^dict\(value\)\['sol'\]: cannot send"):
        encoder.encode(result)


def test_a_subclass_is_refused() -> None:
    class OptimizeResult(scipy.optimize.OptimizeResult):  # type: ignore[misc]
        pass

    assert find_entry(OptimizeResult) is None
    with pytest.raises(UnsupportedValueError, match="convert it to dict first"):
        encoder.encode(OptimizeResult())


@pytest.mark.parametrize("name", sorted(_CLASSES))
def test_a_receiver_without_the_package_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, _CLASSES[name].module, None)
    with pytest.raises(
        UnavailableTypeError, match=f"{name} arrived.* pip install {_CLASSES[name].package} here"
    ):
        read([name, {}])


def test_no_other_name_is_looked_for() -> None:
    for parts in ([], ["Popen", {}], [["OptimizeResult"], {}], ["OptimizeResult", 1], ["OptimizeResult"]):
        with pytest.raises((ProtocolError, ValueError)):
            read(parts)
