"""A message link to one peer: a channel, what waits to be sent, and what has arrived.

Nothing here blocks and nothing here raises because of the peer: a connection that breaks remembers why, and whoever
needs it asks (`Connection.error`). `pconnect.loop.event_loop` decides when to call `flush` and `fill`.
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

#: Tags from here on are the library's.
LIBRARY_TAGS = 2**31
_FILL_BYTES = 2**23  # read from one connection before the others have their turn
# So much may be queued for a link that is being made before the sender waits: about what the system would take.
_AWAITED_BYTES = 2**20
# What engines print is shown while it is read, perhaps by a slow terminal, and meanwhile Ctrl-C has to wait.
_FILL_BYTES_SHOWN = 2**16
# Looked up once: members of an enumeration take long to find, and these are for every message.
_VALUE, _LEFT, _CLIENT = Kind.VALUE, Kind.LEFT, Role.CLIENT
_OWN, _AWAITED = LinkState.OWN, LinkState.AWAITED
# What a worker or a supervisor has sent before it ended counts, and to close when nothing can be sent would drop it.
_READ_TO_THE_END = frozenset({Role.EMPLOYER, Role.CLIENT})


class Connection(PublicNames):
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

    Notes
    -----
    For the library: `pconnect.link.link_state` has the states of a connection. It is *awaited* while its link is being
    made, at first or again (`reset`, then `open`).
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
        #: Takes the values with the library's own tags; without it, they go into the inbox.
        self.on_library_value: Callable[[int, object], None] | None = None
        #: Where it enters itself when it may want other events than before; the loop that serves it gives its own.
        self.changed: set[Connection] = set()
        self._channel = channel
        self._limits = limits
        self._decoder = Decoder(role, limits.max_message_bytes)
        self._inbox = Inbox(limits.max_inbox_bytes)
        self._out = OutQueue()

    def __repr__(self) -> str:
        state = "being made" if self.is_awaited else f"closed: {self.error}" if self.error else "open"
        state = "own node" if self.is_own else state
        return f"<connection to node {self.node} ({self.host}), {state}>"

    @property
    def is_awaited(self) -> bool:
        """Whether the link is still being made."""
        return self.life.state is _AWAITED

    @property
    def is_own(self) -> bool:
        """Whether this stands for this node itself, which is a member of every network and has no link."""
        return self.life.state is _OWN

    @property
    def generation(self) -> int:
        """How often the node was restarted: a call that waits for something of an older engine waits in vain."""
        return self.life.generation

    @property
    def values_sent(self) -> int:
        """How many messages were sent that the receiver counts too, see `pconnect.protocol.wait_states`."""
        return self._out.counted

    @property
    def values_received(self) -> int:
        """How many messages have arrived that the sender counts too."""
        return self._inbox.received

    @property
    def inbox(self) -> Mapping[int, deque[tuple[object, int]]]:
        """The values that have arrived and were not taken, by tag, each with its size."""
        return self._inbox.values

    @property
    def collectives(self) -> CollectiveInbox:
        """What has arrived for collective calls and was not taken."""
        return self._inbox.collectives

    @property
    def encrypted(self) -> bool:
        """Whether what passes here is encrypted."""
        return self._channel is not None and self._channel.encrypted

    @property
    def transport(self) -> str | None:
        """``unix``, ``tls``, ``relay`` or ``plain``; ``None`` without a link."""
        return None if self._channel is None else self._channel.transport

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits to be sent, and whoever sends it has to wait."""
        out = self._out
        return bool(out.buffers) and (self.life.state is not _AWAITED or out.unsent_bytes > _AWAITED_BYTES)

    @property
    def has_unsent(self) -> bool:
        """Whether something waits to be sent, perhaps for a link that is still being made."""
        return bool(self._out.buffers)

    @property
    def wants_to_read(self) -> bool:
        """Whether more may be taken in: the inbox has room, or a message has begun."""
        return not self._inbox.is_full or self._decoder.in_payload

    @property
    def waiting_bytes(self) -> int:
        """How much has arrived and is not yet taken."""
        return self._inbox.waiting_bytes

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be sent."""
        return self._out.unsent_bytes

    @property
    def sent_bytes(self) -> int:
        """How much the system has taken so far."""
        return self._out.sent_bytes

    @property
    def received_bytes(self) -> int:
        """How much has been read so far."""
        return self._inbox.received_bytes

    @property
    def arriving_bytes(self) -> tuple[int, int]:
        """How much of the message that is arriving is here, and how large it is; 0 of 0 if there is none."""
        return self._decoder.arriving_bytes

    @property
    def unanswered_retransmits(self) -> int:
        """How often the system has repeated something without an answer; see `pconnect.loop.liveness`."""
        return 0 if self._channel is None or self.error else self._channel.unanswered_retransmits

    @property
    def peer_timeout(self) -> float:
        """Seconds after which the peer's machine counts as gone if it does not answer."""
        return math.inf if self._channel is None or self.error else self._channel.peer_timeout

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
            self._out.put(buffers, is_counted=is_counted)
            self.changed.add(self)

    def flush(self) -> None:
        """Write what can be written now."""
        if self._channel is None:
            return  # it is being made
        try:
            if self._out.send(self._channel):
                self.changed.add(self)
        except ConnectionLostError as error:
            self._out.fail(error)
            self.changed.add(self)
            if self._decoder.role not in _READ_TO_THE_END:
                self.lose(error)

    def keep_unsent(self) -> None:
        """Copy what waits to be sent, so that its memory may change from now on."""
        self._out.copy()

    def fill(self, *, to_the_end: bool = False) -> bool:
        """Read what has arrived; return whether more may be there that no poll would show.

        `to_the_end`: rely on no poll at all: the other end is gone.
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
                        return False  # a callback has reset the link: what is left is from the old engine
                if count < size and not (to_the_end or decoder.in_message or channel.pending()):
                    return False  # most likely nothing more is there; if it is, the next poll says so
        except ParallelError as error:
            self.lose(error)
            return False
        return True

    def lose(self, error: ParallelError) -> None:
        """Close the connection because of `error`. Values that have arrived stay in the inbox."""
        if self.error is None:
            self.life.happen(LinkEvent.BROKE)
            self.error = error
            self._end()
            self.on_lost(error)

    def loss(self) -> ParallelError:
        """Return `error`, of a closed connection, with the node's name in it, and what to do."""
        remedy = self.peer.remedy(self)
        return ConnectionLostError(f"node {self.node} ({self.host}) is lost: {self.error}{remedy}")

    def account(self) -> ParallelError:
        """Return the best that is known about why the connection is closed, as an error to raise."""
        return self.peer.explain() or self.loss()

    def close(self) -> None:
        """Close the channel."""
        self.life.happen(LinkEvent.CLOSED_HERE)
        if not self.is_own:
            self.error = self.error or ConnectionLostError("it was closed here")
            self._end()

    def _suspect(self) -> None:
        """Have collective calls look whether they can still be completed."""
        if self.mesh is not None:
            self.mesh.suspects.add(self.node)

    def _end(self) -> None:
        self._suspect()
        self._out.clear()
        if self._channel is not None:
            self._channel.close()

    def abandon(self, error: ParallelError) -> None:
        """Leave the link to the process that this one was forked from; here it is closed because of `error`."""
        self.life.happen(LinkEvent.ABANDONED)
        self.error = error
        self._suspect()
        self._out.clear()
        if self._channel is not None:
            self._channel.abandon()
            self._channel = None

    def reset(self) -> None:
        """Give up the link, if there is one, drop everything that came from its other end, and await a new one.

        The loop must not serve it any more. Calls that wait for this node will raise, see `check_generation`.
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
        """Take over the link that was awaited; what is queued is for its other end. Closed meanwhile, it stays so."""
        self.life.happen(LinkEvent.CONNECTED)
        if self.error is not None:
            channel.close()
            return
        self._channel = channel
        self.changed.add(self)

    def check_generation(self, before: int) -> None:
        """Raise if the node was restarted since `generation` was `before`."""
        if self.life.generation != before:
            raise ConnectionLostError(
                f"node {self.node} ({self.host}) was restarted meanwhile: what its old engine had sent, and what was "
                "on its way there, is lost"
            )

    def check_inbox(self) -> None:
        """Raise if no value can come from here any more before others that have come are received."""
        if self.error is None and not self.wants_to_read:
            tags = ", ".join(str(tag) for tag in sorted(self.inbox)[:5]) or "none"
            raise InboxFullError(
                f"node {self.node} ({self.host}) has sent {self.waiting_bytes} bytes that were never received (tags "
                f"{tags}; {self.collectives.size} bytes for collective calls), so no more is read from it: receive "
                "them, or connect with a higher max_inbox_bytes"
            )

    def has_value(self, tag: int) -> bool:
        """Whether a complete value with this tag is here."""
        return tag in self._inbox.values

    def take_value(self, tag: int) -> object:
        """Remove the oldest value with this tag from the inbox and return it, or raise as `finished`."""
        return finished(self.take_unfinished(tag))

    def take_unfinished(self, tag: int) -> object:
        """Remove the oldest value with this tag and return it for `finished`, which may take long or fail."""
        value, has_changed = self._inbox.take_value(tag)
        if has_changed:
            self.changed.add(self)
        return value

    def put_back(self, tag: int, value: Unfinished) -> None:
        """Put a value that was just taken in front of the others with its tag: it was not made."""
        if self._inbox.put_back(tag, value):
            self.changed.add(self)

    def take_collective(self, key: Key) -> CollectiveMessage:
        """Remove the oldest message of a collective call and return it."""
        message, has_changed = self._inbox.take_collective(key)
        if has_changed:
            self.changed.add(self)
        return message

    def limit_inbox(self, *, is_limited: bool) -> None:
        """Have this end stop reading when its inbox is full, or read on."""
        if self._inbox.set_limit(self._limits.max_inbox_bytes if is_limited else math.inf):
            self.changed.add(self)

    def begin_epoch(self, epoch: int) -> None:
        """Drop what belongs to collective calls of older epochs."""
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
        raise AssertionError(f"nobody takes {message.kind.name}")
