"""A network of many nodes in one process, without sockets, to measure the cost of a call's messages.

The nodes run the real calls of `pconnect.messaging`, which encode and decode messages as usual. Only the transport is
replaced: the loop, the connections and the channels. Each node is a thread. One thread runs at a time, until it waits
for a message, so each run is the same. Connections are made on first use, because a thousand nodes have half a million
pairs.

Each node has a clock that assumes one machine per node: sending or receiving a message takes its processor `OVERHEAD`,
plus `BYTE` per byte, and the message travels for `LATENCY`. Programs themselves take no time.
"""

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pconnect.link.peer import Peer
from pconnect.link.queues import Inbox
from pconnect.loop.network import Mesh, Network
from pconnect.protocol.collective_inbox import CollectiveInbox, CollectiveMessage, Key
from pconnect.protocol.frames import DEFAULT_LIMITS
from pconnect.protocol.kinds import Role
from pconnect.protocol.messages import Decoder

OVERHEAD = 20e-6  # seconds, about the time that one side of a message takes in Python
LATENCY = 50e-6
BYTE = 1e-9
_STACK_BYTES = 2**18  # of a node's thread

Buffers = Sequence[bytes | memoryview]


@dataclass
class Cost:
    """The messages that one node has sent and received.

    Attributes
    ----------
    sent, received
        Messages.
    sent_bytes, received_bytes
        Their size on the wire, without encryption.
    rounds
        The length of the longest chain of messages, each sent after the one before was received, up to this node's
        state.
    seconds
        Its clock.
    """

    sent: int = 0
    received: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    rounds: int = 0
    seconds: float = 0.0

    @property
    def messages(self) -> int:
        """The number of messages sent and received."""
        return self.sent + self.received

    @property
    def bytes(self) -> int:
        """The number of bytes sent and received."""
        return self.sent_bytes + self.received_bytes


class MemoryConnection:
    """One node's end of a link, as far as calls need it; see `pconnect.link.connection.Connection`."""

    __slots__ = ("_inbox", "_owner", "error", "generation", "host", "mesh", "node")

    is_awaited = wants_to_write = has_unsent = False
    wants_to_read = True
    transport = "tls"
    peer = Peer()

    def __init__(self, owner: "MemoryNode", node: int) -> None:
        self.node = node
        self.host = f"host{node}"
        self.mesh = owner.mesh
        self.error = None
        self.generation = 0
        self._owner = owner
        self._inbox: Inbox | None = None

    @property
    def is_own(self) -> bool:
        return self.node == self._owner.number

    @property
    def box(self) -> Inbox:
        if self._inbox is None:
            self._inbox = Inbox(DEFAULT_LIMITS.max_inbox_bytes)
        return self._inbox

    @property
    def collectives(self) -> CollectiveInbox:
        return self.box.collectives

    def post_encoded(self, buffers: Buffers) -> None:
        self._owner.send(self.node, buffers)

    def take_collective(self, key: Key) -> CollectiveMessage:
        message, _ = self.box.take_collective(key)
        return message

    def check_inbox(self) -> None:
        """Report that the queue is never full."""


class _Connections(Sequence[Any]):
    """The connections of one node, each made on first access."""

    def __init__(self, owner: "MemoryNode", size: int) -> None:
        self._owner = owner
        self._size = size
        self._made: dict[int, MemoryConnection] = {}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._size:
            raise IndexError(index)
        if index not in self._made:
            self._made[index] = MemoryConnection(self._owner, index)
        return self._made[index]


class _Loop:
    """Stands for the `pconnect.loop.event_loop.EventLoop` of one node."""

    sigint_deferred = contextlib.nullcontext()

    def __init__(self, owner: "MemoryNode") -> None:
        self._owner = owner

    def catch_up(self) -> None:
        self._owner.deliver()

    def flush(self, connection: MemoryConnection) -> None:
        """Do nothing: `post` has already sent the message."""

    def run_until(self, condition: Callable[[], bool], *_: object, **__: object) -> None:
        while not condition():
            self._owner.wait()


class MemoryNode:
    """One node: its view of the network, the messages that have arrived, and its thread's turn."""

    def __init__(self, network: "MemoryNetwork", number: int, size: int) -> None:
        self.number = number
        self.cost = Cost()
        self.mesh = Mesh(bytes(16), number, [], _Loop(self))  # type: ignore[arg-type]
        self.mesh.connections = _Connections(self, size)  # type: ignore[assignment]
        self.mesh.members = list(range(size))
        self.arrived: list[tuple[float, int, int, int, Buffers]] = []
        self.turn = threading.Semaphore(0)
        self.is_waiting = False
        self._network = network

    def send(self, to: int, buffers: Buffers) -> None:
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        cost = self.cost
        cost.sent += 1
        cost.sent_bytes += size
        cost.seconds += OVERHEAD + BYTE * size
        self._network.post(
            to, (cost.seconds + LATENCY, self._network.next_number(), self.number, cost.rounds + 1, buffers)
        )

    def wait(self) -> None:
        """Wait until a message has arrived."""
        if not self.arrived:
            self._network.yield_turn(self)
        self.deliver()

    def deliver(self) -> None:
        """Take in the message that arrived first."""
        if not self.arrived:
            return
        at, _, sender, rounds, buffers = heapq.heappop(self.arrived)
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        cost = self.cost
        cost.received += 1
        cost.received_bytes += size
        cost.rounds = max(cost.rounds, rounds)
        cost.seconds = max(cost.seconds, at) + OVERHEAD + BYTE * size
        connection: Any = self.mesh.connections[sender]
        for message in self._network.decode(buffers):
            connection.box.add(message)


class MemoryNetwork:
    """Some nodes, all connected to each other.

    Parameters
    ----------
    size
        How many; node 0 stands for the client.
    """

    def __init__(self, size: int) -> None:
        self._numbers = itertools.count()
        self._decoder = Decoder(Role.NODE, DEFAULT_LIMITS.max_message_bytes)
        self._ready: list[tuple[float, int, MemoryNode]] = []
        self._main = threading.Semaphore(0)
        self.nodes = [MemoryNode(self, number, size) for number in range(size)]

    def run(self, work: Callable[[Network], Any]) -> list[Any]:
        """Run some work on all nodes; return each result. Raise the first error of any node."""
        outcomes: list[Any] = [None] * len(self.nodes)
        left = len(self.nodes)

        def live(node: MemoryNode) -> None:
            nonlocal left
            node.turn.acquire()
            try:
                outcomes[node.number] = work(Network(node.mesh))
            except BaseException as error:  # noqa: BLE001 - raised below
                outcomes[node.number] = error
            left -= 1
            self._pass_turn()

        before = threading.stack_size(_STACK_BYTES)
        threads = [threading.Thread(target=live, args=(node,), daemon=True) for node in self.nodes]
        for node, thread in zip(self.nodes, threads, strict=True):
            node.is_waiting = False
            self._make_ready(node)
            thread.start()
        threading.stack_size(before)
        self._pass_turn()
        self._main.acquire()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        assert left == 0, f"{left} nodes wait forever"
        return outcomes

    def measure(self, work: Callable[[Network], Any]) -> list[Cost]:
        """Run some work on all nodes; return the costs of each."""
        for node in self.nodes:
            node.cost = Cost()
        self.run(work)
        return [node.cost for node in self.nodes]

    def next_number(self) -> int:
        return next(self._numbers)

    def post(self, to: int, item: tuple[float, int, int, int, Buffers]) -> None:
        node = self.nodes[to]
        heapq.heappush(node.arrived, item)
        if node.is_waiting:
            node.is_waiting = False
            self._make_ready(node)

    def decode(self, buffers: Buffers) -> Iterable[Any]:
        return itertools.chain.from_iterable(map(self._decode, buffers))

    def _decode(self, data: bytes | memoryview) -> Iterator[Any]:
        view = memoryview(data)
        while view:
            buffer = self._decoder.get_buffer()
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            yield from self._decoder.received(count)

    def _make_ready(self, node: MemoryNode) -> None:
        at = max(node.cost.seconds, node.arrived[0][0]) if node.arrived else node.cost.seconds
        heapq.heappush(self._ready, (at, self.next_number(), node))

    def yield_turn(self, node: MemoryNode) -> None:
        """Let other nodes run until a message has arrived for this one."""
        node.is_waiting = True
        self._pass_turn()
        node.turn.acquire()

    def _pass_turn(self) -> None:
        if self._ready:
            heapq.heappop(self._ready)[2].turn.release()
        else:
            self._main.release()
