"""The share of the slots that each network gets in the long run, with simulated jobs."""

import heapq
import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pserver.daemon.slot_allocator import PATIENCE, QUANTUM, Action, SlotAllocator


class Simulation:
    """Sessions whose processes run jobs without end; each job takes `seconds()`."""

    def __init__(self, total: int, seconds: Callable[[], float]) -> None:
        self.allocator = SlotAllocator(total)
        self.now = 0.0
        self.leased: defaultdict[str, float] = defaultdict(float)  # seconds by party
        self.longest_wait: defaultdict[str, float] = defaultdict(float)
        self._served: dict[str, float] = {}
        self._seconds = seconds
        self._yielding: set[int] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, now: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (now, next(self._numbers), do))

    def want(self, session: str, wanted: int, *, exclusive: bool = False) -> None:
        self.allocator.claim(session, session[0], wanted, exclusive=exclusive, now=self.now)
        self._served.setdefault(session[0], self.now)

    def run(self, until: float) -> None:
        while self.now < until:
            self._obey(self.allocator.step(self.now))
            assert len(self.allocator.holders()) == self.allocator.used <= self.allocator.total
            then = min(until, self.allocator.due, self._events[0][0] if self._events else math.inf)
            assert then > self.now or (self._events and self._events[0][0] <= self.now)
            for lease in self.allocator.holders().values():
                self.leased[str(lease.party)] += then - self.now
                self._served[str(lease.party)] = then
            for party, served in self._served.items():
                self.longest_wait[party] = max(self.longest_wait[party], then - served)
            self.now = then
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()

    def _obey(self, actions: list[Action]) -> None:
        for what, session, lease in actions:
            if what == "grant":
                assert self.allocator.bind(session, lease)
                self.at(self.now + self._seconds(), partial(self._end_job, lease))
            else:
                assert lease not in self._yielding
                self._yielding.add(lease)

    def _end_job(self, lease: int) -> None:
        if lease in self._yielding:
            self._yielding.remove(lease)
            self.allocator.process_ended(lease)
        else:
            self.at(self.now + self._seconds(), partial(self._end_job, lease))


@pytest.mark.parametrize("total", [1, 2, 3, 5])
@pytest.mark.parametrize("parties", ["ab", "abc"])
@pytest.mark.parametrize("sessions", [1, 2])
def test_each_gets_its_share(total: int, parties: str, sessions: int) -> None:
    generator = random.Random(f"{total} {parties}")
    simulation = Simulation(total, lambda: generator.uniform(0.01, 0.1))
    for party in parties:
        # One network has more sessions than the others, and comes later.
        for number in range(sessions if party == "a" else 1):
            simulation.want(f"{party}{number}", total)
        simulation.run(simulation.now + 0.3)
    simulation.leased.clear()
    begin = simulation.now
    simulation.run(begin + 60.0)
    share = total * 60.0 / len(parties)
    assert simulation.leased == pytest.approx(dict.fromkeys(parties, share), rel=0.1)


def test_two_clients_have_half_of_one_slot_within_some_seconds() -> None:
    simulation = Simulation(1, lambda: 0.02)
    simulation.want("a", 1)
    simulation.want("b", 1)
    simulation.run(8.0)
    assert simulation.leased == pytest.approx({"a": 4.0, "b": 4.0}, rel=0.1)


def test_one_with_small_wishes_has_them_fulfilled() -> None:
    simulation = Simulation(5, lambda: 0.05)
    simulation.want("a", 5)
    simulation.want("b", 1)
    simulation.want("c", 5)
    simulation.run(60.0)
    assert simulation.leased == pytest.approx({"a": 120.0, "b": 60.0, "c": 120.0}, rel=0.1)


@pytest.mark.parametrize("total", [1, 2, 3, 5])
def test_long_jobs_keep_nobody_from_work_for_longer_than_they_take(total: int) -> None:
    generator = random.Random(total)
    simulation = Simulation(total, lambda: generator.choice([0.1, 3.0, 20.0]))
    for party in "abc":
        simulation.want(party, total)
    simulation.run(2000.0)
    # Both other networks may have a turn first.
    assert max(simulation.longest_wait.values()) < 2 * (20.0 + QUANTUM + 3.0)
    assert simulation.leased == pytest.approx(dict.fromkeys("abc", total * 2000.0 / 3), rel=0.2)


def test_who_has_short_jobs_does_not_wait_for_another_s_long_one_that_was_asked_back() -> None:
    ends = iter([math.inf])  # the first that gets a slot keeps it
    simulation = Simulation(2, lambda: next(ends, 0.05))
    simulation.want("a", 1)
    simulation.run(0.1)
    simulation.want("b", 1)
    simulation.want("c", 1)
    simulation.run(100.0)
    assert simulation.longest_wait["c"] < QUANTUM + PATIENCE + 1.0
    assert simulation.leased["b"] == pytest.approx(simulation.leased["c"], rel=0.1)


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1, max_size=5),
)
def test_soon_all_who_want_more_are_within_one_of_each_other(
    total: int, wishes: list[tuple[str, int]]
) -> None:
    simulation = Simulation(total, lambda: 0.01)
    wanted: defaultdict[str, int] = defaultdict(int)
    for number, (party, count) in enumerate(wishes):
        simulation.want(f"{party}{number}", count)
        wanted[party] += count
        simulation.run(simulation.now + 0.02)
    simulation.run(simulation.now + 0.05)
    held = dict.fromkeys(wanted, 0)
    for lease in simulation.allocator.holders().values():
        held[str(lease.party)] += lease.is_kept
    coming = total - sum(held.values())
    for party, count in held.items():
        if count < wanted[party]:
            assert count + 1 + coming >= max(held.values())
    assert coming <= 1 or sum(wanted.values()) < total
