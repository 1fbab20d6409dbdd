"""The network: an ordered set of connections, and the parts of it that indexing gives."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self, SupportsIndex, overload

from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.forked_copies import leave_in_copies
from pconnect.protocol.collective_inbox import Notice
from pconnect.protocol.frames import DEFAULT_LIMITS, Limits
from pconnect.public_names import PublicNames


class Mesh:
    """What all parts of one network share."""

    def __init__(
        self,
        network_id: bytes,
        node: int,
        connections: Sequence[Connection],
        event_loop: EventLoop,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.network_id = network_id  #: 16 random bytes
        self.node = node  #: number of this node; 0 is the client
        #: One for each node, by number; that of this node is no real link.
        self.connections = list(connections)
        self.event_loop = event_loop  #: the loop that serves them
        self.limits = limits
        self.closed = False
        #: Number of the command since which collective calls are counted; 0 before anything failed.
        self.epoch = 0
        #: How many collective calls were made in this epoch, by the nodes that take part.
        self.calls: dict[tuple[int, ...], int] = {}
        #: Why this node takes part in no more collective calls of this epoch, or ``None``.
        self.left: Notice | None = None
        #: Whether something has failed since the epoch began, here or at another node, that may have ended it.
        self.has_failures = False
        #: The nodes that may be unable to complete a collective call: lost, restarted, or they have sent a LEFT or
        #: something of a newer epoch. So nobody has to look at all nodes for that.
        self.suspects: set[int] = set()
        for connection in self.connections:
            connection.mesh = self
            self._look_at(connection)
        leave_in_copies(self)

    def begin_epoch(self, epoch: int) -> None:
        """Begin to count collective calls anew, with nothing left of those before."""
        self.epoch, self.left, self.has_failures = epoch, None, False
        self.calls.clear()
        self.suspects.clear()
        for connection in self.connections:
            connection.begin_epoch(epoch)
            self._look_at(connection)

    def _look_at(self, connection: Connection) -> None:
        if connection.error or connection.generation or connection.collectives.latest > self.epoch:
            self.suspects.add(connection.node)

    def note_failure(self, *, has_failures: bool = True) -> None:
        """Record that something has failed, which may end the epoch; or that nothing has that does."""
        self.has_failures = has_failures

    def check_open(self) -> None:
        """Raise if the network was closed."""
        if self.closed:
            self.event_loop.check_open()
            raise ConnectionLostError("the network is closed")

    def abandon(self, error: ConnectionLostError) -> None:
        """Leave the network to the process that this one was forked from; see `pconnect.loop.forked_copies`."""
        self.closed = True
        self.event_loop.abandon(error)
        for connection in self.connections:
            connection.abandon(error)

    def close(self, timeout: float) -> list[int]:  # noqa: ARG002 - the client's mesh uses it
        """Close the whole network."""
        raise ConfigurationError("only the client closes a network: an engine ends with its session")


class Network(PublicNames, Sequence[Connection]):
    """The nodes of a network, or a part of them.

    ``net[k]`` is the connection to node `k`; slices, lists of numbers and masks give parts, which are networks too.
    This node belongs to the whole network (``net[0]`` on the client); calls for a network skip it.

    Examples
    --------
    >>> from pconnect import local_network
    >>> with local_network(2) as net:
    ...     len(net), net.node, [connection.node for connection in net[1:]], net[[2]].nodes
    (3, 0, [1, 2], [2])
    """

    _for_users = ("close", "closed", "count", "index", "mesh", "network_id", "node", "nodes")

    def __init__(self, mesh: Mesh, nodes: Sequence[int] | None = None) -> None:
        self.mesh = mesh
        self.nodes = list(range(len(mesh.connections))) if nodes is None else list(nodes)

    @property
    def node(self) -> int:
        """Number of this node in the whole network: 0 on the client."""
        return self.mesh.node

    @property
    def network_id(self) -> str:
        """The network's identifier, 32 hexadecimal digits."""
        return self.mesh.network_id.hex()

    @property
    def closed(self) -> bool:
        """Whether the network was closed."""
        return self.mesh.closed

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Connection]:
        return (self.mesh.connections[node] for node in self.nodes)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Connection: ...
    @overload
    def __getitem__(self, index: slice | Iterable[int]) -> "Network": ...
    def __getitem__(self, index: SupportsIndex | slice | Iterable[int]) -> "Connection | Network":
        # The check of a protocol takes ten times as long as all the rest; numpy's arrays are both of these.
        if type(index) is int or (isinstance(index, SupportsIndex) and not isinstance(index, Iterable)):
            try:
                return self.mesh.connections[self.nodes[index]]
            except IndexError:
                raise IndexError(f"there is no node {index} in a network of {len(self)}") from None
        if isinstance(index, slice):
            return type(self)(self.mesh, self.nodes[index])
        return type(self)(self.mesh, self._choose(list(index)))

    def _choose(self, index: list[Any]) -> list[int]:
        # `bool_` of numpy is no bool, but its type's name says what it is; this module does not import numpy.
        if index and all(type(item).__name__ in {"bool", "bool_"} for item in index):
            if len(index) != len(self):
                raise IndexError(f"a mask of {len(index)} for a network of {len(self)} nodes")
            return [node for node, chosen in zip(self.nodes, index, strict=True) if chosen]
        chosen = [self[item].node for item in index]
        if len(set(chosen)) < len(chosen):
            raise IndexError(f"a node more than once in {chosen}")
        return chosen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.mesh.closed:
            self.close()

    def close(self, timeout: float = 10.0) -> list[int]:
        """Close the whole network; see `sclose`."""
        return self.mesh.close(timeout)

    def __repr__(self) -> str:
        lines = [
            f"  {connection.node}  {connection.host}"
            + ("  (this node)" if connection.is_own else "")
            + (f"  {_trouble_of(connection)}" if connection.error and not self.closed else "")
            for connection in self
        ]
        state = "closed" if self.closed else "open"
        return "\n".join([f"<network {self.network_id[:8]}, {state}, {len(self)} nodes>", *lines])


def _trouble_of(connection: Connection) -> str:
    return connection.peer.trouble or f"lost: {connection.error}"
