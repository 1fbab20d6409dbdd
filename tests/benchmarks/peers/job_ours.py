"""This package in the comparison of jobs: a server with one slot for each worker."""

import contextlib
from collections.abc import Iterator

from pconnect.views.network_views import ClientNetwork
from tests.benchmarks.job_functions import nothing
from tests.benchmarks.ours import Jobs, running_server
from tests.benchmarks.peers.peer import PIECE, SLEEP_SECONDS, SLEEPERS, WORKERS, Floats, Peer, seconds
from tests.benchmarks.timing import JOBS


class Ours(Peer):
    """A network of the client and one server."""

    note = f"submit and map with chunksize={PIECE}."

    def __init__(self, net: ClientNetwork, array: Floats, *, local_links: bool) -> None:
        self.encryption = "" if local_links else "TLS 1.3"
        self._net = net
        self._jobs = Jobs(net, array)

    def call(self) -> float:
        return seconds(self._jobs.one)

    def many(self) -> float:
        return seconds(lambda: self._jobs.many(JOBS))

    def map(self) -> float:
        return seconds(lambda: list(self._net.map(nothing, range(JOBS), chunksize=PIECE)))

    def put(self) -> float:
        return seconds(self._jobs.put)

    def share(self) -> float:
        return seconds(lambda: self._jobs.share(SLEEPERS, SLEEP_SECONDS))


@contextlib.contextmanager
def start(array: Floats, *, local_links: bool = False) -> Iterator[Peer]:
    """Start a server and connect to it."""
    with running_server(slots=WORKERS) as server, server.connect(1, local_links=local_links) as net:
        assert isinstance(net, ClientNetwork)
        yield Ours(net, array, local_links=local_links)
