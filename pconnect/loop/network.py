"""A network: an ordered set of connections. Indexing returns connections and parts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, SupportsIndex, overload

from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.link.connection import Connection
from pconnect.link.peer import RemovedNode
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.forked_copies import leave_in_copies
from pconnect.protocol.collective_inbox import Notice
from pconnect.protocol.frames import DEFAULT_LIMITS, Limits
from pconnect.public_names import PublicNames

_REMOVED = "it was removed from this network"


class Mesh:
    """State that all parts of one network share."""

    def __init__(
        self,
        network_id: bytes,
        node: int,
        connections: Sequence[Connection],
        event_loop: EventLoop,
        limits: Limits = DEFAULT_LIMITS,
        *,
        removed: Mapping[int, str] = {},
    ) -> None:
        self.network_id = network_id  #: 16 random bytes
        self.node = node  #: number of this node; 0 is the client
        #: One connection for each node, by number. The connection of this node has no link.
        self.connections = list(connections)
        #: The hosts of the removed nodes, by number. These numbers are not reused.
        self.removed = dict(removed)
        #: The numbers of all existing nodes. Each change of the network replaces the list.
        self.members = [number for number in range(len(self.connections)) if number not in self.removed]
        #: Describes the last change of the network in this epoch; empty if there was none.
        self.change = ""
        self.event_loop = event_loop  #: the loop that serves them
        self.limits = limits
        self.closed = False
        #: Number of the command from which collective calls are counted; 0 until something has failed.
        self.epoch = 0
        #: Number of collective calls in this epoch, by their members.
        self.calls: dict[tuple[int, ...], int] = {}
        #: Why this node has left the collective calls of this epoch, or ``None``.
        self.left: Notice | None = None
        #: Whether a failure since the epoch began, on this or another node, may have ended the epoch.
        self.has_failures = False
        #: Nodes that may be unable to complete a collective call: lost or restarted nodes, and nodes that have sent a
        #: LEFT or a message of a newer epoch. With this set, nobody needs to check all nodes.
        self.suspects: set[int] = set()
        for connection in self.connections:
            connection.mesh = self
            self._look_at(connection)
        leave_in_copies(self)

    def begin_epoch(self, epoch: int) -> None:
        """Start a new epoch of collective calls, and drop everything of older epochs."""
        self.epoch, self.left, self.has_failures, self.change = epoch, None, False, ""
        self.calls.clear()
        self.suspects.clear()
        for connection in self.connections:
            connection.begin_epoch(epoch)
            if connection.node not in self.removed:  # removed nodes cannot take part in a new call
                self._look_at(connection)

    def change_members(self, added: Sequence[Connection], removed: Sequence[int], change: str) -> None:
        """Add nodes with the next numbers and remove others. Collective calls of all nodes then need a new epoch.

        `change`: describes the change, even if it is of another kind.
        """
        for connection in added:
            connection.mesh = self
            self.connections.append(connection)
        for number in removed:
            connection = self.connections[number]
            self.removed[number] = connection.host
            connection.peer = RemovedNode()
            self.event_loop.lose(connection, ConnectionLostError(_REMOVED))
        self.members = [number for number in range(len(self.connections)) if number not in self.removed]
        self.change = change

    def check_there(self, node: int) -> None:
        """Raise an error if a node was removed."""
        if node in self.removed:
            raise ConnectionLostError(self.why_removed(node))

    def why_removed(self, node: int) -> str:
        """Return the message about a node that was removed."""
        return (
            f"node {node} ({self.removed[node]}) was removed from this network, and its number is not reused; the "
            f"nodes are {', '.join(map(str, self.members))}"
        )

    def _look_at(self, connection: Connection) -> None:
        if connection.error or connection.generation or connection.collectives.latest > self.epoch:
            self.suspects.add(connection.node)

    def note_failure(self, *, has_failures: bool = True) -> None:
        """Record a failure that may end the epoch; with `has_failures=False`, record that there is none."""
        self.has_failures = has_failures

    def check_open(self) -> None:
        """Raise an error if the network was closed."""
        if self.closed:
            self.event_loop.check_open()
            raise ConnectionLostError("the network is closed")

    def abandon(self, error: ConnectionLostError) -> None:
        """Leave the network to the parent process of a fork; see `pconnect.loop.forked_copies`."""
        self.closed = True
        self.event_loop.abandon(error)
        for connection in self.connections:
            connection.abandon(error)

    def close(self, timeout: float) -> list[int]:  # noqa: ARG002 - the client's mesh uses it
        """Close the whole network."""
        raise ConfigurationError("only the client closes a network: an engine ends with its session")


def removed_node(node: int, host: str) -> Connection:
    """Return a placeholder connection for a node that was removed."""
    connection = Connection(node, host, None, awaited=True)
    connection.peer = RemovedNode()
    connection.lose(ConnectionLostError(_REMOVED))
    return connection


class Network(PublicNames, Sequence[Connection]):
    """The nodes of a network, or a part of them.

    ``net[k]`` is the connection to node `k`; slices, lists of numbers and masks return parts, which are networks too.
    This node belongs to the whole network (``net[0]`` on the client); calls on a network skip it.

    An index into the whole network is the number of a node, which never changes. The number of a removed node is not
    reused: indexing it raises `IndexError`, and ``len``, iteration, slices and ``nodes`` skip it. Nodes that are added
    later appear in the whole network. A part never changes, and its indices are positions in it.

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
        self._part = None if nodes is None else list(nodes)

    @property
    def nodes(self) -> list[int]:
        """The numbers of the nodes in this network or part."""
        return list(self.mesh.members if self._part is None else self._part)

    @property
    def is_whole(self) -> bool:
        """Whether this is the whole network and not a part."""
        return self._part is None

    @property
    def node(self) -> int:
        """The number of this node in the whole network: 0 on the client."""
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
        return len(self._numbers)

    def __iter__(self) -> Iterator[Connection]:
        return (self.mesh.connections[node] for node in self._numbers)

    def __reversed__(self) -> Iterator[Connection]:
        return (self.mesh.connections[node] for node in reversed(self._numbers))

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        """Return the index of a node, like `list.index`. In the whole network, that is its number."""
        nodes = list(self)
        place = nodes.index(value, start, len(nodes) if stop is None else stop)  # type: ignore[arg-type]
        return self._numbers[place] if self.is_whole else place

    @property
    def _numbers(self) -> list[int]:
        return self.mesh.members if self._part is None else self._part

    @property
    def _indices(self) -> range | list[int]:
        """The sequence that is indexed, including the numbers of removed nodes."""
        return range(len(self.mesh.connections)) if self._part is None else self._part

    @overload
    def __getitem__(self, index: SupportsIndex) -> Connection: ...
    @overload
    def __getitem__(self, index: slice | Iterable[int]) -> "Network": ...
    def __getitem__(self, index: SupportsIndex | slice | Iterable[int]) -> "Connection | Network":
        # The check for a protocol takes ten times as long as the rest. Numpy arrays have both protocols.
        if type(index) is int or (isinstance(index, SupportsIndex) and not isinstance(index, Iterable)):
            mesh, part = self.mesh, self._part
            try:
                connection = mesh.connections[index if part is None else part[index]]
            except IndexError:
                raise IndexError(f"there is no node {index} in a network of {len(self)}") from None
            if mesh.removed and connection.node in mesh.removed:
                raise IndexError(mesh.why_removed(connection.node))
            return connection
        if isinstance(index, slice):
            removed = self.mesh.removed
            return type(self)(self.mesh, [node for node in self._indices[index] if node not in removed])
        return type(self)(self.mesh, self._choose(list(index)))

    def _choose(self, index: list[Any]) -> list[int]:
        # numpy's `bool_` is not a `bool`, but the type's name identifies it; this module does not import numpy.
        if index and all(type(item).__name__ in {"bool", "bool_"} for item in index):
            if len(index) != len(self):
                raise IndexError(f"a mask of length {len(index)} does not fit a network of {len(self)} nodes")
            return [node for node, chosen in zip(self.nodes, index, strict=True) if chosen]
        chosen = [self[item].node for item in index]
        if len(set(chosen)) < len(chosen):
            raise IndexError(f"a node appears more than once in {chosen}")
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
            + (f"  {note}" if not self.closed and (note := self._note_of(connection)) else "")
            for connection in self
        ]
        state = "closed" if self.closed else "open"
        return "\n".join([f"<network {self.network_id[:8]}, {state}, {len(self)} nodes>", *lines])

    def _note_of(self, connection: Connection) -> str:
        """Return a note on the state of a node, or an empty text if nothing is wrong."""
        return (connection.peer.trouble or f"lost: {connection.error}") if connection.error else ""
