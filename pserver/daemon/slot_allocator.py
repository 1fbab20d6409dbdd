"""Allocates slots to sessions: how networks share the processors of one server. No I/O.

A *slot* is permission to run one process for jobs. A *lease* is a slot granted to a session. The sessions of one
network count as one *party*. While the parties want more slots than the server has, their shares differ by at most one
slot, and they take turns with that slot.

A lease ends when the system reports the end of its process. If it has no process yet, it ends when the session gives it
back or is gone. If a process outlives its session, its lease ends after a while, as if the process had ended.
"""

import itertools
import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple

QUANTUM = 1.0  # seconds that a party keeps a slot while another party with one slot less waits for it
PATIENCE = 2.0  # seconds for which a slot counts as free after it was asked back
_MOST_ADOPTED = 1024  # leases, even with fewer slots: the previous daemon may have had more
_MOST_REMEMBERED = 8192  # leases whose slots are remembered


class Action(NamedTuple):
    """A message to a session about a lease."""

    what: Literal["grant", "yield"]
    session: Hashable
    lease: int


@dataclass
class _Claim:
    """The slots that a session wants."""

    party: Hashable
    wanted: int
    exclusive: bool
    since: float  # when it started to wait
    exclusive_since: float


@dataclass
class Lease:
    """A slot that was granted."""

    slot: int  #: number of the slot, from 0
    session: Hashable  #: the holder
    party: Hashable
    since: float  #: when it was granted
    is_bound: bool = False  #: whether it has a process
    asked_back: float = math.inf  #: when the session was asked to end it; infinite: never

    @property
    def is_kept(self) -> bool:
        """Whether the session may keep it: it was not asked back."""
        return self.asked_back == math.inf


class SlotAllocator:
    """The slots of one server.

    `last_lease`: new leases have numbers after this one; adopted leases have numbers up to it.

    Examples
    --------
    >>> allocator = SlotAllocator(3)
    >>> allocator.claim("session a", "network a", 3, now=0.0)
    >>> [action.lease for action in allocator.step(0.0)]
    [1, 2, 3]
    >>> allocator.claim("session b", "network b", 3, now=1.0)
    >>> allocator.step(1.0)
    [Action(what='yield', session='session a', lease=1)]
    """

    def __init__(self, total: int, last_lease: int = 0) -> None:
        self.total = total
        self._is_paused = False
        self._claims: dict[Hashable, _Claim] = {}
        self._leases: dict[int, Lease] = {}
        self._since: dict[Hashable, float] = {}  # when a party started to wait, or had its last turn
        self._last_lease = last_lease
        self._slots: dict[
            int, tuple[int, Hashable]
        ] = {}  # the slot and the party by lease, ended leases included
        # Whether to ask leases back because there are fewer slots; not after an adoption of too many leases.
        self._has_shrunk = False
        #: When `step` next has something to do, even without an event.
        self.due = math.inf

    @property
    def used(self) -> int:
        """The number of leased slots."""
        return len(self._leases)

    def resize(self, total: int) -> None:
        """Change the number of slots.

        `step` grants additional slots immediately. If there are fewer slots, it asks the parties with the most leases
        to give some back, as it does for a waiting party; they keep these leases until the processes end.
        """
        if total < self.total:
            self._has_shrunk = True
        self.total = total

    def pause(self, *, is_paused: bool) -> None:
        """Stop granting slots and ask all leases back, or resume; see `resize`."""
        if is_paused and not self._is_paused:
            self._has_shrunk = True
        self._is_paused = is_paused

    @property
    def _most(self) -> int:
        """The number of leases allowed now."""
        return 0 if self._is_paused else self.total

    def holders(self) -> dict[int, Lease]:
        """Return the leases by slot."""
        return {lease.slot: lease for lease in self._leases.values()}

    def slot_of(self, party: Hashable, lease: int) -> int | None:
        """Return the slot of a present or former lease; ``None`` if it was never the party's, or is forgotten."""
        slot, whose = self._slots.get(lease, (None, None))
        return slot if whose == party else None

    @property
    def waiting(self) -> int:
        """The number of slots that sessions want and do not have."""
        held = self._held()
        return sum(max(0, claim.wanted - held[session]) for session, claim in self._claims.items())

    def _remember(self, lease: int) -> None:
        found = self._leases[lease]
        self._slots[lease] = found.slot, found.party
        if len(self._slots) > _MOST_REMEMBERED:
            del self._slots[next(iter(self._slots))]

    def held_by(self, session: Hashable) -> list[int]:
        """Return the leases of a session."""
        return [number for number, lease in self._leases.items() if lease.session == session]

    def claim(
        self, session: Hashable, party: Hashable, wanted: int, *, exclusive: bool = False, now: float
    ) -> None:
        """Record how many slots a session wants in total, and whether its party wants the whole server."""
        before = self._claims.get(session)
        since = now if before is None or not before.wanted else before.since
        exclusive = exclusive and wanted > 0
        if not any(claim.wanted for claim in self._claims.values() if claim.party == party):
            self._since[party] = now
        exclusive_since = before.exclusive_since if before is not None and before.exclusive else now
        self._claims[session] = _Claim(party, max(0, wanted), exclusive, since, exclusive_since)

    def withdraw(self, session: Hashable) -> None:
        """Record that a session wants no slots and reads no messages; its leases end as usual."""
        claim = self._claims.pop(session, None)
        if claim is not None and all(other.party != claim.party for other in self._claims.values()):
            del self._since[claim.party]

    def leave(self, session: Hashable) -> None:
        """Record that a session is gone: leases without a process end now, the others with their processes."""
        self.withdraw(session)
        for number in self.held_by(session):
            if not self._leases[number].is_bound:
                del self._leases[number]

    def bind(self, session: Hashable, lease: int) -> bool:
        """Record that a lease has a process; false if it is another session's lease, or already has a process."""
        if not self._is_unbound(session, lease):
            return False
        self._leases[lease].is_bound = True
        return True

    def adopt(self, session: Hashable, party: Hashable, lease: int, *, is_bound: bool, now: float) -> bool:
        """Take over a lease that another daemon granted, or that the session held under another name.

        False if another party has it, if no daemon granted it, or if there are too many. Afterwards, there may be more
        leases than slots; until enough of them end, no more are granted.
        """
        found = self._leases.get(lease)
        if found is None:
            if not 0 < lease <= self._last_lease or self.used >= max(self.total, _MOST_ADOPTED):
                return False
            slots = self.holders().keys()
            slot = next(slot for slot in itertools.count() if slot not in slots)
            self._leases[lease] = Lease(slot, session, party, now, is_bound)
            self._remember(lease)
            return True
        if found.party != party:
            return False
        found.session = session
        found.is_bound = found.is_bound or is_bound
        return True

    def give_back(self, session: Hashable, lease: int) -> bool:
        """End a lease without a process; false if it is another session's lease, or has a process."""
        if not self._is_unbound(session, lease):
            return False
        del self._leases[lease]
        return True

    def may_have_had(self, session: Hashable, lease: int) -> bool:
        """Whether a lease is a session's; for a lease that has ended, whether it can have been."""
        found = self._leases.get(lease)
        return 0 < lease <= self._last_lease if found is None else found.session == session

    def _is_unbound(self, session: Hashable, lease: int) -> bool:
        found = self._leases.get(lease)
        return found is not None and found.session == session and not found.is_bound

    def process_ended(self, lease: int) -> None:
        """End a lease because its process has ended."""
        self._leases.pop(lease, None)

    # --- sharing ---

    def step(self, now: float) -> list[Action]:
        """Return the messages that are due now, and update the leases as if they had been sent."""
        self.due = math.inf
        alone = self._first_exclusive()
        actions: list[Action] = []
        if alone is not None:
            actions += self._ask_back_others(alone, now)
        while (lease := self._grant(alone, now)) is not None:
            actions.append(lease)
        while (action := self._ask_back_surplus(now)) is not None:
            actions.append(action)
        if alone is None:
            while (action := self._ask_back(now)) is not None:
                actions.append(action)
        return actions

    def _ask_back_surplus(self, now: float) -> Action | None:
        """Ask the party with the most leases for one, if there are more leases than slots."""
        kept = [(number, lease) for number, lease in self._leases.items() if lease.is_kept]
        able = [(number, lease) for number, lease in kept if lease.session in self._claims]
        if len(kept) <= self._most:
            self._has_shrunk = False
        if not self._has_shrunk or not able:
            return None
        parties = self._by_party(self._held())
        number, _ = min(able, key=lambda each: (-parties[each[1].party], each[1].since, each[0]))
        return self._ask_for(number, now)

    def _first_exclusive(self) -> Hashable | None:
        """Return the party that gets the whole server, if any."""
        waiting = [claim for claim in self._claims.values() if claim.exclusive]
        return min(waiting, key=lambda claim: claim.exclusive_since).party if waiting else None

    def _ask_back_others(self, alone: Hashable, now: float) -> list[Action]:
        return [
            self._ask_for(number, now)
            for number, lease in self._leases.items()
            if lease.party != alone and lease.is_kept and lease.session in self._claims
        ]

    def _ask_for(self, number: int, now: float) -> Action:
        lease = self._leases[number]
        lease.asked_back = now
        self._claims[lease.session].since = self._since[lease.party] = now
        return Action("yield", lease.session, number)

    def _grant(self, alone: Hashable | None, now: float) -> Action | None:
        """Grant one free slot to the next session, if there is a free slot and a waiting session."""
        if self.used >= self._most:
            return None
        if alone is not None and any(lease.party != alone for lease in self._leases.values()):
            return None
        session = self._next_session(self._held(), alone)
        if session is None:
            return None
        claim = self._claims[session]
        claim.since = self._since[claim.party] = now
        self._last_lease += 1
        slot = min(set(range(self.total)) - self.holders().keys())
        self._leases[self._last_lease] = Lease(slot, session, claim.party, now)
        self._remember(self._last_lease)
        return Action("grant", session, self._last_lease)

    def _held(self) -> dict[Hashable, int]:
        """Return the number of leases that each session may keep."""
        held = dict.fromkeys(self._claims, 0)
        for lease in self._leases.values():
            if lease.is_kept and lease.session in held:
                held[lease.session] += 1
        return held

    def _next_session(self, held: dict[Hashable, int], alone: Hashable | None = None) -> Hashable | None:
        """Return the session that gets the next slot."""
        waiting = [
            session
            for session, claim in self._claims.items()
            if claim.wanted > held[session] and alone in {None, claim.party}
        ]
        if not waiting:
            return None
        parties = self._by_party(held)
        return min(
            waiting,
            key=lambda session: (
                parties[self._claims[session].party],
                self._since[self._claims[session].party],
                held[session],
                self._claims[session].since,
            ),
        )

    def _by_party(self, held: dict[Hashable, int]) -> dict[Hashable, int]:
        parties: dict[Hashable, int] = {}
        for session, count in held.items():
            party = self._claims[session].party
            parties[party] = parties.get(party, 0) + count
        return parties

    def _ask_back(self, now: float) -> Action | None:
        """Ask the party with the most leases for one, if it has more than its share and other parties wait."""
        held = self._held()
        is_moving = self._foresee(held, now)
        poor = self._next_session(held)
        if poor is None:
            return None
        parties = self._by_party(held)
        most = max(parties.values())
        difference = most - parties[self._claims[poor].party]
        rich = [
            (lease.since, number)
            for number, lease in self._leases.items()
            if lease.is_kept and lease.session in self._claims and parties[lease.party] == most
        ]
        if not rich or difference < 1 or (difference == 1 and is_moving):  # one turn at a time
            return None
        since, number = min(rich)
        if difference == 1 and now < since + QUANTUM:
            self.due = min(self.due, since + QUANTUM)
            return None
        return self._ask_for(number, now)

    def _foresee(self, held: dict[Hashable, int], now: float) -> bool:
        """Add the slots that will be free soon to the counts in `held`; false if there are none."""
        ends = [lease.asked_back + PATIENCE for lease in self._leases.values() if not lease.is_kept]
        ends = [end for end in ends if now < end]
        coming = self.total - self.used + len(ends)
        # Jobs can be long. After `PATIENCE`, another slot may be free sooner than the one that was asked back.
        self.due = min(self.due, *ends, math.inf)
        is_moving = coming > 0
        while coming > 0 and (session := self._next_session(held)) is not None:
            held[session] += 1
            coming -= 1
        return is_moving
