"""An engine's addresses for other nodes: where they may be, and where they were reached."""

from collections.abc import Sequence
from typing import Any

from pconnect.link.race import Place
from pconnect.values.decoder import unpack

# Part of the time for connections: a place that does not answer must leave enough of it for the other direction, and
# for a relay, see doc/protocol.md, "Ways".
_PLACE_PART = 1 / 6
# Systems resend the first packet of a connection after 1 and 3 seconds.
_PLACE_SECONDS = 3.5


class Ways:
    """The places of all nodes. `nodes`: host and places of each from 1 on, packed. `own`: the number of this node."""

    def __init__(self, nodes: bytes, own: int, timeout: float) -> None:
        told: Any = unpack(nodes)
        self.hosts = ["client", *(host for host, _ in told)]  #: by node
        #: Seconds for a place to answer.
        self.place_seconds = min(_PLACE_SECONDS, timeout * _PLACE_PART)
        self.unusual: dict[int, str] = {}  #: nodes not reached at their first place, and where they were
        self._places = [_pairs(places) for _, places in told]
        self._own = own

    def change(self, node: int, host: str, places: Any) -> None:
        """Add a node with the next number, or change the host and places of an existing one."""
        if node == len(self.hosts):
            self.hosts.append(host)
            self._places.append([])
        self._places[node - 1] = _pairs(places)

    def remove(self, node: int) -> None:
        """Forget the places of a node that was removed from the network."""
        self._places[node - 1] = []

    @property
    def removed(self) -> dict[int, str]:
        """The hosts of nodes that were removed from the network, which have no places."""
        return {node: self.hosts[node] for node, places in enumerate(self._places, 1) if not places}

    def places(self, node: int) -> list[Place]:
        """Return the places where a node may be, the best one first.

        Two machines behind one router share its address, but also have others. The others are tried first, because a
        router is slow if it loops packets back at all.
        """
        found, own = self._places[node - 1], self._places[self._own - 1]
        common = _names(found) & _names(own)
        if found and found[0][0] in common and _names(found) - common and _names(own) - common:
            return sorted(found, key=lambda place: place[0] in common)
        return found

    def note(self, node: int, place: Place) -> None:
        """Record where a node was reached."""
        self.unusual.pop(node, None)
        if place != self._places[node - 1][0]:
            self.unusual[node] = f"at {place[0]} port {place[1]}"

    def facts(self) -> dict[str, dict[str, str]]:
        """Return the facts for the client; empty if every node was reached at its first place."""
        return {"routes": {str(node): how for node, how in self.unusual.items()}} if self.unusual else {}


def _pairs(places: Any) -> list[Place]:
    return [(name, port) for name, port in places]


def _names(places: Sequence[Place]) -> set[str]:
    return {name for name, _ in places}
