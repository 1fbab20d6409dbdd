"""A message link to one peer: a channel, a send queue and an inbox.

Nothing here blocks, and nothing raises because of the peer: a broken connection records the reason in
`Connection.error`. `pconnect.loop.event_loop` decides when to call `flush` and `fill`.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pconnect.errors import ConnectionLostError, InboxFullError, ParallelError
from pconnect.link.link_state import LinkEvent, LinkLife, LinkState
from pconnect.link.peer import Peer
from pconnect.link.queues import Inbox, OutQueue, finished
from pconnect.protocol.collective_inbox import COLLECTIVE_KINDS, CollectiveInbox, CollectiveMessage, Key
from pconnect.protocol.frames import DEFAULT_LIMITS, Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Decoder, Message, Unfinished, encode_message
from pconnect.protocol.wait_states import UNCOUNTED_KINDS
from pconnect.public_names import PublicNames
from srp_tools.channel import Channel, peer_closed

#: The library uses the tags from here on.
LIBRARY_TAGS = 2**31
_FILL_BYTES = 2**23  # bytes read from one connection before the others have their turn
# Bytes that may be queued for a link that is being made before the sender must wait: about a system's send buffer.
_AWAITED_BYTES = 2**20
# The output of engines is shown while it is read, perhaps on a slow terminal, and Ctrl-C must wait meanwhile.
_FILL_BYTES_SHOWN = 2**16
# Looked up once, because looking up enumeration members is slow and these are needed for every message.
_VALUE, _LEFT, _CLIENT = Kind.VALUE, Kind.LEFT, Role.CLIENT
_OWN, _AWAITED = LinkState.OWN, LinkState.AWAITED
# The last messages of a worker or supervisor count, and closing the link after a failed write would drop them.
_READ_TO_THE_END = frozenset({Role.EMPLOYER, Role.CLIENT})


class Connection(PublicNames):
    """The authenticated data link between two nodes; ``network[k]`` is the connection to node `k`.

    Pass it to `psend`, `precv` and `select_sockets`, and read its attributes. Its methods are for the library.

    Attributes
    ----------
    node
        Number of the node at the other end.
    host
        The host of that node, as given to `pconnect`.
    error
        ``None``, or the reason why the connection is closed. A restart of the node resets it.

    Notes
    -----
    For the library: `pconnect.link.link_state` has the states of a connection. A connection is *awaited* while its link
    is being made, for the first time or again (`reset`, then `open`).
    """

    _for_users = ("encrypted", "error", "host", "is_own", "node", "transport")

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
        state = LinkState.OPEN if channel else LinkState.AWAITED if awaited else LinkState.OWN
        self.life = LinkLife(state, f"the link to node {node} ({host})")
        self.peer = Peer()
        self.mesh: Any = None  # the `pconnect.loop.network.Mesh` it belongs to
        self.on_message: Callable[[Message], None] = self._unexpected
        self.on_lost: Callable[[ParallelError], None] = lambda _: None
        #: Receives the values with the library's tags; if ``None``, they go into the inbox.
        self.on_library_value: Callable[[int, object], None] | None = None
        #: This connection adds itself here when it may want other events. The loop that serves it replaces the set.
        self.changed: set[Connection] = set()
        self._channel = channel
        self._limits = limits
        self._decoder = Decoder(role, limits.max_message_bytes)
        self._inbox = Inbox(limits.max_inbox_bytes)
        self._out = OutQueue()

    def __repr__(self) -> str:
        state = "connecting" if self.is_awaited else f"closed: {self.error}" if self.error else "open"
        state = "this node" if self.is_own else state
        return f"<connection to node {self.node} ({self.host}), {state}>"

    @property
    def is_awaited(self) -> bool:
        """Whether the link is still being made."""
        return self.life.state is _AWAITED

    @property
    def is_own(self) -> bool:
        """Whether this represents this node itself, which is a member of every network and has no link."""
        return self.life.state is _OWN

    @property
    def generation(self) -> int:
        """Number of restarts of the node. A call that waits for a message of an older engine waits in vain."""
        return self.life.generation

    @property
    def values_sent(self) -> int:
        """Number of sent messages that the receiver also counts, see `pconnect.protocol.wait_states`."""
        return self._out.counted

    @property
    def values_received(self) -> int:
        """Number of received messages that the sender also counts."""
        return self._inbox.received

    @property
    def inbox(self) -> Mapping[int, deque[tuple[object, int]]]:
        """The received values that no call has taken yet, by tag, each with its size."""
        return self._inbox.values

    @property
    def collectives(self) -> CollectiveInbox:
        """The messages of collective calls that no call has taken yet."""
        return self._inbox.collectives

    @property
    def encrypted(self) -> bool:
        """Whether the link is encrypted."""
        return self._channel is not None and self._channel.encrypted

    @property
    def transport(self) -> str | None:
        """``unix``, ``tls``, ``relay`` or ``plain``; ``None`` without a link."""
        return None if self._channel is None else self._channel.transport

    @property
    def wants_to_write(self) -> bool:
        """Whether data is queued and the sender must wait."""
        out = self._out
        return bool(out.buffers) and (self.life.state is not _AWAITED or out.unsent_bytes > _AWAITED_BYTES)

    @property
    def has_unsent(self) -> bool:
        """Whether data is queued, perhaps for a link that is still being made."""
        return bool(self._out.buffers)

    @property
    def wants_to_read(self) -> bool:
        """Whether more data may be read: the inbox has room, or a message is incomplete."""
        return not self._inbox.is_full or self._decoder.in_payload

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes in the inbox."""
        return self._inbox.waiting_bytes

    @property
    def unsent_bytes(self) -> int:
        """Number of queued bytes."""
        return self._out.unsent_bytes

    @property
    def sent_bytes(self) -> int:
        """Number of bytes that the operating system has accepted so far."""
        return self._out.sent_bytes

    @property
    def received_bytes(self) -> int:
        """Number of bytes read so far."""
        return self._inbox.received_bytes

    @property
    def arriving_bytes(self) -> tuple[int, int]:
        """Received bytes and size of the message that is arriving; ``(0, 0)`` if there is none."""
        return self._decoder.arriving_bytes

    @property
    def unanswered_retransmits(self) -> int:
        """Number of unanswered TCP retransmits; see `pconnect.loop.liveness`."""
        return 0 if self._channel is None or self.error else self._channel.unanswered_retransmits

    @property
    def peer_timeout(self) -> float:
        """Seconds without an answer after which the peer's machine counts as gone."""
        return math.inf if self._channel is None or self.error else self._channel.peer_timeout

    def fileno(self) -> int:
        """Return the descriptor to poll, or -1."""
        return -1 if self._channel is None else self._channel.fileno()

    def post(self, kind: Kind, tag: int = 0, value: object = None) -> None:
        """Queue a message for sending. Arrays are not copied.

        Raises
        ------
        UnsupportedValueError, MessageTooLargeError
            Nothing was queued.
        """
        buffers = encode_message(kind, tag, value, self._limits.max_message_bytes)
        self.post_encoded(buffers, is_counted=kind not in UNCOUNTED_KINDS)

    def post_encoded(self, buffers: Sequence[bytes | memoryview], *, is_counted: bool = True) -> None:
        """Queue an encoded message for sending. Drops it if the connection is closed."""
        if self.error is None:
            self._out.put(buffers, is_counted=is_counted)
            self.changed.add(self)

    def flush(self) -> None:
        """Write as much as possible without blocking."""
        if self._channel is None:
            return  # the link is being made
        try:
            if self._out.send(self._channel):
                self.changed.add(self)
        except ConnectionLostError as error:
            self._out.fail(error)
            self.changed.add(self)
            if self._decoder.role not in _READ_TO_THE_END:
                self.lose(error)

    def keep_unsent(self) -> None:
        """Copy queued data, so that its memory may change from now on."""
        self._out.copy()

    def fill(self, *, to_the_end: bool = False) -> bool:
        """Read the data that has arrived. Return whether more data may be buffered than a poll reports.

        `to_the_end`: the other end is gone, so do not rely on a poll.
        """
        channel, decoder, inbox = self._channel, self._decoder, self._inbox
        assert channel is not None  # noqa: S101 - only an open link is read from
        total, limit = 0, _FILL_BYTES_SHOWN if decoder.role is _CLIENT else _FILL_BYTES
        try:
            while total < limit and (not inbox.is_full or decoder.in_payload):
                buffer = decoder.get_buffer()
                size = len(buffer)  # a buffer that is full may be released with its message
                count = channel.receive_into(buffer)
                if count is None:
                    return False
                if count == 0:
                    raise self._out.failure or peer_closed()
                total += count
                inbox.received_bytes += count
                for message in decoder.received(count):
                    self._take(message)
                    if self._decoder is not decoder:
                        return False  # a callback has reset the link, so the rest is from the old engine
                if count < size and not (to_the_end or decoder.in_message or channel.pending()):
                    return False  # probably no more data is waiting; if it is, the next poll reports it
        except ParallelError as error:
            self.lose(error)
            return False
        return True

    def lose(self, error: ParallelError) -> None:
        """Close the connection because of `error`. Received values stay in the inbox."""
        if self.error is None:
            self.life.happen(LinkEvent.BROKE)
            self.error = error
            self._end()
            self.on_lost(error)

    def loss(self) -> ParallelError:
        """Return `error` of a closed connection, with the name of the node and a hint for the user."""
        remedy = self.peer.remedy(self)
        return ConnectionLostError(f"node {self.node} ({self.host}) is lost: {self.error}{remedy}")

    def account(self) -> ParallelError:
        """Return the best explanation of why the connection is closed, as an error to raise."""
        return self.peer.explain() or self.loss()

    def close(self) -> None:
        """Close the channel."""
        self.life.happen(LinkEvent.CLOSED_HERE)
        if not self.is_own:
            self.error = self.error or ConnectionLostError("it was closed here")
            self._end()

    def _suspect(self) -> None:
        """Make collective calls check whether they can still complete."""
        if self.mesh is not None:
            self.mesh.suspects.add(self.node)

    def _end(self) -> None:
        self._suspect()
        self._out.clear()
        if self._channel is not None:
            self._channel.close()

    def abandon(self, error: ParallelError) -> None:
        """Leave the link to the parent process of a fork. In this process it is closed because of `error`."""
        self.life.happen(LinkEvent.ABANDONED)
        self.error = error
        self._suspect()
        self._out.clear()
        if self._channel is not None:
            self._channel.abandon()
            self._channel = None

    def reset(self) -> None:
        """Close the link, drop everything received from its other end, and await a new one.

        The loop must no longer serve it. Calls that wait for this node raise an error, see `check_generation`.
        """
        self.life.happen(LinkEvent.RESET)
        self._end()
        self._channel = self.error = None
        self._decoder = Decoder(self._decoder.role, self._limits.max_message_bytes)
        before, self._inbox = self._inbox.received_bytes, Inbox(self._limits.max_inbox_bytes)
        self._inbox.received_bytes = before
        if self.mesh is not None:
            self._inbox.begin_epoch(self.mesh.epoch)
        self._out.renew()

    def open(self, channel: Channel) -> None:
        """Take over the awaited link; queued data is for its other end. Closes it if this connection was closed."""
        self.life.happen(LinkEvent.CONNECTED)
        if self.error is not None:
            channel.close()
            return
        self._channel = channel
        self.changed.add(self)

    def check_generation(self, before: int) -> None:
        """Raise an error if the node was restarted since `generation` was `before`."""
        if self.life.generation != before:
            raise ConnectionLostError(
                f"node {self.node} ({self.host}) was restarted meanwhile: data that its old engine had sent, and data "
                "on its way there, is lost"
            )

    def check_inbox(self) -> None:
        """Raise an error if no value can arrive before waiting values with other tags are received."""
        if self.error is None and not self.wants_to_read:
            tags = ", ".join(str(tag) for tag in sorted(self.inbox)[:5]) or "none"
            raise InboxFullError(
                f"node {self.node} ({self.host}) has sent {self.waiting_bytes} bytes that were never received (tags "
                f"{tags}; {self.collectives.size} bytes for collective calls), so nothing more is read from it: "
                "receive them, or connect with a higher max_inbox_bytes"
            )

    def has_value(self, tag: int) -> bool:
        """Whether a complete value with this tag has arrived."""
        return tag in self._inbox.values

    def take_value(self, tag: int) -> object:
        """Remove and return the oldest value with this tag. Raises the errors of `finished`."""
        return finished(self.take_unfinished(tag))

    def take_unfinished(self, tag: int) -> object:
        """Remove and return the oldest value with this tag, for `finished`, which may take long or fail."""
        value, has_changed = self._inbox.take_value(tag)
        if has_changed:
            self.changed.add(self)
        return value

    def put_back(self, tag: int, value: Unfinished) -> None:
        """Return a value that was just taken, but not decoded, to the front of its queue."""
        if self._inbox.put_back(tag, value):
            self.changed.add(self)

    def take_collective(self, key: Key) -> CollectiveMessage:
        """Remove and return the oldest message of a collective call."""
        message, has_changed = self._inbox.take_collective(key)
        if has_changed:
            self.changed.add(self)
        return message

    def limit_inbox(self, *, is_limited: bool) -> None:
        """Stop reading when the inbox is full, or read without a limit."""
        if self._inbox.set_limit(self._limits.max_inbox_bytes if is_limited else math.inf):
            self.changed.add(self)

    def begin_epoch(self, epoch: int) -> None:
        """Drop the messages of collective calls of older epochs."""
        if self._inbox.begin_epoch(epoch):
            self.changed.add(self)

    def _take(self, message: Message) -> None:
        kind = message.kind
        if kind is _VALUE and message.tag >= LIBRARY_TAGS and self.on_library_value is not None:
            self._inbox.received += 1
            self.on_library_value(message.tag, message.value)
        elif kind is _VALUE or kind in COLLECTIVE_KINDS:
            if self._inbox.add(message):
                self.changed.add(self)
            if kind is not _VALUE and self.mesh is not None:
                if kind is _LEFT:
                    self.mesh.note_failure()
                if kind is _LEFT or self.collectives.latest > self.mesh.epoch:
                    self._suspect()
        else:
            self._inbox.received += 1
            self.on_message(message)

    def _unexpected(self, message: Message) -> None:
        raise AssertionError(f"no handler for {message.kind.name}")
