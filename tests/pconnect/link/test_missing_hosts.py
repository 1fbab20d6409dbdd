"""Hosts that are present, the numbers of their nodes, and the duration of a try."""

import numpy as np
import pytest

from pconnect import ConfigurationError
from pconnect.link.host_names import parse_hosts
from pconnect.link.missing_hosts import Attendance

HOSTS = parse_hosts(["alpha", "beta", "alpha", "gamma"])
DOWN, FULL = ConnectionRefusedError("nothing listens"), OSError("no room for another engine")


def names(attendance: Attendance) -> list[str]:
    return [host.name for host in attendance.hosts]


def test_the_numbers_have_no_holes_and_keep_the_order() -> None:
    attendance = Attendance(HOSTS, required=False)
    assert attendance.may_lack({2: DOWN})
    assert (names(attendance), attendance.places) == (["alpha", "alpha", "gamma"], {1: 1, 2: 3, 3: 4})
    assert attendance.may_lack({2: FULL})  # the second engine on alpha
    assert (names(attendance), attendance.places) == (["alpha", "gamma"], {1: 1, 2: 4})
    assert attendance.missing == {"beta": DOWN, "alpha": FULL}
    assert str(attendance) == (
        "connected without 2 of 4 engines:\n  beta: nothing listens\n  alpha: no room for another engine"
    )


@pytest.mark.parametrize(("required", "may_miss"), [(True, 0), (False, 3), (1, 3), (np.int64(3), 1), (4, 0)])
def test_how_many_may_be_missing(required: object, may_miss: int) -> None:
    for count in range(5):
        attendance = Attendance(HOSTS, required)
        assert attendance.may_lack(dict.fromkeys(range(1, count + 1), DOWN)) is (count <= may_miss)


def test_a_failure_too_many_changes_nothing() -> None:
    attendance = Attendance(HOSTS, required=3)
    assert not attendance.may_lack({1: DOWN, 2: DOWN})
    assert (len(attendance.hosts), attendance.missing) == (4, {})


def test_while_hosts_may_be_missing_a_try_leaves_time_for_the_next() -> None:
    attendance = Attendance(HOSTS, required=3)
    assert attendance.try_until(deadline=30.0, now=10.0) == 20.0
    attendance.may_lack({1: DOWN})
    assert attendance.try_until(deadline=30.0, now=20.0) == 30.0
    assert Attendance(HOSTS).try_until(deadline=30.0, now=10.0) == 30.0


@pytest.mark.parametrize("required", [0, 5, -1, "2", 2.0, None])
def test_what_cannot_be_required(required: object) -> None:
    with pytest.raises(ConfigurationError, match="a number from 1 to 4"):
        Attendance(HOSTS, required)


def test_what_was_reached_is_not_missing_any_more() -> None:
    attendance = Attendance(parse_hosts(["alpha", "beta:4000", "gamma"]), required=False)
    attendance.may_lack({1: DOWN, 2: DOWN})
    attendance.missing["what is no host"] = DOWN
    attendance.forget([("beta", 12502), ("delta", 1)])
    assert list(attendance.missing) == ["alpha", "beta:4000", "what is no host"]
    attendance.forget([*parse_hosts("beta:4000"), ("alpha", 12502)])
    assert list(attendance.missing) == ["what is no host"]
