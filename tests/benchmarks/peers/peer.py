"""What every peer of the comparison is asked to do."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.benchmarks.timing import JOBS

Floats = npt.NDArray[np.float64]

SERVERS = 4
WORKERS = 3  # for jobs
PIECE = 50  # items of a map, where a system can be told so
SLEEPERS, SLEEP_SECONDS = 20, 0.2


class CannotError(Exception):
    """There is no way to do this work with this peer; the text says why."""


class Work(NamedTuple):
    """A line of the comparison.

    Attributes
    ----------
    title
        What is done.
    method
        The method of `Peer` that does it.
    unit
        ``ms`` or ``s``; or ``MB/s``, for 64 MiB in the time that it took; or ``jobs/s``, for `JOBS` of them.
    repeats
        How often in each round; the median of them is the figure of that round.
    reference
        The method whose figure of the raw socket the figures are compared with.
    """

    title: str
    method: str
    unit: str
    repeats: int
    reference: str


WORKS = (
    Work("connect to a server", "connect", "ms", 3, "connect"),
    Work("a small call", "call", "ms", 100, "call"),
    Work("an answer of code that waits", "answer", "ms", 100, "call"),
    Work("64 MiB client to server", "put", "MB/s", 1, "put"),
    Work("64 MiB server to client", "get", "MB/s", 1, "get"),
    Work("64 MiB server to server", "relay", "MB/s", 1, "relay"),
    Work(f"bcast of 64 MiB to {SERVERS} servers", "bcast", "MB/s", 1, "put"),
    Work(f"allreduce of 64 MiB on {SERVERS} servers", "allreduce", "MB/s", 1, "put"),
)

JOB_WORKS = (
    Work("a job and its result", "call", "ms", 100, "call"),
    Work(f"{JOBS} jobs, {WORKERS} workers", "many", "jobs/s", 1, "call"),
    Work(f"map of {JOBS} items, {WORKERS} workers", "map", "jobs/s", 1, "call"),
    Work("64 MiB as an argument", "put", "MB/s", 1, "put"),
    Work(f"{SLEEPERS} jobs of {SLEEP_SECONDS} s, {WORKERS} workers", "share", "s", 1, "call"),
)


class Peer:
    """A client and its servers, in one system for parallel computing.

    Each method does one work of `WORKS` once and returns the seconds that it took, without what comes before and after,
    or raises `CannotError`, as all of them do here.

    Attributes
    ----------
    encryption
        What protects the connections; empty if nothing does.
    note
        What a reader has to know to read the figures right.
    """

    encryption = ""
    note = ""

    def connect(self) -> float:
        """Connect to a server that runs already, until it can be called."""
        raise CannotError("no such call")

    def call(self) -> float:
        """Have a server do next to nothing, and wait for its answer."""
        raise CannotError("no such call")

    def answer(self) -> float:
        """Send a number to code that waits for it at a server, and wait for its answer."""
        return self.call()

    def put(self) -> float:
        """Bring the array from the client to a server, until that has it in its memory."""
        raise CannotError("no such call")

    def get(self) -> float:
        """Bring the array from a server to the client."""
        raise CannotError("no such call")

    def relay(self) -> float:
        """Bring the array from one server to another, started and waited for by the client."""
        raise CannotError("no such call")

    def bcast(self) -> float:
        """Bring the array from the client to all servers."""
        raise CannotError("no such call")

    def allreduce(self) -> float:
        """Have every server get the sum of the arrays of all servers."""
        raise CannotError("no such call")

    def many(self) -> float:
        """Have many jobs done that do nothing, each a future of its own."""
        raise CannotError("no such call")

    def map(self) -> float:
        """Have a function that does nothing called for many items, in pieces as large as suits the system."""
        raise CannotError("no such call")

    def share(self) -> float:
        """Have jobs done that each take a while."""
        raise CannotError("no such call")


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
