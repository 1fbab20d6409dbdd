from hypothesis import given
from hypothesis import strategies as st

from pserver.system.log_limit import LogLimit, Rate

RATE = Rate(burst=3, per_second=2)


def test_a_burst_passes_and_then_so_many_each_second() -> None:
    limit = LogLimit()
    assert [limit.admits("a", RATE, 10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [limit.admits("a", RATE, 11.0) for _ in range(3)] == [True, True, False]
    assert [limit.admits("a", RATE, 100.0) for _ in range(4)] == [True, True, True, False]


def test_each_kind_counts_for_itself() -> None:
    limit = LogLimit()
    for _ in range(10):
        limit.admits("a", RATE, 0.0)
    assert limit.admits("b", RATE, 0.0)


def test_what_was_left_out_is_counted_once() -> None:
    limit = LogLimit()
    for _ in range(8):
        limit.admits("a", RATE, 1.0)
    assert list(limit.take_left_out(10.5)) == []
    assert list(limit.take_left_out(11.0)) == [("a", 5, 10.0)]
    assert list(limit.take_left_out(100.0)) == []


def test_at_the_end_nothing_is_waited_for() -> None:
    limit = LogLimit()
    for _ in range(4):
        limit.admits("a", RATE, 1.0)
    assert list(limit.take_left_out(1.5, at_once=True)) == [("a", 1, 0.5)]


def test_endless_many_kinds_share_one_place() -> None:
    limit = LogLimit()
    admitted = sum(limit.admits(number, RATE, 0.0) for number in range(10_000))
    assert admitted == 500 + 3
    assert list(limit.take_left_out(20.0)) == [(None, 10_000 - 503, 20.0)]


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from("ab"))))
def test_every_record_is_written_or_counted(steps: list[tuple[float, str]]) -> None:
    limit, now, written, counted = LogLimit(), 0.0, 0, 0
    for pause, kind in steps:
        now += pause
        counted += sum(left.records for left in limit.take_left_out(now))
        written += limit.admits(kind, RATE, now)
    counted += sum(left.records for left in limit.take_left_out(now, at_once=True))
    assert written + counted == len(steps)
    assert written <= 2 * (RATE.burst + now * RATE.per_second)
