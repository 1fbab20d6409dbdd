"""An engine's link to its client, when the client may vanish and come back as another process.

The client acknowledges each value that it has taken (RECEIVED). The engine keeps a copy of each value that it has sent
and that was not acknowledged, and sends it again to the returning process. A value that the client took but did not
acknowledge before it vanished arrives twice. Values beyond the limit are lost, and counted. Values that the engine had
received from the client and not used yet stay where they are; a message received only in part is discarded.
"""

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pconnect.errors import ConnectionLostError, ParallelError, ProtocolError
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.link.link_state import LinkEvent, LinkState
from pconnect.link.peer import Peer
from pconnect.protocol.frames import NO_LIMIT, Header, Limits
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Decoder, Message

#: Limit for values that the client has not taken; the results of commands have the same limit again.
KEPT_BYTES = 2**26
# Look these up once: access to enumeration members is slow, and these are needed for every message.
_RECEIVED, _COMMAND, _CALL = Kind.RECEIVED, Kind.COMMAND, Kind.CALL
_VALUE_BYTES = 2**8  # approximate memory for a value besides its own size


class _Kept(NamedTuple):
    tag: int
    data: bytes  # the whole message; empty if it is too large


class KeptValues:
    """Copies of the values sent to a client that has not taken them.

    `max_bytes`: beyond this total, the oldest are dropped.
    """

    def __init__(self, max_bytes: int) -> None:
        self._lost = 0  # number of lost values that were not reported to a client yet
        self._max_bytes = max_bytes
        self._size = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()  # by serial number, the oldest first
        self._serials: dict[int, deque[int]] = {}  # of each tag
        self._next = itertools.count()
        self._forgotten: dict[int, int] = {}  # number of dropped values by tag, older than kept ones

    def add(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Keep a copy of a sent message, if it is a value of the user's code."""
        header = Header.unpack(bytes(buffers[0][:_HEADER_END]), NO_LIMIT)
        if header.kind is not Kind.VALUE or header.tag >= LIBRARY_TAGS:
            return
        is_small = sum(map(len, buffers)) + _VALUE_BYTES <= self._max_bytes
        value = _Kept(header.tag, b"".join(buffers) if is_small else b"")
        self._keep(value)
        while self._size > self._max_bytes:
            oldest = self._drop(next(iter(self._kept)))
            self._forgotten[oldest.tag] = self._forgotten.get(oldest.tag, 0) + 1

    def _keep(self, value: _Kept) -> None:
        serial = next(self._next)
        self._kept[serial] = value
        self._serials.setdefault(value.tag, deque()).append(serial)
        self._size += len(value.data) + _VALUE_BYTES

    def take(self, tag: int) -> None:
        """Drop the oldest value with a tag, because the client has taken it."""
        if self._forgotten.get(tag):
            self._forgotten[tag] -= 1
        elif tag in self._serials:
            self._drop(self._serials[tag][0])

    def _drop(self, serial: int) -> _Kept:
        """Drop a value, which is the oldest with its tag."""
        value = self._kept.pop(serial)
        serials = self._serials[value.tag]
        serials.popleft()
        if not serials:
            del self._serials[value.tag]
        self._size -= len(value.data) + _VALUE_BYTES
        return value

    def take_lost(self) -> int:
        """Return the number of lost values, which is reported now, and reset it."""
        lost, self._lost = self._lost, 0
        return lost

    def messages(self) -> list[bytes]:
        """Return the messages to send again, the oldest first; all other values that were not taken are lost."""
        kept = [value for value in self._kept.values() if value.data]
        self._lost += sum(self._forgotten.values()) + len(self._kept) - len(kept)
        for table in (self._forgotten, self._kept, self._serials):
            table.clear()
        self._size = 0
        for value in kept:
            self._keep(value)
        return [value.data for value in kept]


_HEADER_END = len(Header(Kind.VALUE).pack())


class _VanishedClient(Peer):
    """An engine's view of its client: whether the arguments of a command can still arrive."""

    def __init__(self) -> None:
        self.awaits = 0  # the command whose arguments are awaited
        self.lost_up_to = 0  # the last command that came from a client which has vanished

    def check(self) -> None:
        """See `pconnect.link.peer.Peer.check`."""
        if 0 < self.awaits <= self.lost_up_to:
            raise ConnectionLostError("the client disconnected before the arguments of this command arrived")


class ClientLink(Connection):
    """The data connection of an engine to a client that may vanish and come back.

    `kept_bytes`: how much is kept for the returning process. `on_vanished`: called when the client has vanished, while
    the link still has its descriptor; the loop must then stop serving it.
    """

    _for_users = Connection._for_users

    def __init__(self, limits: Limits, kept_bytes: int, on_vanished: Callable[[], object]) -> None:
        super().__init__(0, "client", None, role=Role.ENGINE_DATA, limits=limits, awaited=True)
        self.kept = KeptValues(kept_bytes)  #: the values that the client has not taken
        self.vanished = 0  #: how many clients have vanished
        self.peer = self._client = _VanishedClient()
        self._on_vanished = on_vanished
        self._is_ending = False
        self._last_command = 0

    @property
    def is_orphaned(self) -> bool:
        """Whether the client has vanished, and none has come back."""
        return self.vanished > 0 and self.life.state is LinkState.AWAITED

    def await_arguments(self, command: int) -> None:
        """Record the command whose arguments are awaited; 0: none."""
        self._client.awaits = command

    def post_encoded(self, buffers: Sequence[bytes | memoryview], *, is_counted: bool = True) -> None:
        """See `pconnect.link.connection.Connection.post_encoded`."""
        if self.error is None:
            self.kept.add(buffers)
        super().post_encoded(buffers, is_counted=is_counted)

    def lose(self, error: ParallelError) -> None:
        """Await another client; if there is no client now, close the connection because of `error`."""
        if self._is_ending:
            return
        if self.life.state is not LinkState.OPEN:
            super().lose(error)
        else:
            if not isinstance(error, ProtocolError):  # after a protocol error, read nothing further
                self._read_on()
            self._vanish()

    def give_up(self) -> None:
        """Drop a client that may still be there, because another one replaces it, and await that one."""
        if self.life.state is LinkState.OPEN:
            self._read_on()
            self._vanish()

    def _read_on(self) -> None:
        """Read everything that the client had sent."""
        self._is_ending = True
        try:
            while self.wants_to_read and self.fill(to_the_end=True):
                pass
        finally:
            self._is_ending = False

    def _vanish(self) -> None:
        self._on_vanished()
        self._client.lost_up_to = self._last_command
        if self.mesh is not None:
            # Collective calls in progress cannot complete without the client.
            words = [self.mesh.epoch, 0, "the client disconnected during the call"]
            self._take(Message(Kind.LEFT, 0, words))
        self.life.happen(LinkEvent.VANISHED)
        self._end()
        self._channel = None
        self._decoder = Decoder(self._decoder.role, self._limits.max_message_bytes)
        self._inbox.received = self._out.counted = 0
        self.vanished += 1
        for message in self.kept.messages():
            super().post_encoded([message])

    def _take(self, message: Message) -> None:
        kind = message.kind
        if kind is _RECEIVED:
            self._inbox.received += 1
            self.kept.take(message.tag)
            return
        if kind is _COMMAND or kind is _CALL:
            self._last_command = message.tag
        super()._take(message)
