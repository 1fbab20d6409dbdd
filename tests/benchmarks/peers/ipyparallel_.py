"""ipyparallel in the comparison, encrypted with CurveZMQ."""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipyparallel

from tests.benchmarks.peers.peer import SERVERS, CannotError, Floats, Peer, seconds

_TIMEOUT = 60


class Ipyparallel(Peer):
    """A controller and `SERVERS` engines."""

    encryption = "CurveZMQ"
    note = "every byte passes through the controller. Push and pull; bcast is a push to all engines."

    def __init__(self, cluster: Any, client: Any, array: Floats) -> None:
        self._cluster = cluster
        self._client = client
        self._all = client[:]
        self._first = client[client.ids[0]]
        self._array = array
        self._push(self._first)

    def _push(self, view: Any) -> None:
        view.push({"a": self._array}, block=False).get(_TIMEOUT)

    def connect(self) -> float:
        begin = time.perf_counter()
        client = self._cluster.connect_client_sync()
        client.wait_for_engines(SERVERS, timeout=_TIMEOUT)
        end = time.perf_counter()
        client.close()
        return end - begin

    def call(self) -> float:
        return seconds(lambda: self._first.apply_async(os.getpid).get(_TIMEOUT))

    def put(self) -> float:
        return seconds(lambda: self._push(self._first))

    def get(self) -> float:
        duration = seconds(lambda: self._first.pull("a", block=False).get(_TIMEOUT))
        self._client.purge_local_results("all")  # or the client keeps all arrays
        return duration

    def relay(self) -> float:
        raise CannotError("engines are not connected to each other")

    def bcast(self) -> float:
        return seconds(lambda: self._push(self._all))


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start controller and engines, and connect to them."""
    with running_engines(SERVERS) as (cluster, client):
        yield Ipyparallel(cluster, client, array)


@contextlib.contextmanager
def running_engines(count: int) -> Iterator[tuple[Any, Any]]:
    """Start a controller and engines; yield them and a client."""
    with tempfile.TemporaryDirectory(prefix="peers-ipyparallel-") as folder:
        cluster = ipyparallel.Cluster(
            n=count,
            controller_ip="127.0.0.1",
            # Without a database, the controller does not keep every array that it ever saw.
            controller_args=["--IPController.enable_curve=True", "--nodb"],
            profile_dir=str(Path(folder, "profile")),
            log_level=logging.ERROR,
        )
        cluster.start_cluster_sync()
        try:
            client = cluster.connect_client_sync()
            with contextlib.closing(client):
                client.wait_for_engines(count, timeout=_TIMEOUT)
                if not client.curve_serverkey:
                    raise RuntimeError("the connections are not encrypted")
                yield cluster, client
        finally:
            cluster.stop_cluster_sync()
