"""ipyparallel in the comparison of jobs: its load-balanced view."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.job_functions import nothing, size, sleep
from tests.benchmarks.peers.ipyparallel_ import running_engines
from tests.benchmarks.peers.peer import PIECE, SLEEP_SECONDS, SLEEPERS, WORKERS, Floats, Peer, seconds
from tests.benchmarks.timing import JOBS

_TIMEOUT = 60


class Ipyparallel(Peer):
    """A controller and `WORKERS` engines."""

    encryption = "CurveZMQ"
    note = f"apply_async of a load-balanced view; map_async with chunksize={PIECE}."

    def __init__(self, client: Any, array: Floats) -> None:
        self._client = client
        self._view = client.load_balanced_view()
        self._array = array

    def call(self) -> float:
        return seconds(lambda: self._view.apply_async(nothing).get(_TIMEOUT))

    def many(self) -> float:
        def work() -> None:
            results = [self._view.apply_async(nothing, k) for k in range(JOBS)]
            self._client.wait(results, timeout=_TIMEOUT)

        return self._measured(work)

    def map(self) -> float:
        return self._measured(
            lambda: self._view.map_async(nothing, range(JOBS), chunksize=PIECE).get(_TIMEOUT)
        )

    def put(self) -> float:
        return seconds(lambda: self._view.apply_async(size, self._array).get(_TIMEOUT))

    def share(self) -> float:
        def work() -> None:
            results = [self._view.apply_async(sleep, SLEEP_SECONDS) for _ in range(SLEEPERS)]
            self._client.wait(results, timeout=_TIMEOUT)

        return self._measured(work)

    def _measured(self, work: Any) -> float:
        duration = seconds(work)
        self._client.purge_local_results("all")  # otherwise the client would keep all results
        return duration


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start controller and engines, and connect to them."""
    with running_engines(WORKERS) as (_, client):
        yield Ipyparallel(client, array)
