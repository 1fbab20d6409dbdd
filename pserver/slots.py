"""Who has which slot: the arithmetic of sharing the processors of one server between networks. No I/O.

A *slot* is permission to run one process for jobs. A *lease* is a slot that was granted to a session. The sessions of
one network count as one *party*. While parties want more than there is, each gets the same within one; and where that
one makes a difference, they take turns.

A lease ends when its process has ended, as the system says, or, before there is a process, when it is given back or its
session is gone. Nothing else ends it.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple

QUANTUM = 1.0  # seconds that one keeps a slot for which another waits who has one less


class Action(NamedTuple):
    """What a session is to be told of a lease."""

    what: Literal["grant", "yield"]
    session: Hashable
    lease: int


@dataclass
class _Claim:
    """What a session wants."""

    party: Hashable
    wanted: int
    exclusive: bool
    since: float  # when it began to wait


@dataclass
class _Lease:
    session: Hashable
    party: Hashable
    since: float
    is_bound: bool = False
    asked_back: bool = False


class Ledger:
    """The slots of one server.

    Parameters
    ----------
    total
        How many there are.

    Examples
    --------
    >>> ledger = Ledger(3)
    >>> ledger.claim("session a", "network a", 3, now=0.0)
    >>> [action.lease for action in ledger.step(0.0)]
    [1, 2, 3]
    >>> ledger.claim("session b", "network b", 3, now=1.0)
    >>> ledger.step(1.0)
    [Action(what='yield', session='session a', lease=1)]
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._claims: dict[Hashable, _Claim] = {}
        self._leases: dict[int, _Lease] = {}
        self._last_lease = 0
        #: When `step` has something to do next, whatever happens.
        self.due = math.inf

    @property
    def used(self) -> int:
        """How many slots are leased."""
        return len(self._leases)

    def held_by(self, session: Hashable) -> list[int]:
        """Return the leases of a session."""
        return [number for number, lease in self._leases.items() if lease.session == session]

    def claim(
        self, session: Hashable, party: Hashable, wanted: int, *, exclusive: bool = False, now: float
    ) -> None:
        """Take note of how many slots a session wants in all, and whether its party wants to be alone."""
        before = self._claims.get(session)
        since = now if before is None or not before.wanted else before.since
        self._claims[session] = _Claim(party, max(0, wanted), exclusive and wanted > 0, since)

    def leave(self, session: Hashable) -> None:
        """Take note that a session is gone; its leases without a process end, the others with their processes."""
        self._claims.pop(session, None)
        for number in self.held_by(session):
            if not self._leases[number].is_bound:
                del self._leases[number]

    def bind(self, session: Hashable, lease: int) -> bool:
        """Take note that there is a process for a lease; false if it is not the session's, or has one already."""
        found = self._leases.get(lease)
        if found is None or found.session != session or found.is_bound:
            return False
        found.is_bound = True
        return True

    def give_back(self, session: Hashable, lease: int) -> bool:
        """End a lease without a process; false if it is none of the session's."""
        found = self._leases.get(lease)
        if found is None or found.session != session or found.is_bound:
            return False
        del self._leases[lease]
        return True

    def process_ended(self, lease: int) -> None:
        """End a lease with its process."""
        self._leases.pop(lease, None)

    # --- sharing ---

    def step(self, now: float) -> list[Action]:
        """Return what is to be told to whom now, as it has been told."""
        self.due = math.inf
        alone = self._first_exclusive()
        actions: list[Action] = []
        if alone is not None:
            actions += self._ask_back_others(alone)
        while (lease := self._grant(alone, now)) is not None:
            actions.append(lease)
        if alone is None:
            while (action := self._ask_back(now)) is not None:
                actions.append(action)
        return actions

    def _first_exclusive(self) -> Hashable | None:
        """Return the party that is to be alone, if there is one."""
        waiting = [claim for claim in self._claims.values() if claim.exclusive]
        return min(waiting, key=lambda claim: claim.since).party if waiting else None

    def _ask_back_others(self, alone: Hashable) -> list[Action]:
        actions = []
        for number, lease in self._leases.items():
            if lease.party != alone and not lease.asked_back:
                lease.asked_back = True
                actions.append(Action("yield", lease.session, number))
        return actions

    def _grant(self, alone: Hashable | None, now: float) -> Action | None:
        """Grant one free slot to who is next, if there is one of both."""
        if self.used >= self.total:
            return None
        if alone is not None and any(lease.party != alone for lease in self._leases.values()):
            return None
        session = self._next_session(self._held(), alone)
        if session is None:
            return None
        claim = self._claims[session]
        claim.since = now
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(session, claim.party, now)
        return Action("grant", session, self._last_lease)

    def _held(self) -> dict[Hashable, int]:
        """Return how many leases each session keeps."""
        held = dict.fromkeys(self._claims, 0)
        for lease in self._leases.values():
            if not lease.asked_back and lease.session in held:
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
        """Ask the richest party for one lease, if it has too many for those who wait."""
        held = self._held()
        coming = self.total - sum(held.values()) - self._held_by_the_gone()
        is_moving = coming > 0
        while coming > 0 and (session := self._next_session(held)) is not None:
            held[session] += 1
            coming -= 1
        poor = self._next_session(held)
        if poor is None or not self.total:
            return None
        parties = self._by_party(held)
        most = max(parties.values())
        difference = most - parties[self._claims[poor].party]
        if difference < 1:
            return None
        rich = [
            (lease.since, number)
            for number, lease in self._leases.items()
            if not lease.asked_back and parties.get(lease.party) == most
        ]
        if not rich:
            return None
        since, number = min(rich)
        if difference == 1 and is_moving:
            return None  # one turn at a time
        if difference == 1 and now < since + QUANTUM:
            self.due = min(self.due, since + QUANTUM)
            return None
        lease = self._leases[number]
        lease.asked_back = True
        claim = self._claims.get(lease.session)
        if claim is not None:
            claim.since = now
        return Action("yield", lease.session, number)

    def _held_by_the_gone(self) -> int:
        return sum(lease.session not in self._claims for lease in self._leases.values())
