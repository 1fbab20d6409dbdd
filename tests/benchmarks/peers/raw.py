"""The ceiling in the comparison: a plain TLS 1.3 socket."""

import contextlib
from collections.abc import Iterator

import numpy as np

from tests.benchmarks.peers.peer import CannotError, Floats, Peer, seconds
from tests.benchmarks.raw import RawPeer, raw_peer

_NO_COLLECTIVES = "two processes are not a group: compare with one transfer"


class RawSocket(Peer):
    """Bytes between two processes, and nothing else."""

    encryption = "TLS 1.3"
    note = (
        "the standard library's ssl, between two processes. Server to server is measured as client to server."
    )

    def __init__(self, peer: RawPeer, array: Floats) -> None:
        self._peer = peer
        self._data = array.view(np.uint8).data
        self._buffer = np.empty_like(array).view(np.uint8).data

    def connect(self) -> float:
        return seconds(lambda: self._peer.connect(1))

    def call(self) -> float:
        return seconds(self._peer.ping)

    def put(self) -> float:
        return seconds(lambda: self._peer.put(self._data))

    def get(self) -> float:
        return seconds(lambda: self._peer.get(self._buffer))

    def relay(self) -> float:
        return self.put()

    def bcast(self) -> float:
        raise CannotError(_NO_COLLECTIVES)

    def allreduce(self) -> float:
        raise CannotError(_NO_COLLECTIVES)


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start the other process."""
    with raw_peer(array.nbytes) as peer:
        yield RawSocket(peer, array)
