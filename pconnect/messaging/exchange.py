"""Values of many members: to one of them, from one, or to all. Small ones travel in bundles, large ones directly.

A message costs both its ends more than some thousand bytes in it. So where there are many members, small values go
through a tree (`pconnect.messaging.tree`): each member sends its parent one bundle with its own value and all that are
behind it. The values in it are encoded once, by the member whose they are, and decoded once, where they are needed; on
the way a bundle is bytes. A large value would be sent again and again, so a bundle only says that it comes directly.

A *bundle* is ``[number of entries, entries]``. An entry is the rank and the size of the encoded value, four bytes each,
and the value; or no value and the size `_DIRECT`. Large bundles are sent in parts.
"""

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pconnect.errors import ProtocolError
from pconnect.messaging import broadcast_algorithm, tree
from pconnect.messaging.collective_call import Call
from pconnect.values import decoder, encoder

#: Up to so many members, each sends to each: fewer steps, hardly more messages; see doc/decisions/0015-growth.md.
ALL_TO_ALL_MEMBERS = 3
_SMALL_BYTES = 2**12
_BUNDLE_BYTES = 2**16
_ENTRY = struct.Struct("<II")
_DIRECT = 2**32 - 1

Packed = bytes | None  # `None`: too large for a bundle


def gather(call: Call, root: int, value: object) -> Iterator[Any] | None:
    """Return the values of all members in rank order, each as soon as it is here; ``None`` at others than the root."""
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
    """Return the values of all members in rank order, each as soon as it is here, at every member."""
    if call.size <= ALL_TO_ALL_MEMBERS:
        call.post(call.others, value)
        return call.in_rank_order(value, call.size)
    packed = _pack(call, value)
    found = _collect(call, 0, packed)
    entries = None if found is None else b"".join(map(_entry, found, found.values()))
    entries = broadcast_algorithm.broadcast(call, 0, entries)
    if packed is None:  # only now: a neighbour in the tree takes what comes from here in order
        call.post(call.others, value)
    return _values(call, found or _read(call, entries, call.size, 0), value)


def scatter(call: Call, root: int, values: Sequence[Any] | None) -> Any:
    """Return the own one of the root's values, which has one for each member; the root's own is no copy."""
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
    """Pass on the entries of the members behind this one; return those of all members at the root."""
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
    """Pass entries on to the members behind this one; return the own value, which is not among the root's entries."""
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
                call.refuse(parent, "a bundle for others")
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
    return call.refuse(sender, "a bundle that is malformed")


# --- entries ---


def _pack(call: Call, value: object) -> Packed:
    """Return a value as it travels in a bundle; ``None`` if it is large."""
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
    """Return the values of some entries by rank; if they are malformed, or known already, `sender` is to blame."""
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
        call.refuse(sender, "a bundle that is malformed")
    return found
