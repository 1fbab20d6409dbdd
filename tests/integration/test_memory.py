"""An array is sent from its own memory and received into the memory of the new array, without further copies.

Senders wait until the receiver has begun to measure, because an engine receives data even before its command.
"""

import resource
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pconnect import Network, bcast, precv, psend, reval
from tests.support.memory import Peak
from tests.support.servers import Server

SIZE = 2**28  # bytes; everything else that happens meanwhile takes less than a tenth
LIMIT = 100.0  # seconds; it takes about one
REPEATED = np.ones(2**22)  # 32 MiB, which are 8,192 pages, or 17 large ones
FAULTS = "__import__('resource').getrusage(0).ru_minflt"


@pytest.fixture
def net(network: Callable[..., Network]) -> Iterator[Network]:
    yield network(2)


def test_from_client_to_server(net: Network) -> None:
    array = np.ones(SIZE // 8)
    reval("from tests.support.memory import Peak; peak = Peak()", net[1]).result(LIMIT)
    reval("a = precv(sockets[0]); psend((peak.grown, a.nbytes, a[-1]), sockets[0])", net[1])
    peak = Peak()
    psend(array, net[1], timeout=LIMIT)
    grown, size, last = precv(net[1], timeout=LIMIT)
    assert (size, last) == (SIZE, 1.0)
    assert SIZE <= grown <= 1.1 * SIZE
    assert peak.grown <= 0.1 * SIZE


def test_from_server_to_client(net: Network) -> None:
    reval(f"from tests.support.memory import Peak; a = np.ones({SIZE // 8}); peak = Peak()", net[1]).result(
        LIMIT
    )
    peak = Peak()
    reval("psend(a, sockets[0])", net[1])
    array = precv(net[1], timeout=LIMIT)
    assert (array.nbytes, array[-1]) == (SIZE, 1.0)
    assert SIZE <= peak.grown <= 1.1 * SIZE
    reval("psend(peak.grown, sockets[0])", net[1])
    assert precv(net[1], timeout=LIMIT) <= 0.1 * SIZE


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def most_fault_none(counts: list[list[int]]) -> bool:
    """Return whether most calls faulted no page. Some fault more, because the amount in transit varies.

    Without reuse of memory, each call faults at least 17 large pages. The calls fault a few for small objects.
    """
    return bool((np.median(np.diff(counts, axis=0), axis=0) < 8).all())


each_kind = pytest.mark.parametrize(
    "local_links", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["unix", "TLS"]
)


@each_kind
def test_what_comes_again_and_again_faults_no_page(server: Server, local_links: bool) -> None:
    with server.connect(2, local_links=local_links) as net:
        source = (
            f"for _ in range(12): a = precv(sockets[0]); psend(a, sockets[0]); psend({FAULTS}, sockets[0])"
        )
        reval(source, net[1])
        counts = []
        for _ in range(12):
            psend(REPEATED, net[1], timeout=LIMIT)
            array = precv(net[1], timeout=LIMIT)
            counts.append([faults(), precv(net[1], timeout=LIMIT)])
    assert array[-1] == 1
    assert most_fault_none(counts)


@each_kind
def test_what_engines_send_each_other_again_faults_no_page(server: Server, local_links: bool) -> None:
    with server.connect(2, local_links=local_links) as net:
        reval(f"a = np.ones({REPEATED.size})", net).result(LIMIT)
        counts = []
        for _ in range(12):
            reval(f"b = precv(sockets[1]); psend({FAULTS}, sockets[0])", net[2])
            reval(f"psend(a, sockets[2]); psend({FAULTS}, sockets[0])", net[1])
            counts.append([precv(connection, timeout=LIMIT) for connection in net[1:]])
    assert most_fault_none(counts)


@each_kind
def test_arguments_and_results_of_jobs_that_come_again_fault_no_page(
    one_slot: Server, local_links: bool
) -> None:
    def job(array: np.ndarray[Any, Any]) -> tuple[int, int, np.ndarray[Any, Any]]:
        import os
        import resource

        return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt, array

    with one_slot.connect(1, local_links=local_links) as net, net.executor() as executor:
        counts, pids = [], set()
        for _ in range(12):
            pid, there, array = executor.submit(job, REPEATED).result(LIMIT)
            counts.append([there, faults()])
            pids.add(pid)
    assert array[-1] == 1
    assert len(pids) == 1
    assert most_fault_none(counts)


@each_kind
def test_broadcasts_that_come_again_fault_no_page(server: Server, local_links: bool) -> None:
    with server.connect(3, local_links=local_links) as net:
        reval(f"for _ in range(12): a = bcast(None, sockets, root=0); psend({FAULTS}, sockets[0])", net)
        counts = []
        for _ in range(12):
            bcast(REPEATED, net, root=0, timeout=LIMIT)
            counts.append([precv(connection, timeout=LIMIT) for connection in net[1:]])
    assert most_fault_none(counts)


@each_kind
def test_reductions_that_come_again_fault_no_page(server: Server, local_links: bool) -> None:
    with server.connect(3, local_links=local_links) as net:
        source = f"""
            a = np.ones({REPEATED.size})
            for _ in range(12):
                b = allreduce(a, sockets[1:])
                psend({FAULTS}, sockets[0])
        """
        reval(textwrap.dedent(source), net)
        counts = [[precv(connection, timeout=LIMIT) for connection in net[1:]] for _ in range(12)]
    assert most_fault_none(counts)


def test_arrays_that_are_gathered_again_fault_no_page(server: Server) -> None:
    with server.connect(2) as net:
        net.scatter("part", REPEATED)
        counts = []
        for _ in range(8):
            array = net.gather("part", timeout=LIMIT)
            counts.append([faults()])
    assert np.array_equal(array, REPEATED)
    assert most_fault_none(counts)


def test_values_for_jobs_that_come_again_fault_no_page(one_slot: Server) -> None:
    with one_slot.connect(1) as net:
        counts = []
        for _ in range(12):
            with net.broadcast(REPEATED):
                counts.append([net[1].eval(FAULTS).result(LIMIT)])
    assert most_fault_none(counts)
