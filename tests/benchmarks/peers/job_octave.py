"""GNU Octave's parallel package in the comparison of jobs."""

import contextlib
from collections.abc import Iterator

from tests.benchmarks.peers.alone import Elsewhere
from tests.benchmarks.peers.octave_ import running_client
from tests.benchmarks.peers.peer import PIECE, WORKERS, CannotError, Floats, Peer


class Octave(Elsewhere):
    """A client and one server."""

    encryption = "TLS 1.2"
    note = (
        f"a job is rfeval; map and the jobs of 0.2 s are netarrayfun with nlocaljobs {WORKERS}, which the package cuts "
        f"to the number of processors; map has ChunkSize {PIECE}."
    )

    def call(self) -> float:
        return self._ask("job")

    def many(self) -> float:
        raise CannotError("no such call")

    def put(self) -> float:
        return self._ask("argument")


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start client and server."""
    with running_client(array) as (ask, _):
        yield Octave(ask)
