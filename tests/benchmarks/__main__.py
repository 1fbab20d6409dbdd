"""Print the speed of the package, compared with a plain TLS socket that does the same work in the same minute.

Options: ``--large`` also receives 1 GiB and prints the peak of memory.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pconnect import local_network
from pconnect.views.network_views import ClientNetwork
from tests.benchmarks import programs
from tests.benchmarks.ours import (
    CLIENTS,
    Jobs,
    Server,
    Together,
    Work,
    connect_many,
    peak_memory,
    running_server,
)
from tests.benchmarks.placement import apart
from tests.benchmarks.raw import RawPeer, raw_peer
from tests.benchmarks.timing import JOBS, TRANSFER_BYTES, Sample, alternate, ratio

_COLUMNS = "{:34} {:28} {:28} {:>9}  {}"


class _Targets(NamedTuple):
    transfer: str
    call: str
    echo: str
    job: str
    argument: str


_TARGETS = {
    False: _Targets(">= 0.9", "<= 3.6", "<= 4.6", "<= 5", ">= 0.8"),
    True: _Targets(">= 3", "<= 2.6", "<= 3.4", "<= 4", ">= 2"),
}


def main() -> None:
    """Measure everything; print each line as soon as its figures are known."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--large", action="store_true", help="also receive 1 GiB")
    large = parser.parse_args().large
    begin = time.monotonic()
    print(f"loopback, TLS 1.3, {os.cpu_count()} processors; median (min..max)")
    print("ours/raw: the median of the ratios of all turns, of rates (MB/s) or of times;")
    print("small calls: the client on one processor, the server on the other\n")
    print(_COLUMNS.format("", "raw", "pserver", "ours/raw", "target"))
    with raw_peer(TRANSFER_BYTES) as peer, running_server() as server:
        for local_links in (False, True):
            print("pserver over local links" if local_links else "pserver over TLS")
            _measure_links(peer, server, local_links)
        print("pserver")
        _measure_many_jobs(peer)
        if large:
            with server.connect(1) as net:
                grown = f"{peak_memory(net, 2**30):.3f} x the array"
            print(_COLUMNS.format("peak memory, receiving 1 GiB", "", grown, "", "<= 1.1"))
        succeeded, seconds = connect_many(server)
        outcome = f"{succeeded} succeed, {seconds:.2f} s"
        print(_COLUMNS.format(f"{CLIENTS} clients at once", "", outcome, "", "all succeed"))
    with raw_peer(TRANSFER_BYTES) as peer:
        _measure_connecting(peer)
    print("\nprograms")
    programs.print_tables(20)
    print(f"\n{time.monotonic() - begin:.0f} s in total")


def _measure_links(peer: RawPeer, server: Server, local_links: bool) -> None:
    """Measure everything that depends on the kind of links."""
    targets = _TARGETS[local_links]
    array = np.random.default_rng(1).standard_normal(TRANSFER_BYTES // 8)
    data = np.random.default_rng(2).standard_normal(TRANSFER_BYTES // 8).view(np.uint8).data
    with server.connect(2, local_links=local_links) as net:
        _measure_work(peer, Work(net, array), data, targets)
    with server.connect(1, local_links=local_links) as net:
        assert isinstance(net, ClientNetwork)
        jobs = Jobs(net, array)
        _measure_small("submit().result()", peer.ping, jobs.one, targets.job)
        _measure_large("64 MiB as an argument", lambda: peer.put(data), jobs.put, targets.argument)
    with server.connect(4, local_links=local_links) as net:
        _measure_together(peer, Together(net, array), data)


def _measure_work(peer: RawPeer, work: Work, data: memoryview, targets: _Targets) -> None:
    for name, raw, ours in (
        ("64 MiB client to server", lambda: peer.put(data), work.put),
        ("64 MiB server to client", lambda: peer.get(data), work.get),
        ("64 MiB server to server", lambda: peer.put(data), work.relay),
    ):
        _measure_large(name, raw, ours, targets.transfer)
    with work.serving():
        _measure_small("psend + precv of a scalar", peer.ping, work.ping, "")
    _measure_small("reval + precv of a scalar", peer.ping, work.ask, targets.call)
    _measure_small("echo: reval, psend, precv", peer.ping, work.echo, targets.echo)


def _measure_large(name: str, raw: Callable[[], None], ours: Callable[[], None], target: str) -> None:
    a, b = alternate(21, raw, ours)
    text = f"{1 / ratio(a, b):.2f} x"  # a ratio of rates, not of times
    print(_COLUMNS.format(name, a.text("MB/s"), b.text("MB/s"), text, target), flush=True)


def _measure_small(name: str, raw: Callable[[], None], ours: Callable[[], None], target: str) -> None:
    with apart():
        a, b = alternate(60, raw, ours, burst=40)
    print(_COLUMNS.format(name, a.text("ms"), b.text("ms"), f"{ratio(a, b):.2f} x", target), flush=True)


def _measure_together(peer: RawPeer, together: Together, data: memoryview) -> None:
    for name, work in (
        ("64 MiB bcast to 4 engines", together.bcast),
        ("64 MiB psend to 4 engines", together.psend),
        ("64 MiB allreduce of 4 engines", together.allreduce),
    ):
        a, b = alternate(7, lambda: peer.put(data), work)
        leaves = f"leaves the client {together.uplink(work):.2f} times"
        print(_COLUMNS.format(name, a.text("s"), b.text("s"), f"{ratio(a, b):.1f} x", leaves), flush=True)
    a, b = alternate(10, together.barrier, together.barrier)
    each = Sample([duration / 100 for duration in a.durations + b.durations])
    print(_COLUMNS.format("barrier of 4 engines", "", each.text("ms"), "", ""), flush=True)


def _measure_connecting(peer: RawPeer) -> None:
    with running_server() as server:
        _measure_connect("pconnect to 1 server", peer, server, 1, "<= 0.12 s")
        _measure_connect("pconnect to 8 engines of 1 server", peer, server, 8, "<= 0.25 s")
    with running_server(count=8) as servers:
        _measure_connect("pconnect to 8 servers", peer, servers, 1, "<= 0.6 s")
    durations = []
    for _ in range(7):
        begin = time.perf_counter()
        with local_network(2):
            durations.append(time.perf_counter() - begin)
    print(_COLUMNS.format("local_network(2)", "", Sample(durations).text("s"), "", "<= 0.7 s"), flush=True)


def _measure_connect(name: str, peer: RawPeer, server: Server, engines: int, target: str) -> None:
    """Measure the time to connect to some engines of each server, with local links."""
    seconds: list[float] = []

    def connect() -> None:
        begin = time.perf_counter()
        net = server.connect(engines, local_links=True)
        seconds.append(time.perf_counter() - begin)
        net.close()

    a, _ = alternate(9, lambda: peer.connect(engines * len(server.ports)), connect)
    b = a._replace(durations=seconds[-9:])
    print(_COLUMNS.format(name, a.text("s"), b.text("s"), f"{ratio(a, b):.0f} x", target), flush=True)


def _measure_many_jobs(peer: RawPeer) -> None:
    array = np.zeros(1)
    with running_server(slots=2) as server, server.connect(1) as net:
        assert isinstance(net, ClientNetwork)
        jobs = Jobs(net, array)
        many, _ = alternate(10, lambda: jobs.many(10 * JOBS), peer.ping)
        each = Sample([duration / 10 for duration in many.durations])
        print(_COLUMNS.format(f"{10 * JOBS} jobs, 2 workers", "", each.text("jobs/s"), "", ">= 20000"))
    with running_server(slots=3) as server, server.connect(1) as net:
        assert isinstance(net, ClientNetwork)
        jobs = Jobs(net, array)
        a, _ = alternate(5, lambda: jobs.share(20, 0.2), peer.ping)
        print(_COLUMNS.format("20 jobs of 0.2 s, 3 workers", "", a.text("s"), "", "< 1.6 s"), flush=True)


if __name__ == "__main__":
    main()
