"""The client's part in detours: it hears which node cannot reach which, and sends instructions.

See `pconnect.routes.detours` for the decisions, and doc/protocol.md, "Other ways", for the messages.
"""

import functools
import itertools
from collections.abc import Collection, Iterable
from typing import Protocol

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.answer_forms import check_answer
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pconnect.routes.client_relay import MOST_PAIRS, dial_leg, relay_here
from pconnect.routes.detours import CLIENT, Detours, Dial, GiveUp, Pair, Relay
from pconnect.routes.location import Location
from srp_tools.steps import deadline_after

# For a relay and the two nodes that it connects: all are running, and have just sent something.
_RELAY_SECONDS = 20.0


class Reachable(Protocol):
    """The attributes of a node that matter for routes."""

    node: int
    host: str
    command: Connection
    location: Location


class RouteWarning(UserWarning):
    """Two nodes cannot reach each other, so a third one relays their data; the text names them."""


class RouteKeeper:
    """The routes between the engines of one network. For the arguments, see `pconnect.protocol.frames.Preamble`."""

    def __init__(self, network_id: bytes, network_key: bytes, peer_timeout: float) -> None:
        self._network = network_id, network_key
        self._peer_timeout = peer_timeout
        self._servers: dict[int, Reachable] = {}
        self._event_loop: EventLoop | None = None
        self._detours = Detours(self._living)
        self._numbers = itertools.count(1)
        self._asked: dict[int, Relay] = {}  # unanswered requests to servers, by number

    def attend(self, servers: Iterable[Reachable], event_loop: EventLoop) -> None:
        """Listen to the supervisors of new nodes."""
        self._event_loop = event_loop
        for server in servers:
            self._servers[server.node] = server
            self._detours.forget(server.node)
            server.command.on_message = functools.partial(self._hear, server, server.command.on_message)

    def cut_by(self, nodes: Collection[int]) -> str:
        """Return a warning about nodes that lose their relay when some nodes are removed; empty if there are none."""
        return "; ".join(
            f"{self._name(relay)} relayed the data between {self._name(low)} and {self._name(high)}, and was removed: "
            f"they are no longer connected. net[{low}].restart() connects them again, and gives node {low} an empty "
            "workspace"
            for (low, high), relay in sorted(self._relays().items())
            if relay in nodes and low not in nodes and high not in nodes
        )

    def forget(self, nodes: Collection[int]) -> None:
        """Forget removed nodes; nodes that wait for one as their relay get another route."""
        for node in nodes:
            self._servers.pop(node, None)
        waiting = {number: asked for number, asked in self._asked.items() if asked.relay in nodes}
        for number, asked in waiting.items():
            del self._asked[number]
            if not set(asked.pair) & set(nodes):
                self._do(
                    self._detours.relay_failed(asked.relay, asked.pair, f"node {asked.relay} was removed")
                )
        for node in nodes:
            self._detours.remove(node)

    def beyond(self, node: int) -> list[int]:
        """Return the nodes that a node cannot dial, as far as is known."""
        return self._detours.beyond(node)

    def routes_of(self, node: int) -> dict[int, str]:
        """Return the nodes that a node reaches through a relay, with the relay of each."""
        return {
            other: "relayed by the client" if relay == CLIENT else f"relayed by node {relay}"
            for pair, relay in self._relays().items()
            for own, other in (pair, pair[::-1])
            if own == node
        }

    def describe(self) -> str:
        """Return a warning about the nodes that have a relay; empty if none has one."""
        lines = [
            f"{self._name(low)} and {self._name(high)}: through {self._name(relay)}"
            for (low, high), relay in sorted(self._relays().items())
        ]
        if not lines:
            return ""
        slow = (
            "; the client relays data only while it is inside a call of this package"
            if CLIENT in self._relays().values()
            else ""
        )
        few = lines[:_MOST_SHOWN] + [f"and {len(lines) - _MOST_SHOWN} more"] * (len(lines) > _MOST_SHOWN)
        return "\n  ".join([
            "these nodes cannot reach each other, so all their data passes through a third node, which is slower; "
            f"doc/howto/nat.md describes remedies{slow}:",
            *few,
        ])  # fmt: skip

    def _relays(self) -> dict[Pair, int]:
        """Return the relay of each pair of nodes that has one, without lost relays."""
        there = {CLIENT, *self._living()}
        return {pair: relay for pair, relay in self._detours.relays.items() if relay in there}

    def _name(self, node: int) -> str:
        return "the client" if node == CLIENT else f"node {node} ({self._servers[node].host})"

    def _living(self) -> list[int]:
        return [node for node, server in self._servers.items() if server.command.error is None]

    def _hear(self, server: Reachable, otherwise: object, message: Message) -> None:
        if message.kind is Kind.UNREACHED:
            check_answer(message.kind, message.value)
            why, relay = message.value
            if message.tag in self._servers:
                self._do(self._detours.missed(server.node, message.tag, why, relay))
            else:
                self._tell(server.node, Kind.ROUTE, message.tag, why)
        elif message.kind is Kind.RELAY:
            check_answer(message.kind, message.value)
            self._take_answer(server.node, message.tag, message.value)
        else:
            assert callable(otherwise)  # noqa: S101 - the handler of all other messages
            otherwise(message)

    def _take_answer(self, node: int, number: int, why: str | None) -> None:
        """Have the two nodes dial a relay that is ready; if it cannot relay, continue without it."""
        asked = self._asked.get(number)
        if asked is None or asked.relay != node:
            return
        del self._asked[number]
        if why is not None:
            self._do(self._detours.relay_failed(node, asked.pair, f"node {node} cannot relay: {why}"))
            return
        for end, other in (asked.pair, asked.pair[::-1]):
            if end not in asked.dialled:
                self._tell(end, Kind.ROUTE, other, node)

    def _do(self, order: Dial | Relay | GiveUp | None) -> None:
        match order:
            case Dial(node, other):
                self._tell(node, Kind.ROUTE, other, None)
            case GiveUp((low, high), why):
                for node, other in ((low, high), (high, low)):
                    self._tell(node, Kind.ROUTE, other, why)
            case Relay(relay, pair, _) if relay == CLIENT:
                self._relay_here(pair)
            case Relay(relay, pair, dialled):
                number = next(self._numbers)
                self._asked[number] = order
                places = {node: list(map(list, self._places(node))) for node in dialled}
                self._tell(relay, Kind.RELAY, number, [list(pair), places, _RELAY_SECONDS])

    def _places(self, node: int) -> list[tuple[str, int]]:
        return self._servers[node].location.places_for_others()

    def _tell(self, node: int, kind: Kind, tag: int, value: object) -> None:
        server = self._servers.get(node)
        if server is not None and server.command.error is None and self._event_loop is not None:
            server.command.post(kind, tag, value)
            self._event_loop.flush(server.command)

    def _relay_here(self, pair: Pair) -> None:
        assert self._event_loop is not None  # noqa: S101 - set since the first message of a server

        def fail(why: str) -> None:
            self._do(self._detours.relay_failed(CLIENT, pair, f"the client cannot relay: {why}"))

        if list(self._relays().values()).count(CLIENT) > MOST_PAIRS:  # including this one
            fail(f"it relays {MOST_PAIRS} pairs of nodes, which is the limit")
            return
        relay_here(
            self._event_loop.background,
            {
                node: dial_leg(
                    self._servers[node].location.places(), self._network, (node, other), self._peer_timeout
                )
                for node, other in (pair, pair[::-1])
            },
            deadline_after(_RELAY_SECONDS),
            fail,
        )


_MOST_SHOWN = 5
