"""Broadcast values, which each node gets once, for all its jobs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pconnect import UnavailableTypeError, UnreadableValueError, local_network
from pconnect.jobs.broadcast_value import forget, keep
from pconnect.remote_entry import broadcast_value
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import bytes_to_workers

LIMIT = 20.0


@pytest.fixture(scope="module")
def wide() -> Iterator[ClientNetwork]:
    """A node with two workers."""
    with local_network(1, slots=2) as net:
        yield net


def sent_bytes(net: ClientNetwork) -> int:
    """Return the number of bytes that this client has sent to engines, supervisors and workers."""
    mesh: Any = net.mesh
    connections = [*mesh.connections, *(server.command for server in mesh.servers.values())]
    return sum(int(connection.sent_bytes) for connection in connections) + bytes_to_workers(net)


def test_a_handle_anywhere_in_the_arguments_becomes_the_value(jobs_network: ClientNetwork) -> None:
    with jobs_network.broadcast(np.arange(100.0)) as table:
        assert table.value[3] == 3.0 and "ndarray" in repr(table)
        assert jobs_network.submit(lambda t: float(t[3]), table).result(LIMIT) == 3.0
        assert jobs_network.submit(lambda t: float(t["a"][0][4]), {"a": [table]}).result(LIMIT) == 4.0
        assert jobs_network.submit(lambda *, t: float(t[5]), t=table).result(LIMIT) == 5.0
        # This holds also for pickled arguments.
        assert jobs_network.submit(lambda t, f: f(float(t[6])), table, lambda x: -x).result(LIMIT) == -6.0


def test_it_is_sent_to_each_node_once(jobs_network: ClientNetwork) -> None:
    jobs_network.submit(abs, 1).result(LIMIT)
    array = np.zeros(2**17)
    before = sent_bytes(jobs_network)
    table = jobs_network.broadcast(array)
    both = sent_bytes(jobs_network)
    assert 2 * array.nbytes <= both - before < 2 * array.nbytes + 10_000
    assert list(jobs_network.map(lambda t, n: len(t) + n, [table] * 50, range(50))) == list(
        range(2**17, 2**17 + 50)
    )
    assert sent_bytes(jobs_network) - both < 50_000
    table.release()


def test_workers_share_its_memory(wide: ClientNetwork) -> None:
    def look(table: np.ndarray[Any, Any]) -> tuple[int, int, int]:
        import os
        import re
        import time
        from pathlib import Path

        time.sleep(0.05)
        address = table.ctypes.data
        sizes = {"Private_Dirty": 0}
        inside = False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                inside = int(match[1], 16) <= address < int(match[2], 16)
            elif inside and line.startswith("Private_Dirty"):
                sizes["Private_Dirty"] += int(line.split()[1])
        return os.getpid(), address, sizes["Private_Dirty"]

    with wide.broadcast(np.ones(2**22)) as table:
        found = list(wide.map(look, [table] * 8))
    assert len({pid for pid, _, _ in found}) == 2
    assert len({address for _, address, _ in found}) == 1
    assert all(private < 1024 for _, _, private in found)  # KiB, of 32 MiB


def test_a_job_cannot_change_the_value_for_others(jobs_network: ClientNetwork) -> None:
    def write(table: np.ndarray[Any, Any]) -> None:
        table[0] = 5

    with jobs_network.broadcast(np.zeros(10)) as table:
        with pytest.raises(ValueError, match="read-only"):
            jobs_network[1].submit(write, table).result(LIMIT)
        assert jobs_network[1].submit(lambda t: float(t[0]), table).result(LIMIT) == 0
        table.value[1] = 2  # the client's array stays writable


def test_a_released_value_is_gone(jobs_network: ClientNetwork) -> None:
    table = jobs_network.broadcast([1, 2])
    assert jobs_network.submit(len, table).result(LIMIT) == 2
    table.release()
    with pytest.raises(UnreadableValueError, match="or released"):
        jobs_network.submit(len, table).result(LIMIT)
    assert jobs_network.submit(abs, -1).result(LIMIT) == 1


def test_a_node_without_the_value_reports_it(jobs_network: ClientNetwork) -> None:
    with jobs_network[1].broadcast([1, 2, 3]) as table:
        assert jobs_network[1].submit(len, table).result(LIMIT) == 3
        with pytest.raises(UnreadableValueError, match="it was sent only to other nodes"):
            jobs_network[2].submit(len, table).result(LIMIT)


def test_keeping_and_forgetting() -> None:
    keep("key", 5)
    assert broadcast_value("key") == 5
    forget("key")
    forget("key")
    with pytest.raises(UnavailableTypeError):
        broadcast_value("key")
