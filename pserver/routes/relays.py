"""The relays of one node of a session, which connect pairs of other nodes that cannot reach each other.

The client names the pair, and says which of the two this node dials; the other one dials this node. Only then is a
connection accepted, and the daemon lets in only members of the network, see `pconnect.protocol.preamble_check`. The
traffic of the pair is encrypted end to end, with certificates of the network whose keys this node does not have.
"""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pconnect.link.connection import Connection
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, prepare
from pconnect.link.race import Place
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import HELLO, Preamble
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, refuse_nonsense
from pconnect.routes.client_relay import MOST_PAIRS, dial_leg
from pserver.routes.splicer import Splicer
from srp_tools.channel import Channel
from srp_tools.steps import Task, deadline_after, wait_for_deadline

log = logging.getLogger("pserver")

Pair = tuple[int, int]


@dataclass
class _Meeting:
    """A pair of nodes that is being connected."""

    pair: Pair
    answer: Callable[[str | None], object]
    legs: dict[int, socket.socket] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    dialled: set[int] = field(default_factory=set)  # nodes that were dialled and have not answered yet
    is_answered: bool = False


class Relays:
    """The relays on one node. `network`: number and key of its network."""

    def __init__(self, event_loop: EventLoop, network: tuple[bytes, bytes]) -> None:
        self._event_loop = event_loop
        self._network = network
        self._meetings: dict[Pair, _Meeting] = {}
        self._splicer: Splicer | None = None

    def attend(self, command: Connection) -> None:
        """Handle the client's relay requests on its command channel; other messages are handled as before."""
        others = command.on_message

        @refuse_nonsense
        def take(_: Relays, message: Message) -> None:
            (low, high), dialled, seconds = message.value
            places = {node: [(name, port) for name, port in found] for node, found in dialled.items()}

            def answer(why: str | None) -> None:
                command.post(Kind.RELAY, message.tag, why)
                self._event_loop.flush(command)

            self.prepare((low, high), places, seconds, answer)

        command.on_message = lambda message: (
            take(self, message) if message.kind is Kind.RELAY else others(message)
        )

    def prepare(
        self,
        pair: Pair,
        dialled: Mapping[int, Sequence[Place]],
        seconds: float,
        answer: Callable[[str | None], object],
    ) -> None:
        """Prepare to connect a pair of nodes. `dialled`: the nodes to dial from here, with their places.

        `seconds`: time limit for everything. `answer`: called with ``None`` when the other nodes may dial, or with the
        reason why they may not.
        """
        self._drop(pair)
        if len(self._meetings) + (self._splicer.count if self._splicer else 0) >= MOST_PAIRS:
            answer(f"it already relays {MOST_PAIRS} pairs of nodes, the maximum")
            return
        meeting = self._meetings[pair] = _Meeting(pair, answer, dialled=set(dialled))
        deadline, background = deadline_after(seconds), self._event_loop.background
        for node, places in dialled.items():
            other = pair[1] if node == pair[0] else pair[0]
            steps = dial_leg(places, self._network, (node, other), DEFAULT_PEER_TIMEOUT)

            def take(outcome: Channel | Exception, node: int = node) -> None:
                self._take_dialled(meeting, node, outcome)

            meeting.tasks.append(background.start(steps, deadline, take))
        why = f"timed out after {seconds:g} s waiting for a node to connect"
        late = background.start(wait_for_deadline(), deadline, lambda _: self._fail(meeting, why))
        meeting.tasks.append(late)
        self._look(meeting)

    def take(self, preamble: Preamble, sock: socket.socket) -> None:
        """Take the connection of a node that has dialled this one, or close it."""
        node, other = preamble.from_node, preamble.endpoint
        meeting = self._meetings.get((min(node, other), max(node, other)))
        if meeting is None or node in meeting.legs or node in meeting.dialled:
            log.warning(
                "node %d wants to reach node %d through a relay here, but is not expected", node, other
            )
            sock.close()
            return
        prepare(sock, DEFAULT_PEER_TIMEOUT)
        try:
            sock.send(HELLO)
        except OSError:  # it has closed the connection
            sock.close()
            return
        meeting.legs[node] = sock
        self._look(meeting)

    def close(self) -> None:
        """End all relays."""
        for pair in list(self._meetings):
            self._drop(pair)
        if self._splicer is not None:
            self._splicer.close()

    def _take_dialled(self, meeting: _Meeting, node: int, outcome: Channel | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(meeting, str(outcome))
            return
        meeting.legs[node] = outcome.detach()
        meeting.dialled.discard(node)
        self._look(meeting)

    def _look(self, meeting: _Meeting) -> None:
        """Take the next step for a pair of nodes, if it is possible."""
        if self._meetings.get(meeting.pair) is not meeting or meeting.dialled:
            return
        if not meeting.is_answered:
            meeting.is_answered = True
            meeting.answer(None)
        if len(meeting.legs) < 2:
            return
        try:
            self._splicer = self._splicer or Splicer()
            self._splicer.add(*(meeting.legs[node] for node in meeting.pair))
        except OSError as error:
            log.warning("cannot relay node %d and node %d: %s", *meeting.pair, error.strerror or error)
            self._drop(meeting.pair)
            return
        meeting.legs.clear()
        self._drop(meeting.pair)
        log.info("node %d and node %d of a network are connected through a relay here", *meeting.pair)

    def _fail(self, meeting: _Meeting, why: str) -> None:
        if self._meetings.get(meeting.pair) is meeting:
            self._drop(meeting.pair)
            if not meeting.is_answered:
                meeting.is_answered = True
                meeting.answer(why)

    def _drop(self, pair: Pair) -> None:
        meeting = self._meetings.pop(pair, None)
        if meeting is not None:
            for task in meeting.tasks:
                self._event_loop.background.cancel(task)
            for sock in meeting.legs.values():
                sock.close()
