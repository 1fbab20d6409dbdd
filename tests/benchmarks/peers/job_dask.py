"""Dask's distributed scheduler in the comparison of jobs."""

import contextlib
from collections.abc import Iterator
from typing import Any

from distributed import wait

from tests.benchmarks.job_functions import nothing, size, sleep
from tests.benchmarks.peers.distributed_ import running_cluster
from tests.benchmarks.peers.peer import PIECE, SLEEP_SECONDS, SLEEPERS, WORKERS, Floats, Peer, seconds
from tests.benchmarks.timing import JOBS

_TIMEOUT = 60


class Dask(Peer):
    """A scheduler and `WORKERS` workers, each in its own process."""

    encryption = "TLS 1.3"
    note = f"submit and map with pure=False; map with batch_size={PIECE}; an argument goes by scatter(direct=True)."

    def __init__(self, client: Any, array: Floats) -> None:
        self._client = client
        self._array = array

    def call(self) -> float:
        return seconds(lambda: self._client.submit(nothing, pure=False).result(_TIMEOUT))

    def many(self) -> float:
        def work() -> None:
            wait([self._client.submit(nothing, k, pure=False) for k in range(JOBS)], _TIMEOUT)

        return seconds(work)

    def map(self) -> float:
        def work() -> None:
            futures = self._client.map(nothing, range(JOBS), pure=False, batch_size=PIECE)
            self._client.gather(futures)

        return seconds(work)

    def put(self) -> float:
        def work() -> None:
            argument = self._client.scatter(self._array, hash=False, direct=True)
            self._client.submit(size, argument, pure=False).result(_TIMEOUT)

        return seconds(work)

    def share(self) -> float:
        def work() -> None:
            tasks = [self._client.submit(sleep, SLEEP_SECONDS, pure=False) for _ in range(SLEEPERS)]
            wait(tasks, _TIMEOUT)

        return seconds(work)


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start scheduler and workers, and connect to them."""
    with running_cluster(WORKERS) as client:
        yield Dask(client, array)
