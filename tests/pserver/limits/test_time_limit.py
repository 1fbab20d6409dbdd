"""A time limit first interrupts, then kills."""

import math

from pserver.limits.time_limit import LIMIT_GRACE, Expiry, TimeLimit


def test_without_a_command_that_has_one_there_is_no_limit() -> None:
    limit = TimeLimit()
    limit.look(0, 0.0)
    assert (limit.time_left(1e9), limit.expire(1e9)) == (math.inf, None)


def test_a_time_limit_interrupts_and_then_kills() -> None:
    limit = TimeLimit()
    limit.look(1, 102.5)
    assert (limit.time_left(101.0), limit.expire(101.0)) == (1.5, None)
    assert (limit.time_left(103.0), limit.expire(103.0)) == (0.0, Expiry.INTERRUPT)
    limit.look(1, 102.5)  # it still runs
    assert (limit.time_left(103.0), limit.expire(103.0)) == (LIMIT_GRACE, None)
    assert limit.expire(103.0 + LIMIT_GRACE) is Expiry.KILL
    assert (limit.time_left(1e9), limit.expire(1e9)) == (math.inf, None)


def test_a_limit_ends_with_its_command() -> None:
    limit = TimeLimit()
    limit.look(1, 102.5)
    assert limit.expire(103.0) is Expiry.INTERRUPT
    limit.look(0, 0.0)
    assert (limit.time_left(1e9), limit.expire(1e9)) == (math.inf, None)
    limit.look(2, 110.0)
    assert limit.expire(111.0) is Expiry.INTERRUPT
