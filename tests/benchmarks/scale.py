"""Print the growth of a network's costs with its engines, all on this machine, and of jobs with their workers.

The last column is the exponent e of a straight line fitted to the logarithms: the quantity grows as the number of
engines to the power of e. On one machine the engines share the processors, so work that each of them does takes as long
as if one engine did everything: its e is about 1, and costs with e above 1 do not scale.
"""

import argparse
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import psutil

from pconnect import Network, bcast, reval, sclose
from pserver.system.pidfile import find_server
from tests.benchmarks.growth_chart import save_chart
from tests.benchmarks.ours import Jobs, Server, running_server
from tests.benchmarks.simulation import print_calls, print_connecting
from tests.support.waiting import wait_until

_LIMIT = 540.0  # seconds; sizes that would take longer are left out and reported
_CONNECT_TIMEOUT = 120.0
_MIB = 2**20
_ROW = "{:44} {:>8}"

Figures = dict[str, float]


def main() -> None:
    """Measure all sizes, then print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, and at most 16 engines: half a minute"
    )
    parser.add_argument("--engines", type=int, metavar="N", help="maximum number of engines (64)")
    parser.add_argument("--workers", type=int, metavar="N", help="maximum number of workers (16)")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="also draw the figures, as .svg or .png")
    parser.add_argument(
        "--simulate",
        type=int,
        metavar="N",
        nargs="*",
        help="instead count the messages of networks with these numbers of nodes (10, 100 and 1000), without sockets",
    )
    options = parser.parse_args()
    if options.simulate is not None:
        sizes = options.simulate or [10, 100, 1000]
        print_calls(sizes)
        print_connecting(sizes)
        return
    begin = time.monotonic()
    most = options.engines or (16 if options.quick else 64)
    rounds = 5 if options.quick else 9
    print(f"loopback, local links, {os.cpu_count()} processors; medians of {rounds}\n", flush=True)
    with running_server() as server:
        with server.connect(1):  # the server's modules are loaded
            pass
        engines = _measure(_powers(most), lambda n: _network(server, n, rounds), begin)
        _print_table("engines", engines)
    workers = _measure(_powers(options.workers or 16), lambda n: _jobs(n, rounds), begin)
    _print_table("workers", workers)
    if options.chart:
        save_chart(engines, workers, options.chart)
    print(f"{time.monotonic() - begin:.0f} s in total")


def exponent(points: Mapping[int, float]) -> float:
    """Return the slope of the least squares line through the logarithms; nan if there are fewer than two points."""
    usable = [(math.log(n), math.log(value)) for n, value in points.items() if value > 0]
    if len(usable) < 2:
        return math.nan
    return statistics.linear_regression(*zip(*usable, strict=True)).slope


def _powers(most: int) -> list[int]:
    return [2**k for k in range(most.bit_length())]


def _measure(sizes: Iterable[int], work: Callable[[int], Figures], begin: float) -> dict[int, Figures]:
    """Do the work for each size, until the next size is likely to exceed the time limit."""
    found: dict[int, Figures] = {}
    last = 0.0
    for size in sizes:
        started = time.monotonic()
        # Twice the size takes mostly twice, at most four times as long.
        if started - begin + 3 * last > _LIMIT:
            print(f"left out {size} and more: too slow")
            break
        found[size] = work(size)
        last = time.monotonic() - started
    return found


def _print_table(what: str, found: Mapping[int, Figures]) -> None:
    print(_ROW.format(what, "") + "".join(f"{size:>10}" for size in found) + f"{'exponent':>10}")
    for name in list(found.values())[-1]:
        label, _, unit = name.partition(", ")
        values = {size: figures[name] for size, figures in found.items() if name in figures}
        cells = "".join(f"{values[size]:>10.4g}" if size in values else f"{'-':>10}" for size in found)
        print(_ROW.format(label, unit) + cells + f"{exponent(values):>10.2f}")
    print(flush=True)


def _network(server: Server, count: int, rounds: int) -> Figures:
    """Make a network with local links, use it and close it; measure the server's memory before use."""
    _wait_for_end(_daemon())
    descriptors = _descriptors()
    cpu, begin = time.process_time(), time.perf_counter()
    net = server.connect(count, timeout=_CONNECT_TIMEOUT, local_links=True)
    figures = {
        "pconnect, s": time.perf_counter() - begin,
        "pconnect: client's processor time, s": time.process_time() - cpu,
    }
    try:
        engines = [int(pid) for pid in net.eval("__import__('os').getpid()").result()]  # type: ignore[attr-defined]
        figures["server: memory of an engine, MB"] = _memory(engines) / count / 1e6
        spawner = psutil.Process(engines[0]).parent()
        assert spawner is not None
        figures["server: memory of session and spawner, MB"] = _memory([spawner.pid, spawner.ppid()]) / 1e6
        figures |= _calls(net, rounds)
        figures["client: descriptors, "] = _descriptors() - descriptors
        figures["client: memory in all, MB"] = _memory([os.getpid()]) / 1e6
    finally:
        begin = time.perf_counter()
        sclose(net)
    figures["closing, s"] = time.perf_counter() - begin
    return figures


def _calls(net: Network, rounds: int) -> Figures:
    array = np.ones(_MIB // 8)
    reval("small, large = np.ones(1), np.ones(2**17)", net).result()

    def send_all() -> None:
        command = reval("bcast(None, sockets)", net)
        bcast(array, net)
        command.result()

    cpu = time.process_time()
    figures = {"no-op on all, ms": _median(rounds, lambda: reval("pass", net).result()) * 1e3}
    figures["no-op on all: client's processor time, ms"] = (time.process_time() - cpu) / (rounds + 1) * 1e3
    between_engines = (
        ("barrier", "barrier(sockets[1:])"),
        ("allreduce of 8 bytes", "allreduce(small, sockets[1:])"),
        ("allreduce of 1 MiB", "allreduce(large, sockets[1:])"),
    )
    for name, source in between_engines if len(net) > 2 else ():  # a single engine need not wait
        loop = f"for _ in range(10): {source}"
        figures[f"{name}, ms"] = _median(rounds, lambda loop=loop: reval(loop, net).result()) * 100  # type: ignore[misc]
    figures["bcast of 1 MiB, ms"] = _median(rounds, send_all) * 1e3
    return figures


def _jobs(workers: int, rounds: int) -> Figures:
    with running_server(slots=workers) as server, server.connect(1) as net:
        jobs = Jobs(net, np.ones(1))  # type: ignore[arg-type]
        return {"jobs that do nothing, 1/s": 2000 / _median(rounds, lambda: jobs.many(2000))}


def _median(rounds: int, work: Callable[[], object]) -> float:
    """Return the median of the seconds that some work takes, after one warm-up run."""
    durations = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        work()
        durations.append(time.perf_counter() - begin)
    return statistics.median(durations[1:])


def _daemon() -> psutil.Process:
    found = find_server("default")
    assert found is not None
    return psutil.Process(found.pid)


def _wait_for_end(daemon: psutil.Process) -> None:
    """Wait until the processes of the sessions are gone: only the starter remains."""
    wait_until(lambda: len(daemon.children(recursive=True)) <= 1, "the sessions to end")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _memory(pids: Iterable[int]) -> int:
    """Return the proportional set sizes of processes, in bytes: shared pages count only once."""
    total = 0
    for pid in pids:
        match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert match
        total += int(match[1]) * 1024
    return total


if __name__ == "__main__":
    main()
