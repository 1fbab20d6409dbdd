"""Exchange of values between many members: to one of them, from one, or between all.

Sending a message costs both ends more than some thousand bytes in it. So with many members, small values travel through
a tree (`pconnect.messaging.tree`): each member sends its parent one bundle, with its own value and the values of all
members behind it. A value is encoded once, by its owner, and decoded once, where it is needed; on the way, a bundle is
plain bytes. A large value would be sent many times this way, so the bundle only announces that it is sent directly.

A *bundle* is ``[number of entries, entries]``. An entry is the rank and the size of the encoded value, four bytes each,
and the value. The entry of a value that is sent directly has no value and the size `_DIRECT`. Large bundles are split.
"""

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pconnect.errors import ProtocolError
from pconnect.messaging import broadcast_algorithm, tree
from pconnect.messaging.collective_call import Call
from pconnect.values import decoder, encoder

#: Up to this many members, each sends to each: fewer steps, and hardly more messages; see doc/decisions/0015-growth.md.
ALL_TO_ALL_MEMBERS = 3
_SMALL_BYTES = 2**12
_BUNDLE_BYTES = 2**16
_ENTRY = struct.Struct("<II")
_DIRECT = 2**32 - 1

Packed = bytes | None  # `None`: too large for a bundle


def gather(call: Call, root: int, value: object) -> Iterator[Any] | None:
    """Return all values in rank order on the root, each as soon as it arrives; ``None`` on other members."""
    if tree.is_flat(call.size):
        call.post([root] if call.rank != root else [], value)
        return call.in_rank_order(value, call.size) if call.rank == root else None
    packed = _pack(call, value)
    found = _collect(call, root, packed)
    if found is not None:
        return _values(call, found, value)
    if packed is None:
        call.post([root], value)
    return None


def allgather(call: Call, value: object) -> Iterator[Any]:
    """Return all values in rank order on every member, each as soon as it arrives."""
    if call.size <= ALL_TO_ALL_MEMBERS:
        call.post(call.others, value)
        return call.in_rank_order(value, call.size)
    packed = _pack(call, value)
    found = _collect(call, 0, packed)
    entries = None if found is None else b"".join(map(_entry, found, found.values()))
    entries = broadcast_algorithm.broadcast(call, 0, entries)
    if packed is None:  # only now, because a neighbour in the tree reads the messages of this member in order
        call.post(call.others, value)
    return _values(call, found or _read(call, entries, call.size, 0), value)


def scatter(call: Call, root: int, values: Sequence[Any] | None) -> Any:
    """Return this member's item of the root's values. On the root, it is not copied."""
    others = call.others
    if tree.is_flat(call.size):
        if values is None:
            return call.receive(root)
        for rank in others:
            call.post([rank], values[rank])
        return values[root]
    if values is None:
        own = _spread(call, root, {})
        return call.receive(root) if own is None else _unpack(call, root, own)
    packed = {rank: _pack(call, values[rank]) for rank in others}
    _spread(call, root, packed)
    for rank in others:
        if packed[rank] is None:
            call.post([rank], values[rank])
    return values[root]


# --- bundles in the tree ---


def _collect(call: Call, root: int, own: Packed) -> dict[int, Packed] | None:
    """Pass on the entries of the members behind this one. On the root, return the entries of all members."""
    parents = tree.parents(call.rank, root, call.size)
    missing = {
        child: tree.branch_size(child, root, call.size) for child in tree.children(call.rank, root, call.size)
    }
    found = {call.rank: own}
    entries, count = [_entry(call.rank, own)], 1

    def take() -> Collection[int]:
        nonlocal count
        for child in tuple(missing):
            while missing[child] and call.has_value(child):
                added, data = _read_bundle(call, child, missing[child])
                missing[child] -= added
                if parents:
                    entries.append(data)
                    count += added
                else:
                    found.update(_read(call, data, added, child, found))
        left = [child for child, number in missing.items() if number]
        if parents and entries and (not left or sum(map(len, entries)) >= _BUNDLE_BYTES):
            call.post(parents, [count, b"".join(entries)])
            entries.clear()
            count = 0
        return left

    call.run(take)
    return None if parents else found


def _spread(call: Call, root: int, packed: Mapping[int, Packed]) -> Packed:
    """Pass on entries to the members behind this one. Return this member's own entry, except on the root."""
    children = tree.children(call.rank, root, call.size)
    behind = {rank: child for child in children for rank in tree.branch(child, root, call.size)}
    _pass_on(call, behind, packed)
    own: Packed = None
    for parent in tree.parents(call.rank, root, call.size):
        missing = len(behind) + 1
        while missing:
            call.wait_for(parent)
            count, data = _read_bundle(call, parent, missing)
            missing -= count
            found = _read(call, data, count, parent)
            own = found.pop(call.rank, own)
            if not found.keys() <= behind.keys():
                call.refuse(parent, "a bundle for other members")
            _pass_on(call, behind, found)
    return own


def _pass_on(call: Call, behind: Mapping[int, int], packed: Mapping[int, Packed]) -> None:
    """Send each child the entries of the members behind it, in bundles of bounded size."""
    bundles: dict[int, list[bytes]] = {}
    for rank, value in packed.items():
        bundle = bundles.setdefault(behind[rank], [])
        bundle.append(_entry(rank, value))
        if len(bundle) * _SMALL_BYTES >= _BUNDLE_BYTES and sum(map(len, bundle)) >= _BUNDLE_BYTES:
            call.post([behind[rank]], [len(bundle), b"".join(bundle)])
            bundle.clear()
    for child, bundle in bundles.items():
        if bundle:
            call.post([child], [len(bundle), b"".join(bundle)])


def _read_bundle(call: Call, sender: int, most: int) -> tuple[int, bytes]:
    match call.take_value(sender):
        case [int() as count, bytes() as data] if 0 < count <= most:
            return count, data
    return call.refuse(sender, "a malformed bundle")


# --- entries ---


def _pack(call: Call, value: object) -> Packed:
    """Return a value as it is stored in a bundle, or ``None`` if it is too large."""
    if type(value) is np.ndarray and value.nbytes > _SMALL_BYTES:
        return None
    head, buffers = encoder.encode(value)
    limit = min(_SMALL_BYTES, call.mesh.limits.max_message_bytes // 64)
    return None if buffers or len(head) > limit else head


def _unpack(call: Call, rank: int, packed: bytes) -> Any:
    try:
        return decoder.decode(packed, 0).finish()
    except ProtocolError as error:
        call.refuse(rank, str(error))


def _values(call: Call, packed: Mapping[int, Packed], own: object) -> Iterator[Any]:
    for rank in range(call.size):
        if rank == call.rank:
            yield own
        else:
            value = packed[rank]
            yield call.receive(rank) if value is None else _unpack(call, rank, value)


def _entry(rank: int, packed: Packed) -> bytes:
    return _ENTRY.pack(rank, _DIRECT) if packed is None else _ENTRY.pack(rank, len(packed)) + packed


def _read(
    call: Call, entries: bytes, count: int, sender: int, known: Collection[int] = ()
) -> dict[int, Packed]:
    """Return the values of some entries by rank. Refuse `sender` if they are malformed, or already in `known`."""
    found: dict[int, Packed] = {}
    position = 0
    try:
        while position < len(entries):
            rank, size = _ENTRY.unpack_from(entries, position)
            position += _ENTRY.size
            found[rank] = None if size == _DIRECT else entries[position : position + size]
            position += 0 if size == _DIRECT else size
    except struct.error:
        count = -1
    if (
        len(found) != count
        or position != len(entries)
        or max(found) >= call.size
        or not found.keys().isdisjoint(known)
    ):
        call.refuse(sender, "a malformed bundle")
    return found
