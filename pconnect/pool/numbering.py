"""The numbers of nodes whose servers are found one at a time. No I/O.

A node's number is part of the certificate that it gets during login, so it must be known by then; and numbers have no
gaps. Therefore the servers of a round take numbers in order, each when all before it have theirs or have failed. A
server that cannot wait any longer takes the next number, and those before it get later ones.
"""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Numbering(Generic[T]):
    """Assigns node numbers. `places`: the servers in the order of their nodes, once for each of their nodes."""

    def __init__(self, places: Sequence[T], first: int = 1) -> None:
        self._places = places
        self._order = list(dict.fromkeys(places))
        self._ranks = {server: rank for rank, server in enumerate(self._order)}
        self._first_open = 0  # the rank of the first undecided server
        # Whether each server was reached; undecided servers are missing.
        self._decided: dict[T, bool] = {}
        self._nodes: dict[int, int] = {}  # by place
        self._next = first

    def is_turn(self, server: T) -> bool:
        """Return whether all servers before this one are decided."""
        while self._first_open < len(self._order) and self._order[self._first_open] in self._decided:
            self._first_open += 1
        return self._ranks[server] <= self._first_open

    def take(self, server: T) -> int:
        """Return the number of the first node of a server that was reached."""
        self._decided[server] = True
        first = self._places.index(server)
        self._number(first)
        return self._nodes[first]

    def fail(self, server: T) -> None:
        """Record that a server was not reached, unless it was."""
        self._decided.setdefault(server, False)

    def finish(self) -> dict[int, T]:
        """Return the server of each node, including further nodes of the same server."""
        self._number(len(self._places) - 1)
        return dict(sorted((node, self._places[place]) for place, node in self._nodes.items()))

    def _number(self, last: int) -> None:
        for place, server in enumerate(self._places[: last + 1]):
            if place not in self._nodes and self._decided.get(server):
                self._nodes[place] = self._next
                self._next += 1
