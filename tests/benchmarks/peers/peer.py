"""The work requested from every peer of the comparison."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.benchmarks.timing import JOBS

Floats = npt.NDArray[np.float64]

SERVERS = 4
WORKERS = 3  # for jobs
PIECE = 50  # items of a map in one task, if a system has such an option
SLEEPERS, SLEEP_SECONDS = 20, 0.2


class CannotError(Exception):
    """This peer cannot do this work; the text gives the reason."""


class Work(NamedTuple):
    """One kind of work: a line of the comparison.

    Attributes
    ----------
    title
        A description of the work.
    method
        The method of `Peer` that does it.
    unit
        ``ms`` or ``s``; or ``MB/s``, for 64 MiB in the time that it took; or ``jobs/s``, for `JOBS` of them.
    repeats
        The number of repetitions in each round; their median is the round's figure.
    reference
        The method whose figure for the raw socket is the reference.
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

    Each method does one kind of work of `WORKS` once and returns the seconds that it took, without preparation and
    cleanup. By default, the methods raise `CannotError`.

    Attributes
    ----------
    encryption
        The protection of the connections; empty if there is none.
    note
        Facts that a reader needs to interpret the figures.
    """

    encryption = ""
    note = ""

    def connect(self) -> float:
        """Connect to a running server and wait until it can be called."""
        raise CannotError("no such call")

    def call(self) -> float:
        """Make a server do next to nothing, and wait for its answer."""
        raise CannotError("no such call")

    def answer(self) -> float:
        """Send a number to code that waits for it on a server, and wait for its answer."""
        return self.call()

    def put(self) -> float:
        """Send the array from the client to a server, until it is in the server's memory."""
        raise CannotError("no such call")

    def get(self) -> float:
        """Send the array from a server to the client."""
        raise CannotError("no such call")

    def relay(self) -> float:
        """Send the array from one server to another; the client starts the transfer and waits for it."""
        raise CannotError("no such call")

    def bcast(self) -> float:
        """Send the array from the client to all servers."""
        raise CannotError("no such call")

    def allreduce(self) -> float:
        """Give every server the sum of all servers' arrays."""
        raise CannotError("no such call")

    def many(self) -> float:
        """Run many jobs that do nothing, each with its own future."""
        raise CannotError("no such call")

    def map(self) -> float:
        """Call a function that does nothing for many items, in chunks of a size that suits the system."""
        raise CannotError("no such call")

    def share(self) -> float:
        """Run jobs that each take a while."""
        raise CannotError("no such call")


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that a function takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
