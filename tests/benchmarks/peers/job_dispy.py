"""dispy in the comparison of jobs, with its option for TLS."""

import contextlib
import sys
from collections.abc import Iterator

from tests.benchmarks.peers.alone import Elsewhere, running_alone
from tests.benchmarks.peers.job_dispy_client import CPUS
from tests.benchmarks.peers.peer import Floats, Peer


class Dispy(Elsewhere):
    """A JobCluster and a dispynode."""

    encryption = "TLS"
    note = (
        "JobCluster.submit, its only call, with certfile= and keyfile= on both sides. A node runs at most "
        f"one job for each processor of the machine at a time, here {CPUS}."
    )


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start client and node."""
    command = [sys.executable, "-m", "tests.benchmarks.peers.job_dispy_client", str(array.size)]
    with running_alone(command) as ask:
        yield Dispy(ask)
