"""The order of logins, and the choice of refused ones: no client can use up all places."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pserver.config.login_options import Startups
from pserver.daemon.door.login_failures import Standing
from pserver.daemon.door.login_queue import Login, LoginQueue


@dataclass
class Bench:
    """A queue whose clock and random numbers come from the test."""

    startups: Startups = field(default_factory=lambda: Startups(64, 30, 512))
    places: int = 8
    now: float = 0.0
    chance: float = 0.0
    turned_away: list[str] = field(default_factory=list)
    standings: dict[tuple[str, str], Standing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue: LoginQueue[str] = LoginQueue(
            self.startups,
            self.places,
            20.0,
            lambda *who: self.standings.get(who, Standing.NEW),
            clock=lambda: self.now,
            chance=lambda: self.chance,
        )

    def add(self, name: str, source: str = "a", user: str = "alice") -> Login[str]:
        login, refused = self.queue.add(name, source, user)
        self.turned_away += [each.client for each in refused]
        return login

    def take_all(self) -> list[str]:
        found: list[str] = []
        while login := self.queue.take():
            found.append(login.client)
        return found

    def run(self, count: int) -> list[str]:
        """Run logins one at a time; return their clients."""
        found: list[str] = []
        while len(found) < count and (login := self.queue.take()):
            found.append(login.client)
            self.queue.end(login)
        return found


def test_one_source_and_one_user_have_three_quarters_of_the_places() -> None:
    bench = Bench()
    for number in range(20):
        bench.add(f"a{number}", "a", f"user {number}")
    assert bench.take_all() == [f"a{number}" for number in range(6)]
    for number in range(20):
        bench.add(f"b{number}", f"b{number}", "bob")
    assert bench.take_all() == ["b0"]
    bench.standings["d", "alice"] = Standing.KNOWN
    bench.add("d", "d", "alice")  # the last place is for known users
    assert bench.take_all() == ["d"]
    bench = Bench()
    for number in range(20):
        bench.add(f"b{number}", f"b{number}", "bob")
    bench.add("c", "c", "carol")
    assert bench.take_all() == ["b0", "b1", "b2", "b3", "b4", "b5", "c"]


@pytest.mark.parametrize(("places", "share"), [(1, 1), (2, 1), (3, 2), (4, 3), (16, 12)])
def test_even_few_places_are_shared(places: int, share: int) -> None:
    bench = Bench(places=places)
    for number in range(20):
        bench.add(f"a{number}")
    assert len(bench.take_all()) == share


def test_sources_take_turns() -> None:
    bench = Bench()
    for number in range(100):
        bench.chance = 1.0  # prevents drops
        bench.add(f"a{number}", "a")
    bench.add("b0", "b")
    bench.add("b1", "b")
    assert bench.run(6) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_users_of_one_source_take_turns() -> None:
    bench = Bench()
    for number in range(50):
        bench.add(f"m{number}", "a", "mallory")
    bench.add("honest", "a", "alice")
    assert bench.run(3) == ["m0", "honest", "m1"]


def test_an_integer_is_a_limit() -> None:
    bench = Bench(Startups(3, 100, 3))
    for number in range(5):
        bench.add(f"a{number}")
    assert bench.turned_away == ["a3", "a4"]
    assert bench.take_all() == ["a0", "a1", "a2"]
    bench.add("a5")  # running logins count as well
    assert bench.turned_away == ["a3", "a4", "a5"]


def test_the_probability_grows_from_start_to_full() -> None:
    bench = Bench(Startups(10, 30, 20), places=1)
    bench.chance = 0.31
    for number in range(10):
        bench.add(f"a{number}")
    bench.add("at start")  # 30 percent
    assert bench.turned_away == []
    bench.add("with 11")  # 37 percent
    bench.chance = 0.99
    for number in range(20):
        bench.add(f"b{number}")
    assert bench.turned_away == ["with 11", *(f"b{number}" for number in range(9, 20))]
    assert len(bench.queue) == 20


def test_who_comes_from_elsewhere_takes_the_place_of_one_of_the_greediest() -> None:
    bench = Bench(Startups(4, 100, 4), places=2)
    for number in range(4):
        bench.add(f"a{number}", "a")
    bench.add("b", "b")
    assert bench.turned_away == ["a3"]
    bench.add("c", "c")
    assert bench.turned_away == ["a3", "a2"]
    assert bench.run(3) == ["a0", "b", "c"]


def test_those_that_run_are_not_turned_away() -> None:
    bench = Bench(Startups(2, 100, 2), places=4)
    bench.add("a0", "a")
    bench.add("a1", "a")
    assert bench.take_all() == ["a0", "a1"]
    bench.add("b", "b")
    assert bench.turned_away == ["b"]


def test_what_is_shed_is_the_newest_of_the_busiest_user_of_the_greediest_source() -> None:
    bench = Bench()
    assert bench.queue.shed() is None
    for name, source, user in (("1", "a", "x"), ("2", "a", "x"), ("3", "a", "y"), ("4", "b", "x")):
        bench.add(name, source, user)
    shed = bench.queue.shed()
    assert shed is not None
    assert shed.client == "2"


def test_nobody_waits_for_long() -> None:
    bench = Bench(places=1)
    for number in range(3):
        bench.now = float(number)
        bench.add(f"a{number}")
    assert bench.queue.take() is not None
    assert bench.queue.next_deadline() == 21.0
    bench.now = 21.5
    assert [login.client for login in bench.queue.expire()] == ["a1"]
    assert [login.client for login in bench.queue.clear()] == ["a2"]
    assert (bench.queue.next_deadline(), len(bench.queue)) == (None, 1)


def test_a_login_that_may_not_start_holds_up_no_other() -> None:
    bench = Bench()
    bench.add("held", "a", "mallory")
    bench.add("free", "a", "alice")
    found = bench.queue.take(lambda login: login.user != "mallory")
    assert found is not None
    assert found.client == "free"
    assert bench.queue.take(lambda login: login.user != "mallory") is None
    assert bench.queue.running_users("a") == ["alice"]


def test_all_of_a_user_at_a_source_can_be_taken_out() -> None:
    bench = Bench()
    for name, source, user in (("1", "a", "x"), ("2", "a", "x"), ("3", "a", "y"), ("4", "b", "x")):
        bench.add(name, source, user)
    assert [login.client for login in bench.queue.remove_all("a", "x")] == ["1", "2"]
    assert bench.queue.remove_all("a", "x") == []
    assert bench.run(5) == ["3", "4"]


def test_one_who_was_here_before_passes_those_who_pose_as_that_user() -> None:
    bench = Bench()
    for number in range(20):
        bench.add(f"m{number}", f"m{number}")
    assert len(bench.take_all()) == 6
    bench.standings["home", "alice"] = Standing.KNOWN
    for number in range(3):
        bench.add(f"alice {number}", "home")
    assert bench.take_all() == ["alice 0", "alice 1"]  # all places are taken


def test_one_user_at_one_source_has_three_quarters_even_if_known() -> None:
    bench = Bench()
    bench.standings["a", "alice"] = Standing.KNOWN
    for number in range(20):
        bench.add(f"a{number}")
    assert len(bench.take_all()) == 6


def test_doubtful_ones_have_half_of_the_places_and_come_last() -> None:
    bench = Bench()
    for number in range(20):
        bench.add(f"m{number}", f"m{number}")
        bench.standings[f"m{number}", "alice"] = Standing.DOUBTFUL
    bench.add("new", "new")
    assert bench.take_all() == ["new", "m0", "m1", "m2", "m3"]
    bench.add("later", "later")
    assert bench.take_all() == ["later"]  # at once


def test_users_who_were_at_the_greediest_source_before_are_not_dropped() -> None:
    bench = Bench(Startups(4, 100, 4), places=2)
    bench.standings |= {("a", "mallory"): Standing.DOUBTFUL, ("a", "known"): Standing.KNOWN}
    for number in range(2):
        bench.add(f"b{number}", "a", "bob")
        bench.add(f"m{number}", "a", "mallory")
    bench.add("known", "a", "known")
    bench.add("new", "a", "new")
    assert bench.turned_away == ["m1", "new"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 3)), max_size=60))
def test_whatever_happens_the_bounds_hold(events: list[tuple[str, str, int]]) -> None:
    bench = Bench(Startups(5, 50, 10), places=4, chance=0.9)
    running: list[Login[str]] = []
    for source, user, action in events:
        if action < 2:
            bench.add("client", source, user)
        elif action == 2 and (login := bench.queue.take()) is not None:
            running.append(login)
        elif running:
            bench.queue.end(running.pop(0))
        assert len(bench.queue) <= 10
        assert len(running) <= 4
        for counts in (Counter(each.source for each in running), Counter(each.user for each in running)):
            assert max(counts.values(), default=0) <= 3
    for login in running:
        bench.queue.end(login)
    waiting = len(bench.queue)
    assert len(bench.run(100)) == waiting  # in the end, all get their turn
    assert len(bench.queue) == 0
