"""The allocation of slots: each rule, and random sequences of events; see `test_slot_shares` for the long run."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pserver.daemon.slot_allocator import PATIENCE, QUANTUM, Action, SlotAllocator


def told(actions: Iterable[Action], what: str) -> list[tuple[object, int]]:
    return [(action.session, action.lease) for action in actions if action.what == what]


def start(
    allocator: SlotAllocator, session: str, wanted: int, *, now: float = 0.0, exclusive: bool = False
) -> list[int]:
    """Have a session claim slots, and bind the leases that it gets; its first letter names its network."""
    allocator.claim(session, session[0], wanted, exclusive=exclusive, now=now)
    granted = [lease for who, lease in told(allocator.step(now), "grant") if who == session]
    for lease in granted:
        assert allocator.bind(session, lease)
    return granted


# --- sharing free slots ---


def test_one_alone_gets_what_it_wants_and_no_more_than_there_is() -> None:
    allocator = SlotAllocator(3)
    assert start(allocator, "a", 2) == [1, 2]
    assert start(allocator, "a", 5) == [3]
    assert allocator.used == 3


def test_nobody_gets_a_slot_where_there_is_none() -> None:
    allocator = SlotAllocator(0)
    assert start(allocator, "a", 2) == []
    assert start(allocator, "b", 2, exclusive=True) == []
    assert allocator.due == math.inf


def test_the_poorest_is_first_and_then_who_has_waited_longest() -> None:
    allocator = SlotAllocator(4)
    allocator.claim("a", "a", 2, now=2.0)
    allocator.claim("b", "b", 2, now=1.0)
    allocator.claim("c", "c", 1, now=0.0)
    assert [who for who, _ in told(allocator.step(3.0), "grant")] == ["c", "b", "a", "a"]


def test_the_sessions_of_a_network_are_one_party() -> None:
    allocator = SlotAllocator(4)
    for session in ("a1", "a2", "a3", "b"):
        allocator.claim(session, session[0], 4, now=0.0)
    granted = [who for who, _ in told(allocator.step(0.0), "grant")]
    assert sorted(map(str, granted)) == ["a1", "a2", "b", "b"]


def test_each_lease_has_a_slot_of_its_own_which_is_the_first_free_one() -> None:
    allocator = SlotAllocator(3)
    first, *_ = start(allocator, "a", 2)
    allocator.process_ended(first)
    start(allocator, "a", 0)
    start(allocator, "b", 2, now=5.0)
    holders = {slot: (lease.session, lease.party, lease.since) for slot, lease in allocator.holders().items()}
    assert holders == {1: ("a", "a", 0.0), 0: ("b", "b", 5.0), 2: ("b", "b", 5.0)}


# --- when a slot becomes free ---


def test_a_bound_lease_ends_with_its_process_alone() -> None:
    allocator = SlotAllocator(2)
    bound, unbound = 1, 2
    allocator.claim("a", "a", 2, now=0.0)
    allocator.step(0.0)
    assert allocator.bind("a", bound)
    assert not allocator.bind("a", bound)
    assert not allocator.give_back("a", bound)
    allocator.leave("a")
    assert allocator.holders()[0].is_bound
    assert allocator.used == 1
    assert not allocator.give_back("a", unbound)
    allocator.process_ended(bound)
    assert allocator.used == 0


@pytest.mark.parametrize(("session", "lease"), [("b", 1), ("a", 2), ("a", 0), ("a", -1)])
def test_a_lease_is_the_session_s_to_which_it_was_granted(session: str, lease: int) -> None:
    allocator = SlotAllocator(2)
    allocator.claim("a", "a", 1, now=0.0)
    allocator.claim("b", "b", 0, now=0.0)
    allocator.step(0.0)
    assert not allocator.bind(session, lease)
    assert not allocator.give_back(session, lease)
    assert allocator.used == 1


def test_one_that_cannot_be_told_anything_keeps_its_leases_and_is_asked_for_none() -> None:
    allocator = SlotAllocator(2)
    allocator.claim("a", "a", 2, now=0.0)
    allocator.step(0.0)
    allocator.withdraw("a")
    allocator.claim("b", "b", 2, now=9.0)
    assert allocator.step(9.0) == []
    assert allocator.bind("a", 1)
    assert allocator.give_back("a", 2)
    assert told(allocator.step(9.0), "grant") == [("b", 3)]


# --- asking for slots back ---


def test_of_one_that_has_two_more_the_oldest_is_asked_back_at_once() -> None:
    allocator = SlotAllocator(4)
    allocator.claim("a", "a", 2, now=0.0)
    allocator.step(0.0)
    start(allocator, "a", 4, now=1.0)
    allocator.claim("b", "b", 4, now=2.0)
    assert allocator.step(2.0) == [Action("yield", "a", 1), Action("yield", "a", 2)]
    assert allocator.step(2.0) == []


def test_of_one_that_has_one_more_a_lease_is_asked_back_after_a_while() -> None:
    allocator = SlotAllocator(1)
    start(allocator, "a", 1)
    allocator.claim("b", "b", 1, now=0.5)
    assert allocator.step(0.5) == []
    assert allocator.due == QUANTUM
    assert allocator.step(QUANTUM) == [Action("yield", "a", 1)]
    assert allocator.step(QUANTUM) == []
    allocator.process_ended(1)
    assert allocator.step(1.2) == [Action("grant", "b", 2)]  # the other session wants it as well
    assert allocator.due == 1.2 + QUANTUM


def test_what_nobody_waits_for_is_not_asked_back() -> None:
    allocator = SlotAllocator(3)
    start(allocator, "a", 2)
    start(allocator, "b", 1)
    assert allocator.step(100.0) == []
    assert allocator.due == math.inf


def test_a_network_does_not_ask_itself() -> None:
    allocator = SlotAllocator(2)
    start(allocator, "a1", 2)
    allocator.claim("a2", "a", 2, now=5.0)
    assert allocator.step(100.0) == []


def test_who_waits_for_a_long_job_need_not_wait_while_others_could_give_theirs() -> None:
    allocator = SlotAllocator(2)
    start(allocator, "a", 1)
    start(allocator, "b", 1)
    allocator.claim("c", "c", 1, now=0.0)
    allocator.step(0.0)
    assert allocator.step(QUANTUM) == [Action("yield", "a", 1)]
    assert allocator.step(QUANTUM) == []
    assert allocator.due == QUANTUM + PATIENCE
    assert allocator.step(allocator.due) == [Action("yield", "b", 2)]


def test_the_lease_of_one_who_is_gone_is_not_asked_back() -> None:
    allocator = SlotAllocator(3)
    start(allocator, "a1", 2)
    start(allocator, "a2", 1, now=0.5)
    allocator.leave("a1")
    allocator.claim("b", "b", 1, now=5.0)
    assert allocator.step(5.0) == [Action("yield", "a2", 3)]


# --- exclusive use ---


def test_one_that_wants_to_be_alone_gets_all_when_all_is_free() -> None:
    allocator = SlotAllocator(3)
    first, second = start(allocator, "a", 2)
    allocator.claim("b", "b", 3, exclusive=True, now=1.0)
    assert allocator.step(1.0) == [Action("yield", "a", first), Action("yield", "a", second)]
    allocator.claim("c", "c", 1, now=1.0)
    allocator.process_ended(first)
    assert allocator.step(2.0) == []
    allocator.process_ended(second)
    assert [who for who, _ in told(allocator.step(3.0), "grant")] == ["b", "b", "b"]
    assert allocator.step(100.0) == []
    for lease in allocator.held_by("b"):
        allocator.give_back("b", lease)
    allocator.claim("b", "b", 1, exclusive=True, now=100.0)
    assert [who for who, _ in told(allocator.step(100.0), "grant")] == ["b"]  # still no other session
    allocator.claim("b", "b", 0, exclusive=True, now=101.0)
    assert told(allocator.step(101.0), "grant") == [("a", 7), ("c", 8)]  # it has a slot itself


def test_two_that_want_to_be_alone_have_their_turns_one_after_the_other() -> None:
    allocator = SlotAllocator(2)
    for session, now in (("b", 1.0), ("a", 2.0)):
        allocator.claim(session, session, 2, exclusive=True, now=now)
    assert [who for who, _ in told(allocator.step(3.0), "grant")] == ["b", "b"]
    allocator.claim("b", "b", 1, exclusive=True, now=4.0)
    assert allocator.step(50.0) == []
    allocator.leave("b")
    assert [who for who, _ in told(allocator.step(60.0), "grant")] == ["a", "a"]


def test_who_waits_already_is_not_the_first_of_those_who_want_to_be_alone() -> None:
    allocator = SlotAllocator(1)
    start(allocator, "c", 1)
    allocator.claim("a", "a", 1, now=0.0)
    allocator.claim("b", "b", 1, exclusive=True, now=1.0)
    allocator.claim("a", "a", 1, exclusive=True, now=2.0)
    allocator.step(2.0)
    allocator.process_ended(1)
    assert told(allocator.step(3.0), "grant") == [("b", 2)]


# --- another number of slots ---


def test_more_slots_are_granted_at_once() -> None:
    allocator = SlotAllocator(1)
    start(allocator, "a", 3)
    allocator.resize(3)
    assert told(allocator.step(0.0), "grant") == [("a", 2), ("a", 3)]


def test_of_fewer_slots_the_parties_with_the_most_give_some_back() -> None:
    allocator = SlotAllocator(4)
    start(allocator, "a", 3)
    start(allocator, "b", 1)
    for total in (1, 2):  # more than after the first change, but still less than before it
        allocator.resize(total)
    assert allocator.step(1.0) == [Action("yield", "a", 1), Action("yield", "a", 2)]
    assert allocator.step(1.5) == []
    for lease in (1, 2):
        allocator.process_ended(lease)
    assert (allocator.step(2.0), allocator.used) == ([], 2)  # "a" wants three, and there are only three
    allocator.process_ended(3)
    assert told(allocator.step(2.0), "grant") == [("a", 5)]


def test_no_slots_at_all_take_all_back_also_from_one_that_has_the_server_for_itself() -> None:
    allocator = SlotAllocator(2)
    start(allocator, "a", 2, exclusive=True)
    allocator.resize(0)
    assert told(allocator.step(1.0), "yield") == [("a", 1), ("a", 2)]


# --- random events ---


NAMES = st.sampled_from(["a1", "a2", "b1", "c1", "c2"])


class AnyCourse(RuleBasedStateMachine):
    """An allocator, with a simple record of the leases of each session to compare with."""

    def __init__(self) -> None:
        super().__init__()
        self.allocator = SlotAllocator(0)
        self.now = 0.0
        self.unbound: dict[int, str] = {}
        self.bound: dict[int, str] = {}
        self.asked: set[int] = set()
        self.wanted: dict[str, int] = {}
        self.numbers = self.most = 0  # the largest number of slots so far, and of allowed leases

    @initialize(total=st.integers(0, 5))
    def open(self, total: int) -> None:
        self.allocator = SlotAllocator(total)
        self.numbers = self.most = total

    @rule(total=st.integers(0, 5))
    def resize(self, total: int) -> None:
        self.allocator.resize(total)
        self.numbers, self.most = max(self.numbers, total), max(total, self.allocator.used)

    @rule(name=NAMES, wanted=st.integers(0, 6), exclusive=st.booleans())
    def claim(self, name: str, wanted: int, exclusive: bool) -> None:
        self.wanted[name] = wanted
        self.allocator.claim(name, name[0], wanted, exclusive=exclusive, now=self.now)

    @rule(name=NAMES)
    def leave(self, name: str) -> None:
        self.allocator.leave(name)
        self.wanted.pop(name, None)
        self.unbound = {lease: who for lease, who in self.unbound.items() if who != name}

    @rule(name=NAMES)
    def withdraw(self, name: str) -> None:
        self.allocator.withdraw(name)
        self.wanted.pop(name, None)

    @rule(name=NAMES, lease=st.integers(0, 20))
    def bind(self, name: str, lease: int) -> None:
        assert self.allocator.bind(name, lease) == (self.unbound.get(lease) == name)
        if self.unbound.get(lease) == name:
            self.bound[lease] = self.unbound.pop(lease)

    @rule(name=NAMES, lease=st.integers(0, 20))
    def give_back(self, name: str, lease: int) -> None:
        assert self.allocator.give_back(name, lease) == (self.unbound.get(lease) == name)
        if self.unbound.get(lease) == name:
            del self.unbound[lease]

    @rule(number=st.integers(0, 4))
    def end_a_process(self, number: int) -> None:
        for lease in sorted(self.bound)[number : number + 1]:
            self.allocator.process_ended(lease)
            del self.bound[lease]

    @rule(seconds=st.floats(0.0, 3.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def step(self) -> None:
        for what, session, lease in self.allocator.step(self.now):
            name = str(session)
            if what == "grant":
                assert lease not in self.unbound | self.bound
                self.unbound[lease] = name
                assert len(set(self.allocator.held_by(name)) - self.asked) <= self.wanted[name]
            else:
                assert name in self.wanted
                assert (self.unbound | self.bound)[lease] == name
                assert lease not in self.asked
                self.asked.add(lease)
        held = self.unbound | self.bound
        kept = {lease for lease in held if lease not in self.asked}
        assert len(kept) <= self.allocator.total or all(held[lease] not in self.wanted for lease in kept)
        assert self.allocator.step(self.now) == []  # nothing more to send
        assert self.allocator.due > self.now

    @invariant()
    def no_slot_is_lost_or_given_twice(self) -> None:
        holders = self.allocator.holders()
        assert self.allocator.used == len(holders) == len(self.unbound | self.bound) <= self.most
        assert set(holders) <= set(range(self.numbers))
        self.most = max(self.allocator.total, self.allocator.used)
        for name in ("a1", "a2", "b1", "c1", "c2"):
            its = sorted(lease for lease, who in (self.unbound | self.bound).items() if who == name)
            assert sorted(self.allocator.held_by(name)) == its


TestAnyCourse = AnyCourse.TestCase
TestAnyCourse.settings = settings(stateful_step_count=40)


def test_a_lease_of_another_daemon_is_taken_over() -> None:
    allocator = SlotAllocator(2, 100)
    allocator.claim("a", "net", 1, now=0.0)
    assert allocator.adopt("a", "net", 7, is_bound=True, now=0.0)
    assert (allocator.used, allocator.step(0.0)) == (1, [])
    allocator.claim("b", "other", 2, now=0.0)
    assert [action.lease for action in allocator.step(0.0)] == [101]
    assert not allocator.adopt("b", "other", 7, is_bound=True, now=0.0)


def test_more_leases_than_slots_may_come_back_and_then_none_is_granted() -> None:
    allocator = SlotAllocator(1, 6)
    for lease in (5, 6):
        assert allocator.adopt("a", "net", lease, is_bound=True, now=0.0)
    assert sorted(allocator.holders()) == [0, 1]
    allocator.claim("b", "other", 1, now=0.0)
    allocator.process_ended(5)
    assert allocator.step(0.0) == []
    allocator.process_ended(6)
    assert [action.lease for action in allocator.step(0.0)] == [7]


def test_a_session_that_comes_back_under_another_name_keeps_its_lease() -> None:
    allocator = SlotAllocator(1)
    allocator.claim("a", "net", 1, now=0.0)
    [grant] = allocator.step(0.0)
    allocator.bind("a", grant.lease)
    allocator.leave("a")
    assert allocator.adopt("a again", "net", grant.lease, is_bound=False, now=1.0)
    assert allocator.held_by("a again") == [grant.lease]
    assert not allocator.give_back("a again", grant.lease)  # it has a process


@pytest.mark.parametrize("lease", [0, -1, 8, 2**70])
def test_a_lease_that_no_daemon_has_granted_is_not_taken_over(lease: int) -> None:
    allocator = SlotAllocator(1, 7)
    assert not allocator.adopt("a", "net", lease, is_bound=True, now=0.0)
    assert allocator.used == 0
    allocator.claim("b", "other", 1, now=0.0)
    assert [action.lease for action in allocator.step(0.0)] == [8]


@pytest.mark.parametrize(("total", "most"), [(1, 1024), (1030, 1030)])
def test_so_many_leases_come_back_and_no_more(total: int, most: int) -> None:
    allocator = SlotAllocator(total, 2000)
    taken = [allocator.adopt("a", "net", lease, is_bound=False, now=0.0) for lease in range(1, 1100)]
    assert sum(taken) == allocator.used == most
    assert allocator.adopt("a again", "net", 1, is_bound=False, now=0.0)  # the lease is one of these
