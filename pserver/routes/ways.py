"""How an engine gets to the other nodes: where they may be, and in which way they were reached."""

from collections.abc import Sequence
from typing import Any

from pconnect.link.race import Place
from pconnect.values.decoder import unpack

# Of the time for connections: a place that answers nothing must leave enough of it for the other direction, and for a
# relay, see doc/protocol.md, "Ways".
_PLACE_PART = 1 / 6
# A system sends the first packet of a connection again after 1 and 3 seconds.
_PLACE_SECONDS = 3.5


class Ways:
    """The places of all nodes. `nodes`: host and places of each from 1, packed; `own`: the number of this one."""

    def __init__(self, nodes: bytes, own: int, timeout: float) -> None:
        told: Any = unpack(nodes)
        self.hosts = ["client", *(host for host, _ in told)]  #: by node
        #: How long a place may take to answer.
        self.place_seconds = min(_PLACE_SECONDS, timeout * _PLACE_PART)
        self.unusual: dict[
            int, str
        ] = {}  #: nodes that were not reached at their first place, and how they were
        self._places = [_pairs(places) for _, places in told]
        self._own = own

    def change(self, node: int, host: str, places: Any) -> None:
        """Take in another node, which has the next number, or other places of one."""
        if node == len(self.hosts):
            self.hosts.append(host)
            self._places.append([])
        self._places[node - 1] = _pairs(places)

    def remove(self, node: int) -> None:
        """Forget where a node is that was removed from the network."""
        self._places[node - 1] = []

    @property
    def removed(self) -> dict[int, str]:
        """The hosts of the nodes that were removed from the network, which have no place."""
        return {node: self.hosts[node] for node, places in enumerate(self._places, 1) if not places}

    def places(self, node: int) -> list[Place]:
        """Return where a node may be, the best place first.

        Two machines behind one router have its address in common, and others not; they are tried first, because a
        router that lets packets back in is slow.
        """
        found, own = self._places[node - 1], self._places[self._own - 1]
        common = _names(found) & _names(own)
        if found and found[0][0] in common and _names(found) - common and _names(own) - common:
            return sorted(found, key=lambda place: place[0] in common)
        return found

    def note(self, node: int, place: Place) -> None:
        """Note where a node was reached."""
        self.unusual.pop(node, None)
        if place != self._places[node - 1][0]:
            self.unusual[node] = f"at {place[0]} port {place[1]}"

    def facts(self) -> dict[str, dict[str, str]]:
        """Return what the client is told, which is nothing if all is as usual."""
        return {"routes": {str(node): how for node, how in self.unusual.items()}} if self.unusual else {}


def _pairs(places: Any) -> list[Place]:
    return [(name, port) for name, port in places]


def _names(places: Sequence[Place]) -> set[str]:
    return {name for name, _ in places}
