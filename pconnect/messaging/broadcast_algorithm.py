"""Broadcast: send one value from the root to all other members.

Small values go through a tree (`pconnect.messaging.tree`): each member passes the value on to a few others. So the root
sends it only a few times, however many members there are, and the last member has it after a few steps.

Large values are cut into chunks. If there are enough chunks, the root sends each chunk to one receiver only, taking the
receivers in turn, and that receiver passes it on to all the others. The value then leaves the root once, each receiver
passes on its share while more chunks arrive, every link is busy in both directions, and no byte makes more than two
hops. If there are so many members that the chunks would be too small, the chunks go through the tree one after another.

Over local links, when all members are neighbours of the root, passing on a chunk would cost as much as sending it, plus
a copy. There the root sends the value itself to each member.

The root's first message is the *announcement*, which always goes through the tree. It is ``[value]`` for a single
receiver and over local links; otherwise ``[head, payload_bytes, chunk_bytes, pieces]`` with the head of the encoded
value (`pconnect.values.encoder`). If ``chunk_bytes`` is 0, ``pieces`` is the whole payload. Otherwise chunks follow,
each a list of pieces. Both sides cut the buffers in the same way, so chunks need no numbers: the chunks from one member
arrive in order.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from pconnect.errors import ProtocolError
from pconnect.messaging import tree
from pconnect.messaging.collective_call import Call
from pconnect.protocol.messages import check_head, check_size
from pconnect.values import decoder, encoder

#: Payloads of at least this many bytes are sent in chunks; see doc/decisions/0005-collectives.md for the measurements.
CHUNKED_BYTES = 2**21
CHUNK_BYTES = 2**20
#: For smaller chunks, the cost of a message to each member is too high; see doc/decisions/0015-growth.md.
SMALLEST_CHUNK_BYTES = 2**18
# Each chunk takes some memory in the receiver.
_MAX_CHUNKS = 2**20


def broadcast(call: Call, root: int, value: Any) -> Any:
    """Return the root's value at each member. Arrays in it must not change until the call is complete."""
    if call.rank == root:
        _send(call, value)
        return value
    return _receive(call, root)


def _send(call: Call, value: object) -> None:
    children = tree.children(call.rank, call.rank, call.size)
    if call.size <= 2 or _are_near(call):
        call.post(children, [value])
        return
    head, buffers = encoder.encode(value)
    payload_bytes = sum(buffer.nbytes for buffer in buffers)
    check_size(len(head) + payload_bytes, call.mesh.limits.max_message_bytes)
    check_head(head, call.mesh.limits.max_message_bytes)
    chunk_bytes = _chunk_bytes(call.size, payload_bytes)
    if not chunk_bytes:
        call.post(children, [head, payload_bytes, 0, list(map(_as_array, buffers))])
        return
    call.post(children, [head, payload_bytes, chunk_bytes, []])
    receivers = _in_turn(call, call.rank)
    spreads = _spreads(call.size, payload_bytes, chunk_bytes)
    for index, chunk in enumerate(cut(buffers, chunk_bytes)):
        call.post([receivers[index % len(receivers)]] if spreads else children, list(map(_as_array, chunk)))


def _are_near(call: Call) -> bool:
    links = (call.mesh.connections[node] for node in call.nodes if node != call.mesh.node)
    return tree.is_flat(call.size) and all(link.transport == "unix" for link in links)


def _chunk_bytes(size: int, payload_bytes: int) -> int:
    """Return the size of the chunks of a payload, or 0 if it is not cut."""
    if payload_bytes < CHUNKED_BYTES:
        return 0
    return max(SMALLEST_CHUNK_BYTES, min(CHUNK_BYTES, payload_bytes // (size - 1)))


def _spreads(size: int, payload_bytes: int, chunk_bytes: int) -> bool:
    """Whether there is at least one chunk for each receiver to pass on."""
    return payload_bytes >= (size - 1) * chunk_bytes


def _receive(call: Call, root: int) -> Any:
    """Return the root's value, after passing it on to the members behind this one."""
    (parent,) = tree.parents(call.rank, root, call.size)
    match announcement := call.receive(parent):
        case [value] if tree.is_flat(call.size):
            return value
        case [bytes() as head, int() as payload_bytes, int() as chunk_bytes, list() as pieces] if (
            chunk_bytes >= 0 and 0 <= payload_bytes <= (chunk_bytes or payload_bytes) * _MAX_CHUNKS
        ):
            incoming = _allocate(call, parent, head, payload_bytes)
            call.post(tree.children(call.rank, root, call.size), announcement)
            if chunk_bytes:
                _Assembly(call, root, incoming.buffers, chunk_bytes).run()
            elif not _fill(incoming.buffers, pieces):
                call.refuse(parent, "a broadcast that differs from its announcement")
            try:
                return incoming.finish(look=call.look)
            except ProtocolError as error:
                call.refuse(parent, f"a malformed broadcast: {error}")
    call.refuse(parent, "a broadcast without an announcement")
    return None


def _allocate(call: Call, sender: int, head: bytes, payload_bytes: int) -> decoder.Incoming:
    limit = call.mesh.limits.max_message_bytes
    if len(head) + payload_bytes > limit:
        call.refuse(
            sender,
            f"a broadcast of {len(head) + payload_bytes} bytes was announced, but the limit is {limit}",
        )
    try:
        return decoder.decode(head, payload_bytes, call.mesh.limits.max_message_items)
    except ProtocolError as error:
        call.refuse(sender, f"a malformed broadcast: {error}")


class _Assembly:
    """A value that is assembled from chunks."""

    def __init__(self, call: Call, root: int, buffers: Sequence[memoryview], chunk_bytes: int) -> None:
        chunks = list(cut(buffers, chunk_bytes))
        self._call = call
        # The places of the missing chunks, by their sender. This member passes on the chunks from the first sender.
        if _spreads(call.size, sum(map(len, buffers)), chunk_bytes):
            receivers = _in_turn(call, root)
            self._first = root
            self._forward_to = [rank for rank in receivers if rank != call.rank]
            self._places = {
                root if rank == call.rank else rank: deque(chunks[index :: len(receivers)])
                for index, rank in enumerate(receivers)
            }
        else:
            (self._first,) = tree.parents(call.rank, root, call.size)
            self._forward_to = tree.children(call.rank, root, call.size)
            self._places = {self._first: deque(chunks)}

    def run(self) -> None:
        """Return when all chunks are in place."""
        self._call.run(self._take)

    def _take(self) -> Collection[int]:
        for sender, places in self._places.items():
            while places and self._call.has_value(sender):
                pieces = self._call.take_value(sender)
                if not _fill(places.popleft(), pieces):
                    self._call.refuse(sender, "a chunk that differs from the announcement")
                if sender == self._first:
                    self._call.post(self._forward_to, pieces)
        return [sender for sender, places in self._places.items() if places]


def _in_turn(call: Call, root: int) -> list[int]:
    """Return the receivers in the order in which they get chunks."""
    return [(root + step) % call.size for step in range(1, call.size)]


def cut(buffers: Sequence[memoryview], chunk_bytes: int) -> Iterator[list[memoryview]]:
    """Cut buffers into chunks. A chunk is a list of pieces, which may belong to several buffers.

    Examples
    --------
    >>> [[bytes(piece) for piece in chunk] for chunk in cut([memoryview(b"abcde"), memoryview(b"fg")], 3)]
    [[b'abc'], [b'de', b'f'], [b'g']]
    """
    chunk: list[memoryview] = []
    room = chunk_bytes
    for buffer in buffers:
        begin = 0
        while begin < len(buffer):
            piece = buffer[begin : begin + room]
            chunk.append(piece)
            begin += len(piece)
            room -= len(piece)
            if room == 0:
                yield chunk
                chunk, room = [], chunk_bytes
    if chunk:
        yield chunk


def _as_array(view: memoryview) -> Any:
    return np.frombuffer(view, np.uint8)


def _fill(targets: Sequence[memoryview], pieces: object) -> bool:
    """Copy pieces to their places. Return whether they fit."""
    if not isinstance(pieces, list) or len(pieces) != len(targets):
        return False
    for target, piece in zip(targets, pieces, strict=True):
        if type(piece) is not np.ndarray or piece.dtype != np.uint8 or piece.shape != target.shape:
            return False
        target[:] = piece.data
    return True
