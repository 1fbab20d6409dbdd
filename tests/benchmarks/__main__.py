"""Print how fast the package is, beside a plain TLS socket that does the same work in the same minute.

Options: ``--large`` also receives 1 GiB and tells the peak of memory.
"""

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

from pconnect.views.network_views import ClientNetwork
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
from tests.benchmarks.raw import RawPeer, raw_peer
from tests.benchmarks.timing import JOBS, TRANSFER_BYTES, Sample, alternate

_COLUMNS = "{:34} {:28} {:28} {:>9}  {}"
# For transfers, a call and an echo.
_OVER_TLS = (">= 0.9", "<= 3.6", "<= 4.6")
_OVER_LOCAL_LINKS = (">= 3", "<= 2.6", "<= 3.4")


def main() -> None:
    """Measure everything and print a line as each figure is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--large", action="store_true", help="also receive 1 GiB")
    large = parser.parse_args().large
    begin = time.monotonic()
    print(f"loopback, TLS 1.3, {os.cpu_count()} processors; median (min..max)\n")
    print(_COLUMNS.format("", "raw", "pserver", "ours/raw", "target"))
    with raw_peer(TRANSFER_BYTES) as peer, running_server() as server:
        for local_links, targets in ((False, _OVER_TLS), (True, _OVER_LOCAL_LINKS)):
            print("pserver over local links" if local_links else "pserver over TLS")
            with server.connect(2, local_links=local_links) as net:
                array = np.random.default_rng(1).standard_normal(TRANSFER_BYTES // 8)
                _measure_work(peer, Work(net, array), targets)
        print("pserver over TLS")
        with server.connect(4) as net:
            array = np.random.default_rng(1).standard_normal(TRANSFER_BYTES // 8)
            _measure_together(peer, Together(net, array))
        _measure_connecting(peer, server)
        _measure_jobs(peer)
        if large:
            with server.connect(1) as net:
                grown = f"{peak_memory(net, 2**30):.3f} x the array"
            print(_COLUMNS.format("peak memory, receiving 1 GiB", "", grown, "", "<= 1.1"))
        succeeded, seconds = connect_many(server)
        outcome = f"{succeeded} succeed, {seconds:.2f} s"
        print(_COLUMNS.format(f"{CLIENTS} clients at once", "", outcome, "", "all succeed"))
    print(f"\n{time.monotonic() - begin:.0f} s in all")


def _measure_work(peer: RawPeer, work: Work, targets: tuple[str, str, str]) -> None:
    of_transfers, of_calls, of_echoes = targets
    buffer = np.random.default_rng(2).standard_normal(TRANSFER_BYTES // 8)
    data = buffer.view(np.uint8).data
    transfers: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        ("64 MiB client to server", lambda: peer.put(data), work.put),
        ("64 MiB server to client", lambda: peer.get(data), work.get),
        ("64 MiB server to server", lambda: peer.put(data), work.relay),
    ]
    for name, raw, ours in transfers:
        a, b = alternate(21, raw, ours)
        ratio = f"{a.median / b.median:.2f} x"  # of rates, not of times
        print(_COLUMNS.format(name, a.text("MB/s"), b.text("MB/s"), ratio, of_transfers), flush=True)
    with work.serving():
        _measure_small("psend + precv of a scalar", peer.ping, work.ping, "")
    _measure_small("reval + precv of a scalar", peer.ping, work.ask, of_calls)
    _measure_small("echo: reval, psend, precv", peer.ping, work.echo, of_echoes)


def _measure_small(name: str, raw: Callable[[], None], ours: Callable[[], None], target: str) -> None:
    a, b = alternate(40, raw, ours, burst=100)
    ratio = f"{b.median / a.median:.2f} x"
    print(_COLUMNS.format(name, a.text("ms"), b.text("ms"), ratio, target), flush=True)


def _measure_together(peer: RawPeer, together: Together) -> None:
    data = np.random.default_rng(2).standard_normal(TRANSFER_BYTES // 8).view(np.uint8).data
    for name, work in (
        ("64 MiB bcast to 4 engines", together.bcast),
        ("64 MiB psend to 4 engines", together.psend),
        ("64 MiB allreduce of 4 engines", together.allreduce),
    ):
        a, b = alternate(7, lambda: peer.put(data), work)
        ratio = f"{b.median / a.median:.1f} x"
        leaves = f"leaves the client {together.uplink(work):.2f} times"
        print(_COLUMNS.format(name, a.text("s"), b.text("s"), ratio, leaves), flush=True)
    a, b = alternate(10, together.barrier, together.barrier)
    each = Sample([duration / 100 for duration in a.durations + b.durations])
    print(_COLUMNS.format("barrier of 4 engines", "", each.text("ms"), "", ""), flush=True)


def _measure_connecting(peer: RawPeer, server: Server) -> None:
    for count, times, target in ((1, 9, "<= 0.15 s"), (8, 5, "<= 0.6 s")):
        seconds: list[float] = []

        def connect(count: int = count, seconds: list[float] = seconds) -> None:
            begin = time.perf_counter()
            net = server.connect(count)
            seconds.append(time.perf_counter() - begin)
            net.close()

        a, _ = alternate(times, lambda count=count: peer.connect(count), connect)  # type: ignore[misc]
        b = a._replace(durations=seconds[-times:])
        ratio = f"{b.median / a.median:.0f} x"
        name = f"pconnect to {count} server{'s' if count > 1 else ''}"
        print(_COLUMNS.format(name, a.text("s"), b.text("s"), ratio, target), flush=True)


def _measure_jobs(peer: RawPeer) -> None:
    buffer = np.random.default_rng(2).standard_normal(TRANSFER_BYTES // 8)
    data = buffer.view(np.uint8).data
    with running_server(slots=2) as server, server.connect(1) as net:
        assert isinstance(net, ClientNetwork)
        jobs = Jobs(net, buffer)
        many, _ = alternate(10, lambda: jobs.many(10 * JOBS), peer.ping)
        each = Sample([duration / 10 for duration in many.durations])
        print(_COLUMNS.format(f"{10 * JOBS} jobs, 2 workers", "", each.text("jobs/s"), "", ">= 15000"))
        _measure_small("submit().result()", peer.ping, jobs.one, "<= 6, or 0.4 ms")
        a, b = alternate(21, lambda: peer.put(data), jobs.put)
        ratio = f"{a.median / b.median:.2f} x"
        print(_COLUMNS.format("64 MiB as an argument", a.text("MB/s"), b.text("MB/s"), ratio, ">= 0.8"))
    with running_server(slots=3) as server, server.connect(1) as net:
        assert isinstance(net, ClientNetwork)
        jobs = Jobs(net, buffer)
        a, _ = alternate(5, lambda: jobs.share(20, 0.2), peer.ping)
        print(_COLUMNS.format("20 jobs of 0.2 s, 3 workers", "", a.text("s"), "", "< 1.6 s"), flush=True)


if __name__ == "__main__":
    main()
