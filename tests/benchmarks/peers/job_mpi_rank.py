"""One rank of mpi4py.futures: the first rank distributes jobs, the other ranks run them."""

import sys
from concurrent.futures import Executor, wait

import numpy as np

from tests.benchmarks.job_functions import nothing, size, sleep
from tests.benchmarks.peers.alone import serve
from tests.benchmarks.peers.peer import PIECE, SLEEP_SECONDS, SLEEPERS, Floats, Peer, seconds
from tests.benchmarks.timing import JOBS

_TIMEOUT = 60.0


class Client(Peer):
    """An executor with the standard library's interface, and its measured work."""

    def __init__(self, executor: Executor, array: Floats) -> None:
        self._executor = executor
        self._array = array

    def call(self) -> float:
        return seconds(lambda: self._executor.submit(nothing).result(_TIMEOUT))

    def many(self) -> float:
        return seconds(lambda: wait([self._executor.submit(nothing, k) for k in range(JOBS)], _TIMEOUT))

    def map(self) -> float:
        return seconds(lambda: list(self._executor.map(nothing, range(JOBS), chunksize=PIECE)))

    def put(self) -> float:
        return seconds(lambda: self._executor.submit(size, self._array).result(_TIMEOUT))

    def share(self) -> float:
        return seconds(
            lambda: wait([self._executor.submit(sleep, SLEEP_SECONDS) for _ in range(SLEEPERS)], _TIMEOUT)
        )


def main() -> None:
    """Run as a rank until the process that listens on the path in the last argument closes the connection."""
    from mpi4py import MPI
    from mpi4py.futures import MPICommExecutor

    count, path = sys.argv[1:]
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as executor:
        if executor is not None:
            serve(path, Client(executor, np.random.default_rng(1).standard_normal(int(count))))


if __name__ == "__main__":
    main()
