"""Failures delay only the source that fails; records are bounded, and cannot be pushed out cheaply."""

import pytest

from pserver.daemon.door.login_failures import LoginFailures, Standing


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(failures: LoginFailures, count: int, source: str = "a", user: str = "alice") -> None:
    for _ in range(count):
        failures.fail(source, user)


def test_pauses_grow_from_the_third_failure_to_five_minutes(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    pauses = []
    for _ in range(13):
        fail(failures, 1)
        pauses.append(failures.pause("a", "alice"))
    assert pauses == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    clock.now += 299
    assert failures.pause("a", "alice") == 1
    clock.now += 1
    assert failures.pause("a", "alice") == 0
    fail(failures, 10_000)  # an unbounded number would be too large
    assert failures.pause("a", "alice") == 300


def test_other_users_and_other_sources_do_not_notice(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    fail(failures, 20)
    assert (failures.pause("a", "bob"), failures.pause("b", "alice")) == (0, 0)
    assert not failures.may_join("a", "alice", ["alice"])
    assert failures.may_join("a", "alice", ["bob"])
    assert failures.may_join("a", "bob", ["alice"])


def test_a_good_login_clears_a_user_and_time_does(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    fail(failures, 5)
    failures.succeed("a", "alice")
    assert (failures.pause("a", "alice"), failures.may_join("a", "alice", ["alice"])) == (0, True)
    fail(failures, 5)
    clock.now += 3600
    assert failures.may_join("a", "alice", ["alice"])
    fail(failures, 1)
    assert failures.pause("a", "alice") == 0


def test_many_names_from_one_source_make_it_wait_a_little(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    failures.succeed("a", "honest")
    for number in range(200):
        fail(failures, 1, user=f"user {number}")
    assert failures.pause("a", "new") == 2
    assert failures.pause("a", "honest") == 0
    assert failures.pause("b", "new") == 0
    assert not failures.may_join("a", "new", ["user 1"])
    assert failures.may_join("a", "new", ["honest"])
    assert failures.may_join("a", "honest", ["user 1"])
    failures.succeed("a", "mallory")  # his own account does not let him continue guessing
    assert failures.pause("a", "new") == 2


def test_without_a_limit_nothing_is_counted(clock: Clock) -> None:
    failures = LoginFailures(0, clock=clock)
    fail(failures, 1000)
    assert (failures.pause("a", "alice"), failures.may_join("a", "alice", ["alice"])) == (0, True)


def test_a_record_of_many_failures_is_not_pushed_out_by_few(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    fail(failures, 12)
    for number in range(20_000):
        fail(failures, 1, source=str(number))
        failures.succeed(str(number), "other")
    assert failures.pause("a", "alice") == 300
    assert len(failures._users) <= 4096
    assert len(failures._sources) <= 4096
    assert len(failures._known) <= 4096


def test_what_is_old_is_forgotten_first(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    for number in range(4096):
        fail(failures, 4, source=str(number))
    clock.now += 4000
    fail(failures, 1, source="new")
    for number in range(3000):
        fail(failures, 1, source=f"x{number}")
    fail(failures, 2, source="new")
    assert failures.pause("new", "alice") == 1


def test_a_login_that_was_left_makes_its_user_doubtful_at_its_source_for_a_while(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    assert failures.standing("a", "alice") is Standing.NEW
    failures.succeed("a", "alice")
    failures.leave("a", "alice")
    failures.succeed("a", "alice")
    failures.succeed("b", "alice")
    assert failures.standing("a", "alice") is Standing.DOUBTFUL
    assert failures.standing("b", "alice") is Standing.KNOWN
    assert failures.standing("a", "bob") is Standing.NEW
    assert failures.pause("a", "alice") == 0
    clock.now += 300
    failures.leave("a", "alice")
    clock.now += 599
    assert failures.standing("a", "alice") is Standing.DOUBTFUL
    clock.now += 1
    assert failures.standing("a", "alice") is Standing.KNOWN


def test_left_logins_of_three_users_make_a_source_doubtful_but_not_who_was_there_before(clock: Clock) -> None:
    failures = LoginFailures(0, clock=clock)
    failures.succeed("a", "honest")
    for _ in range(10):
        failures.leave("a", "user 1")
    failures.leave("a", "user 2")
    assert failures.standing("a", "new") is Standing.NEW
    failures.leave("a", "user 3")
    assert failures.standing("a", "new") is Standing.DOUBTFUL
    assert failures.standing("a", "honest") is Standing.KNOWN
    assert failures.standing("b", "new") is Standing.NEW
    clock.now += 600
    assert failures.standing("a", "new") is Standing.NEW


def test_what_is_remembered_of_left_logins_is_bounded(clock: Clock) -> None:
    failures = LoginFailures(3, clock=clock)
    for number in range(5000):
        failures.leave(str(number), "alice")
    assert len(failures._doubts) <= 4096
    assert len(failures._doubts._users) <= 4096
    assert failures.standing("0", "alice") is Standing.NEW
    assert failures.standing("4999", "alice") is Standing.DOUBTFUL
