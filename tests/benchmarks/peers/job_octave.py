"""GNU Octave's parallel package in the comparison of jobs."""

import contextlib
from collections.abc import Iterator

from tests.benchmarks.peers.alone import Elsewhere
from tests.benchmarks.peers.octave_ import running_client
from tests.benchmarks.peers.peer import PIECE, WORKERS, Floats, Peer


class Octave(Elsewhere):
    """A client and one server."""

    encryption = "TLS 1.2"
    note = (
        f"a job is rfeval, jobs are elements of netarrayfun with nlocaljobs {WORKERS}, which is cut to the number of "
        f"processors; map has ChunkSize {PIECE}."
    )

    def call(self) -> float:
        return self._ask("job")

    def put(self) -> float:
        return self._ask("argument")


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start client and server."""
    with running_client(array) as (ask, _):
        yield Octave(ask)
