"""A message link to one peer: a channel, what waits to be sent, and what has arrived.

Nothing here blocks and nothing here raises because of the peer: a connection that breaks remembers why, and whoever
needs it asks (`Connection.error`). `pconnect.loop.event_loop` decides when to call `flush` and `fill`.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pconnect.errors import ConnectionLostError, InboxFullError, ParallelError
from pconnect.protocol.collective_inbox import COLLECTIVE_KINDS, CollectiveInbox, CollectiveMessage, Key
from pconnect.protocol.decoder import Decoder
from pconnect.protocol.frames import DEFAULT_LIMITS, Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, Unfinished, encode_message
from pconnect.protocol.wait_states import UNCOUNTED_KINDS
from srp_tools.channel import Channel

#: Tags from here on are the library's.
LIBRARY_TAGS = 2**31
_VALUE_BYTES = 2**8  # what a value takes in memory beside its own size, about
_FILL_BYTES = 2**23  # read from one connection before the others have their turn
# So much may be queued for a link that is being made before the sender waits: about what the system would take.
_AWAITED_BYTES = 2**20
# What engines print is shown while it is read, perhaps by a slow terminal, and meanwhile Ctrl-C has to wait.
_FILL_BYTES_SHOWN = 2**16


class Peer:
    """What is known about the node at the other end beyond the bytes; the client fills this in for its servers."""

    def check(self) -> None:
        """Raise what makes waiting for this peer useless, if anything does."""

    def interrupt(self, up_to: int | None = None) -> None:
        """Interrupt what this peer is doing for us, because the user has lost patience."""

    def settle(self, deadline: float) -> str:  # noqa: ARG002 - the client's uses it
        """Wait for the end of what was interrupted; return the peer's name if it does not end."""
        return ""

    def cancel(self, number: int) -> None:
        """Interrupt one command, whether it has begun or not."""

    def kill(self, up_to: int | None = None) -> None:
        """End what this peer is doing for us by force."""

    def sources(self) -> "list[Connection]":
        """Return the connections on which what this peer makes for us comes."""
        return []

    @property
    def busy(self) -> bool:
        """Whether this peer runs something, as far as can be known."""
        return True

    def check_epoch(self, epoch: int) -> None:
        """Raise what makes waiting for this peer's part in a collective call useless, if anything does."""

    def explain(self, epoch: int | None = None) -> ParallelError | None:  # noqa: ARG002 - the client's uses it
        """Return a better account of why the connection broke than it has itself, if there is one.

        With an epoch, of why the peer left the collective calls of that epoch.
        """
        return None


class Connection:
    """The authenticated data link between two nodes; ``network[k]`` is the one to node `k`.

    Users hand it to `psend`, `precv` and `select_sockets` and read its attributes; the methods are for the library.

    Attributes
    ----------
    node
        Number of the node at the other end.
    host
        Its host, as given to `pconnect`.
    error
        ``None``, or why the connection is closed. A restart of the node clears it.
    sent_bytes
        How much the system has taken so far.

    Notes
    -----
    For the library: a connection is *awaited* while its link is being made, at first or anew (`renew`, then `open`).
    What is sent meanwhile is queued.
    """

    def __init__(
        self,
        node: int,
        host: str,
        channel: Channel | None,
        *,
        role: Role = Role.NODE,
        limits: Limits = DEFAULT_LIMITS,
        awaited: bool = False,
    ) -> None:
        self.node = node
        self.host = host
        self.error: ParallelError | None = None
        self.error_seen = False
        self.peer = Peer()
        self.mesh: Any = None  # the `pconnect.loop.network.Mesh` it belongs to
        self.on_message: Callable[[Message], None] = self._unexpected
        self.on_lost: Callable[[ParallelError], None] = lambda _: None
        #: Takes the values with the library's own tags; without it, they go into the inbox.
        self.on_library_value: Callable[[int, object], None] | None = None
        #: Whether this stands for the own node, which is in every network and has no link.
        self.is_own = channel is None and not awaited
        #: How often the node was restarted: who waits for something of the old engine waits in vain.
        self.renewals = 0
        self.values_received = 0
        self.values_sent = 0
        self.inbox: dict[int, deque[tuple[object, int]]] = {}  # with the size of each
        self._inbox_bytes = 0
        #: Where it enters itself when it may want other events than before; the loop that serves it gives its own.
        self.changed: set[Connection] = set()
        self.parts = CollectiveInbox(node)
        self._channel = channel
        self._role = role
        self._decoder = Decoder(role, limits.max_message_bytes)
        self._limits = limits
        self._fill_bytes = _FILL_BYTES_SHOWN if role is Role.CLIENT else _FILL_BYTES
        self._full = False  # the inbox
        self._blocked = False  # the system took less than there was
        self._out: deque[memoryview] = deque()
        self._queued_bytes = 0
        self.sent_bytes = 0

    def __repr__(self) -> str:
        state = "being made" if self.is_awaited else f"closed: {self.error}" if self.error else "open"
        state = "own node" if self.is_own else state
        return f"<connection to node {self.node} ({self.host}), {state}>"

    @property
    def is_awaited(self) -> bool:
        """Whether the link is still being made."""
        return self._channel is None and self.error is None and not self.is_own

    @property
    def encrypted(self) -> bool:
        """Whether what passes here is encrypted."""
        return self._channel is not None and self._channel.encrypted

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits to be sent, and whoever sends it has to wait."""
        return bool(self._out) and (not self.is_awaited or self.unsent_bytes > _AWAITED_BYTES)

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent, perhaps for a link that is still being made."""
        return bool(self._out)

    @property
    def wants_to_read(self) -> bool:
        """Whether more may be taken in: the inbox has room, or a message has begun."""
        return not self._full or self._decoder.in_payload

    @property
    def waiting_bytes(self) -> int:
        """How much has arrived and is not yet taken."""
        return self._inbox_bytes + self.parts.size

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be sent."""
        return self._queued_bytes - self.sent_bytes

    @property
    def arriving_bytes(self) -> tuple[int, int]:
        """How much of the message that is arriving is here, and how large it is; 0 of 0 if there is none."""
        return self._decoder.arriving_bytes

    @property
    def sent_in_vain(self) -> int:
        """How often the system has repeated something without an answer; see `pconnect.loop.liveness`."""
        return 0 if self._channel is None or self.error else self._channel.sent_in_vain

    @property
    def patience(self) -> float:
        """Seconds after which the peer's machine counts as gone if it does not answer."""
        return math.inf if self._channel is None or self.error else self._channel.patience

    def fileno(self) -> int:
        """Return the descriptor to poll, or -1."""
        return -1 if self._channel is None else self._channel.fileno()

    def post(self, kind: Kind, tag: int = 0, value: object = None) -> None:
        """Put a message into the queue to be sent; arrays are not copied.

        Raises
        ------
        UnsupportedValueError, MessageTooLargeError
            Nothing was queued.
        """
        buffers = encode_message(kind, tag, value, self._limits.max_message_bytes)
        self.post_encoded(buffers, is_counted=kind not in UNCOUNTED_KINDS)

    def post_encoded(self, buffers: Sequence[bytes | memoryview], *, is_counted: bool = True) -> None:
        """Put an encoded message into the queue to be sent; it is dropped if the connection is closed."""
        if self.error is None:
            self.values_sent += is_counted
            self._out.extend(map(memoryview, buffers))
            self._queued_bytes += sum(map(len, buffers))
            self.changed.add(self)

    def flush(self) -> None:
        """Write what can be written now."""
        channel, out = self._channel, self._out
        if channel is None:
            return  # it is being made
        try:
            while out:
                sent = channel.send(out[0])
                self.sent_bytes += sent
                if sent < len(out[0]):
                    out[0] = out[0][sent:]
                    self._blocked = True
                    return
                out.popleft()
            if self._blocked:
                self._blocked = False
                self.changed.add(self)
        except ConnectionLostError as error:
            if self._role is not Role.EMPLOYER:
                self.lose(error)
                return
            # What a worker has sent before it died counts, and closing would drop it. Reading comes to the end as well.
            self._out.clear()
            self._queued_bytes = self.sent_bytes
            self._blocked = False
            self.changed.add(self)

    def keep_unsent(self) -> None:
        """Copy what waits to be sent, so that its memory may change from now on."""
        self._out = deque(memoryview(bytes(view)) for view in self._out)

    def fill(self, *, to_the_end: bool = False) -> bool:
        """Read what has arrived; return whether more may be there that no poll would show.

        Parameters
        ----------
        to_the_end
            Rely on no poll at all: the other end is gone.
        """
        channel, decoder = self._channel, self._decoder
        assert channel is not None  # noqa: S101 - the own node is never read from
        total = 0
        try:
            while total < self._fill_bytes and (not self._full or decoder.in_payload):
                buffer = decoder.get_buffer()
                size = len(buffer)  # a buffer that is full may be released with its message
                count = channel.receive_into(buffer)
                if count is None:
                    return False
                if count == 0:
                    raise ConnectionLostError("the peer closed the connection")
                total += count
                for message in decoder.received(count):
                    self._take(message)
                if count < size and not (to_the_end or decoder.in_message or channel.pending()):
                    return False  # most likely nothing more is there; if it is, the next poll says so
        except ParallelError as error:
            self.lose(error)
            return False
        return True

    def lose(self, error: ParallelError) -> None:
        """Close the connection because of `error`. Values that have arrived stay in the inbox."""
        if self.error is None:
            self.error = error
            self.close()
            self.on_lost(error)

    def loss(self) -> ParallelError:
        """Return `error`, of a closed connection, with the node's name in it."""
        return ConnectionLostError(f"node {self.node} ({self.host}) is lost: {self.error}")

    def account(self) -> ParallelError:
        """Return the best that is known about why the connection is closed, as an error to raise."""
        return self.peer.explain() or self.loss()

    def close(self) -> None:
        """Close the channel."""
        if not self.is_own:
            self._out.clear()
            self._queued_bytes = self.sent_bytes
            if self._channel is not None:
                self._channel.close()
            self.error = self.error or ConnectionLostError("it was closed here")

    def abandon(self, error: ParallelError) -> None:
        """Leave the link to the process that this one was forked from; here it is closed because of `error`."""
        self.error = error
        self._out.clear()
        if self._channel is not None:
            self._channel.abandon()
            self._channel = None

    def renew(self) -> None:
        """Give up the link, if there is one, drop everything that came from its other end, and await a new one.

        The loop must not serve it any more. Calls that wait for this node will raise, see `check_renewals`.
        """
        self.close()
        self._channel = self.error = None
        self.error_seen = self._full = self._blocked = False
        self.renewals += 1
        self.values_received = self.values_sent = self._inbox_bytes = 0
        self.inbox.clear()
        self.parts = CollectiveInbox(self.node)
        if self.mesh is not None:
            self.parts.begin(self.mesh.epoch)
        self._decoder = Decoder(self._role, self._limits.max_message_bytes)

    def open(self, channel: Channel) -> None:
        """Take over the link that was awaited; what is queued is for its other end."""
        self._channel = channel
        self.changed.add(self)

    def check_renewals(self, before: int) -> None:
        """Raise if the node was restarted since `renewals` was `before`."""
        if self.renewals != before:
            raise ConnectionLostError(
                f"node {self.node} ({self.host}) was restarted meanwhile: what its old engine had sent, and what was "
                "on its way there, is lost"
            )

    def check_inbox(self) -> None:
        """Raise if no value can come from here any more before others that have come are received."""
        if self.error is None and not self.wants_to_read:
            tags = ", ".join(str(tag) for tag in sorted(self.inbox)[:5]) or "none"
            raise InboxFullError(
                f"node {self.node} ({self.host}) has sent {self.waiting_bytes} bytes that nobody has received (tags "
                f"{tags}; {self.parts.size} bytes for collective calls), so no more is read from it: receive them, or "
                "connect with a higher max_inbox_bytes"
            )

    def has_value(self, tag: int) -> bool:
        """Whether a complete value with this tag is here."""
        return tag in self.inbox

    def take_value(self, tag: int) -> object:
        """Remove the oldest value with this tag from the inbox and return it.

        Raises
        ------
        UnreadableValueError, ProtocolError
            It cannot be made here, or is malformed. It is removed all the same.
        """
        queue = self.inbox[tag]
        value, size = queue.popleft()
        if not queue:
            del self.inbox[tag]
        self._inbox_bytes -= size
        self._look_for_room()
        return value.finish() if type(value) is Unfinished else value

    def take_part(self, key: Key) -> CollectiveMessage:
        """Remove the oldest part of a collective call and return it."""
        part = self.parts.take(key)
        self._look_for_room()
        return part

    def begin_epoch(self, epoch: int) -> None:
        """Drop what belongs to collective calls of older epochs."""
        self.parts.begin(epoch)
        self._look_for_room()

    def _look_for_room(self) -> None:
        if self._full and self.waiting_bytes < self._limits.max_inbox_bytes:
            self._full = False
            self.changed.add(self)

    def _take(self, message: Message) -> None:
        if message.kind is Kind.VALUE:
            self.values_received += 1
            if message.tag >= LIBRARY_TAGS and self.on_library_value is not None:
                self.on_library_value(message.tag, message.value)
                return
            size = message.size + _VALUE_BYTES
            self.inbox.setdefault(message.tag, deque()).append((message.value, size))
            self._inbox_bytes += size
        elif message.kind in COLLECTIVE_KINDS:
            self.values_received += 1  # as it was counted by `post_encoded` of the sender
            self.parts.add(message)
        else:
            self.on_message(message)
            return
        if self.waiting_bytes >= self._limits.max_inbox_bytes:
            self._full = True
            self.changed.add(self)

    def _unexpected(self, message: Message) -> None:
        raise AssertionError(f"nobody takes {message.kind.name}")
