"""The limits of a whole session, with a simulated clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pserver.config.limit_options import SessionLimits
from pserver.limits.session_watch import SessionWatch

BEGAN = 1000.0


def nothing() -> bool:
    return False


def watch(**limits: float) -> SessionWatch:
    return SessionWatch(SessionLimits(**limits), BEGAN)  # type: ignore[arg-type]


def test_without_limits_nothing_ends() -> None:
    session = watch()
    use = session.add_node(BEGAN, nothing)
    session.note_output(use, 2**60)
    use.disk = 2**60
    assert session.why_over(BEGAN + 1e9) == ""
    assert session.time_left(BEGAN + 1e9) == math.inf


def test_a_session_lasts_so_long() -> None:
    session = watch(time=7200.0)
    session.add_node(BEGAN + 10, nothing)
    assert (session.why_over(BEGAN + 7199), session.time_left(BEGAN + 7199)) == ("", 1.0)
    assert session.why_over(BEGAN + 7200) == (
        "the session has lasted 7200 s; the server's administrator has set --session-time 2h"
    )
    assert session.time_left(BEGAN + 8000) == 0.0


def test_a_session_is_idle_when_all_its_nodes_are() -> None:
    session = watch(idle_timeout=60.0)
    first, second = session.add_node(BEGAN, nothing), session.add_node(BEGAN, nothing)
    assert session.time_left(BEGAN) == 5.0
    session.note_work(first, (1, 0), BEGAN + 10, is_busy=False)  # the client has done something
    session.note_work(second, (0, 0), BEGAN + 20, is_busy=True)
    session.note_work(first, (1, 0), BEGAN + 50, is_busy=False)  # nothing new
    session.note_work(second, (0, 0), BEGAN + 50, is_busy=False)
    assert session.why_over(BEGAN + 79) == ""
    why = session.why_over(BEGAN + 80)
    assert "--idle-timeout 60" in why
    session.note_work(first, (2, 0), BEGAN + 81, is_busy=True)
    assert session.why_over(BEGAN + 82) == why  # the other node has ended already


def test_what_runs_is_not_idle_however_long_it_takes() -> None:
    session = watch(idle_timeout=60.0)
    use = session.add_node(BEGAN, nothing)
    for second in range(0, 3600, 5):
        session.note_work(use, "always the same", BEGAN + second, is_busy=True)
        assert session.why_over(BEGAN + second) == ""


def test_who_runs_programs_in_the_background_is_not_idle() -> None:
    session = watch(idle_timeout=60.0)
    runs = [True]
    session.add_node(BEGAN, nothing)
    session.add_node(BEGAN, lambda: runs[0])
    assert session.why_over(BEGAN + 60) == ""
    runs[0] = False
    assert session.why_over(BEGAN + 119) == ""
    assert session.why_over(BEGAN + 120)


def test_output_of_all_nodes_and_engines_counts() -> None:
    session = watch(output=1024)
    first, second = session.add_node(BEGAN, nothing), session.add_node(BEGAN, nothing)
    session.note_output(first, 500)
    session.note_output(first, 600)
    session.note_output(first, 0)  # a new engine
    session.note_output(first, 100)
    session.note_output(second, 324)
    assert session.why_over(BEGAN) == ""
    session.note_output(second, 325)
    assert session.why_over(BEGAN) == (
        "its commands have printed 1025 bytes; the server's administrator has set --session-output 1k"
    )
    assert session.time_left(BEGAN) == 5.0  # for a node whose loop is idle


def test_folders_of_all_nodes_count() -> None:
    session = watch(disk=2**20)
    first, second = session.add_node(BEGAN, nothing), session.add_node(BEGAN, nothing)
    first.disk = second.disk = 2**19
    assert session.why_over(BEGAN) == ""
    second.disk += 1
    assert "--session-disk 1m" in session.why_over(BEGAN)


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans())))
def test_one_is_ended_only_after_the_whole_time(steps: list[tuple[float, bool]]) -> None:
    session = watch(idle_timeout=10.0)
    use = session.add_node(BEGAN, nothing)
    now = active = BEGAN
    session.note_work(use, 0, now, is_busy=False)
    for seconds, is_busy in steps:
        now += seconds
        session.note_work(use, 0, now, is_busy=is_busy)
        active = now if is_busy else active
        assert bool(session.why_over(now)) == (now >= active + 10.0)
        if session.why_over(now):
            return


@pytest.mark.parametrize(("idle", "seconds"), [(1.0, 0.1), (20.0, 2.0), (86400.0, 5.0)])
def test_one_looks_often_enough(idle: float, seconds: float) -> None:
    assert watch(idle_timeout=idle).time_left(BEGAN) == pytest.approx(seconds)
