import math
import time

import pytest

from pconnect.pool import patience
from pconnect.pool.patience import Patience
from srp_tools.steps import Steps, Wait, deadline_after, pause, run_all, wait_for_deadline
from tests.support.waiting import DEADLINE


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_LEAST_SECONDS", 0.3)


def working(times: int) -> Steps[int]:
    for _ in range(times):
        yield from pause(0.05)
    return times


def test_silent_servers_are_awaited_while_another_makes_progress() -> None:
    all_of_them = Patience(0.6)
    assert all_of_them.begin_round() and all_of_them.begin(1)
    began = time.monotonic()
    steps = {"works": all_of_them.watch(working(10)), "silent": all_of_them.watch(wait_for_deadline())}
    outcomes = run_all(steps, deadline_after(DEADLINE))
    assert outcomes["works"] == 10 and isinstance(outcomes["silent"], TimeoutError)
    assert time.monotonic() - began >= 0.5
    all_of_them.end()
    assert not all_of_them.begin(1), "the rest is for the next round"
    assert all_of_them.begin_round() and all_of_them.begin(1)
    all_of_them.end()
    assert not all_of_them.begin_round()


def test_a_common_wait_ends_at_its_own_limit() -> None:
    without_end = Patience(math.inf)
    assert without_end.begin_round() and without_end.begin(3)

    def waits() -> Steps[str]:
        try:
            yield Wait(-1, until=time.monotonic() + 0.01)
        except TimeoutError:
            return "late"
        return ""

    assert run_all({0: without_end.watch(waits())}, deadline_after(DEADLINE)) == {0: "late"}


def test_what_is_cancelled_is_closed() -> None:
    closed = []

    def waits() -> Steps[None]:
        try:
            yield Wait(-1)
        finally:
            closed.append(True)

    one = Patience(math.inf)
    assert one.begin_round() and one.begin(1)
    assert isinstance(run_all({0: one.watch(waits())}, deadline_after(0.01))[0], TimeoutError)
    assert closed
