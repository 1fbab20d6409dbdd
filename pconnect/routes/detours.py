"""Detours for two engines of which one cannot dial the other: the client, which hears from both, decides. No I/O.

Usually the node with the lower number dials. If it cannot, the other one does. If that fails too, a relay forwards the
data of both: another node that both are connected to, preferably a server, or else the client, which is connected to
every node. The two nodes and the relay each open the connections that they can: a node that has dialed another one
before does so again.

A node reports that it cannot reach another one; the client never guesses. So an ordinary network needs no detours, and
there are never two links.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple

Pair = tuple[int, int]  #: two nodes, the lower number first
CLIENT = 0
# If three relays cannot connect two nodes, others will probably fail too.
_MOST_RELAYS = 3


class Dial(NamedTuple):
    """One node should dial another one."""

    node: int
    other: int


class Relay(NamedTuple):
    """A node, or the client, should relay two nodes."""

    relay: int
    pair: Pair
    dialled: tuple[int, ...]  #: those of the two that the relay dials; the other ones dial it


class GiveUp(NamedTuple):
    """Two nodes should learn that there is no route."""

    pair: Pair
    why: str


@dataclass
class _Detour:
    """The attempts to connect two nodes, and the lessons for the next time."""

    reasons: list[str] = field(default_factory=list)
    tried: list[int] = field(default_factory=list)  # relays; the last one is in use
    dialler: int | None = None  #: which of the two was asked to dial; ``None``: the usual one
    is_apart: bool = False  #: whether neither can dial the other
    is_over: bool = False

    @property
    def relay(self) -> int | None:
        """The relay in use; ``None`` without one."""
        return self.tried[-1] if self.tried and not self.is_over else None

    def begin(self, why: str) -> None:
        """Start over with the first failed attempt."""
        self.reasons, self.tried, self.is_over = [why], [], False


class Detours:
    """The detours of one network. `living`: returns the nodes that could be a relay now."""

    def __init__(self, living: Callable[[], Collection[int]]) -> None:
        self._living = living
        self._detours: dict[Pair, _Detour] = {}

    @property
    def relays(self) -> dict[Pair, int]:
        """The relay of each pair of nodes that has one."""
        found = {pair: detour.relay for pair, detour in self._detours.items()}
        return {pair: relay for pair, relay in found.items() if relay is not None}

    def forget(self, node: int) -> None:
        """Forget the relays of a node that starts over; which node can dial which has probably not changed."""
        for pair, detour in self._detours.items():
            if node in pair:
                detour.tried.clear()

    def remove(self, node: int) -> list[Pair]:
        """Forget a node that is gone for good; return the pairs of other nodes that it relayed.

        They have no route now. A pair gets another relay when one of its nodes starts over.
        """
        for pair in [pair for pair in self._detours if node in pair]:
            del self._detours[pair]
        cut = [pair for pair, relay in self.relays.items() if relay == node]
        for pair, detour in self._detours.items():
            detour.tried = [] if pair in cut else [relay for relay in detour.tried if relay != node]
        return cut

    def beyond(self, node: int) -> list[int]:
        """Return the nodes that a node cannot dial, as far as is known."""
        known = {
            (pair[0] if node == pair[1] else pair[1]): d for pair, d in self._detours.items() if node in pair
        }
        return sorted(other for other, d in known.items() if d.is_apart or d.dialler == other)

    def missed(self, node: int, other: int, why: str, relay: int = CLIENT) -> Dial | Relay | GiveUp | None:
        """Return the next step after a node could not reach another one, or `relay`, the relay to that node.

        A node dials another one when it starts, or on request: in the first case, everything starts over.
        """
        pair = min(node, other), max(node, other)
        detour = self._detours.setdefault(pair, _Detour())
        if relay and relay != detour.relay:
            return None  # this concerns an earlier relay, which both failed to reach
        is_settled = bool(detour.tried) or detour.is_over or not detour.reasons
        has_just_begun = not relay and (is_settled or detour.dialler != node)
        if has_just_begun:
            detour.begin(why)
        else:
            detour.reasons.append(why)
        if other not in self._living() or node not in self._living():
            return self._give_up(pair)
        if has_just_begun and not detour.is_apart:
            detour.dialler = other
            return Dial(other, node)
        detour.is_apart = True
        return self._next_relay(pair)

    def relay_failed(self, relay: int, pair: Pair, why: str) -> Relay | GiveUp | None:
        """Return the next step after a relay could not connect two nodes."""
        detour = self._detours.get(pair)
        if detour is None or detour.relay != relay:
            return None
        detour.reasons.append(why)
        return self._next_relay(pair)

    def _next_relay(self, pair: Pair) -> Relay | GiveUp:
        detour = self._detours[pair]
        if CLIENT in detour.tried:
            return self._give_up(pair)
        used = Counter(self.relays.values())
        candidates = [
            node
            for node in self._living()
            if node not in (*pair, *detour.tried)
            and not any(self._are_apart(node, end) for end in pair)
            and len(detour.tried) < _MOST_RELAYS
        ]
        relay = min(candidates, key=lambda node: (used[node], node), default=CLIENT)
        detour.tried.append(relay)
        dialled = tuple(end for end in pair if relay == CLIENT or self._dials(relay, end))
        return Relay(relay, pair, dialled)

    def _give_up(self, pair: Pair) -> GiveUp:
        detour = self._detours[pair]
        detour.is_over = True
        return GiveUp(pair, "; ".join(detour.reasons))

    def _are_apart(self, node: int, other: int) -> bool:
        """Whether two nodes have no direct connection, as far as is known."""
        detour = self._detours.get((min(node, other), max(node, other)))
        return detour is not None and (detour.is_apart or detour.is_over)

    def _dials(self, node: int, other: int) -> bool:
        """Whether the first of two nodes is the one that dials."""
        detour = self._detours.get((min(node, other), max(node, other)))
        if detour is None or detour.dialler is None:
            return node < other
        return detour.dialler == node
