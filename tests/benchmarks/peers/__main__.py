"""Measure this package and its peers on the same work in turn; print and draw their speeds.

Each peer is started once; then each round measures all of them. Everything stays on the loopback address.
"""

import argparse
import os
import platform
import ssl
import textwrap
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from tests.benchmarks.peers.chart import save_chart
from tests.benchmarks.peers.measure import HOMES, JOB_HOMES, compare
from tests.benchmarks.peers.peer import JOB_WORKS, WORKS
from tests.benchmarks.peers.table import WIDTH, table

_PACKAGES = ("pserver", "numpy", "distributed", "rpyc", "ipyparallel", "pyzmq", "mpi4py", "openmpi", "dispy")


def main() -> None:
    """Measure, print the table, write the chart."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds, after one to warm up")
    parser.add_argument("--jobs", action="store_true", help="measure jobs, not commands and transfers")
    parser.add_argument(
        "--chart", type=Path, help="where to write the chart (PNG); by default peers.png or jobs.png"
    )
    parser.add_argument(
        "names", nargs="*", metavar="peer", help="peers of the table to measure; by default all"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds: needs at least one")
    works, homes = (JOB_WORKS, JOB_HOMES) if arguments.jobs else (WORKS, HOMES)
    if unknown := set(arguments.names) - set(homes):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(homes)}")
    chart = arguments.chart or Path("jobs.png" if arguments.jobs else "peers.png")
    begin, load = time.monotonic(), os.getloadavg()[0]
    comparison = compare(works, {name: homes[name] for name in arguments.names or homes}, arguments.rounds)
    print(*_circumstances(arguments.rounds, load), table(comparison), sep="\n")
    title = f"The same work on one machine: loopback, {os.cpu_count()} processors"
    explanation = f"Median of {arguments.rounds} rounds;\nlines span minimum to maximum"
    save_chart(comparison, title, explanation, chart)
    print(f"\nThe chart is {chart}. {time.monotonic() - begin:.0f} s in total.")


def _circumstances(rounds: int, load: float) -> Iterator[str]:
    yield f"{_processor()}, {os.cpu_count()} processors; loopback; {rounds} alternating rounds; load before {load:.1f}"
    openssl = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    yield from textwrap.wrap(
        f"Python {platform.python_version()}, {openssl}, {', '.join(_versions())}", WIDTH
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "processor"
    )


def _versions() -> Iterator[str]:
    for name in _PACKAGES:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue


if __name__ == "__main__":
    main()
