"""Dask's distributed scheduler in the comparison, over TLS with temporary certificates."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.security import Security

from tests.benchmarks.peers.peer import SERVERS, Floats, Peer, seconds

_TIMEOUT = 60


def touch(array: Floats) -> int:
    """Use an array, so the worker must have it."""
    return array.nbytes


class Nothing:
    """An actor with a method that does nothing: calls go straight to its worker, not through the scheduler."""

    def call(self) -> float:
        return 1.0


class Dask(Peer):
    """A scheduler and `SERVERS` workers, each in its own process."""

    encryption = "TLS 1.3"
    note = "client and workers talk directly (direct=True), not through the scheduler. A call is an actor's."

    def __init__(self, client: Any, array: Floats) -> None:
        self._client = client
        self._array = array
        self._workers = sorted(client.nthreads())
        self._kept = self._scatter()
        self._actor = client.submit(Nothing, actor=True, workers=self._workers[:1]).result(_TIMEOUT)

    def _scatter(self, **options: Any) -> Any:
        options = {"workers": self._workers[:1]} | options
        return self._client.scatter(self._array, hash=False, direct=True, timeout=_TIMEOUT, **options)

    def connect(self) -> float:
        begin = time.perf_counter()
        client = Client(
            self._client.scheduler.address,
            security=self._client.security,
            set_as_default=False,
            timeout=_TIMEOUT,
        )
        end = time.perf_counter()
        client.close(_TIMEOUT)
        return end - begin

    def call(self) -> float:
        return seconds(lambda: self._actor.call().result(_TIMEOUT))

    def put(self) -> float:
        return seconds(self._scatter)

    def get(self) -> float:
        return seconds(lambda: self._client.gather(self._kept, direct=True))

    def relay(self) -> float:
        array = self._scatter()  # a new array, or the second worker would still have the old one
        task = {"workers": self._workers[1:2], "pure": False}
        return seconds(lambda: self._client.submit(touch, array, **task).result(_TIMEOUT))

    def bcast(self) -> float:
        return seconds(lambda: self._scatter(workers=self._workers, broadcast=True))


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start scheduler and workers, and connect to them."""
    with running_cluster(SERVERS) as client:
        yield Dask(client, array)


@contextlib.contextmanager
def running_cluster(workers: int) -> Iterator[Any]:
    """Start a scheduler and workers; yield a client."""
    options = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "security": Security.temporary(),
        "silence_logs": logging.CRITICAL,
    }
    settings = {
        "distributed.admin.large-graph-warning-threshold": "1GB",  # warns of arrays in task graphs: not our case
        "distributed.worker.profile.enabled": False,  # otherwise each worker would interrupt itself every 10 ms
    }
    with (
        dask.config.set(settings),
        LocalCluster(**options) as cluster,
        Client(cluster, timeout=_TIMEOUT) as client,
    ):
        client.wait_for_workers(workers, timeout=_TIMEOUT)
        yield client
