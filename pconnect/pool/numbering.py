"""The numbers of nodes whose servers are found one after the other. No I/O here.

A node's number is in the certificate that it gets in its login, so it must be known then; and numbers have no holes. So
the servers of a round take their numbers in their order, each when all before it have theirs or have failed. One that
does not wait any longer takes the next number, and those before it come behind.
"""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Numbering(Generic[T]):
    """`places`: the servers in the order of their nodes; one that has several nodes is there so often."""

    def __init__(self, places: Sequence[T], first: int = 1) -> None:
        self._places = places
        self._order = list(dict.fromkeys(places))
        self._ranks = {server: rank for rank, server in enumerate(self._order)}
        self._first_open = 0  # the rank of the first server that has not been decided
        self._decided: dict[
            T, bool
        ] = {}  # whether each has come; those of which nothing is known are missing
        self._nodes: dict[int, int] = {}  # by place
        self._next = first

    def is_turn(self, server: T) -> bool:
        """Whether all servers before this one have been decided."""
        while self._first_open < len(self._order) and self._order[self._first_open] in self._decided:
            self._first_open += 1
        return self._ranks[server] <= self._first_open

    def take(self, server: T) -> int:
        """Return the number of the first node of a server that has come."""
        self._decided[server] = True
        first = self._places.index(server)
        self._number(first)
        return self._nodes[first]

    def fail(self, server: T) -> None:
        """Record that a server does not come, unless it has."""
        self._decided.setdefault(server, False)

    def finish(self) -> dict[int, T]:
        """Return the server of each node, with the further nodes of those that have several."""
        self._number(len(self._places) - 1)
        return dict(sorted((node, self._places[place]) for place, node in self._nodes.items()))

    def _number(self, last: int) -> None:
        for place, server in enumerate(self._places[: last + 1]):
            if place not in self._nodes and self._decided.get(server):
                self._nodes[place] = self._next
                self._next += 1
