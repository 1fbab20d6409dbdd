"""mpi4py.futures in the comparison of jobs, over TCP as between machines."""

import contextlib
import sys
from collections.abc import Iterator

from tests.benchmarks.peers.alone import Elsewhere, running_alone
from tests.benchmarks.peers.mpi import ENVIRONMENT, OPTIONS, mpiexec
from tests.benchmarks.peers.peer import PIECE, WORKERS, Floats, Peer


class MpiFutures(Elsewhere):
    """Rank 0, the client, and `WORKERS` further ranks."""

    note = f"MPICommExecutor over TCP, no shared memory; map with chunksize={PIECE}."


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start the ranks."""
    rank = [sys.executable, "-m", "tests.benchmarks.peers.job_mpi_rank", str(array.size)]
    with running_alone([mpiexec(), "-n", str(WORKERS + 1), *OPTIONS, *rank], ENVIRONMENT) as ask:
        yield MpiFutures(ask)
