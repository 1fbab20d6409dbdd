"""This package in the comparison: a network of four engines."""

import contextlib
import time
from collections.abc import Iterator

import pconnect
from tests.benchmarks.ours import Server, Work, running_server
from tests.benchmarks.peers.peer import SERVERS, Floats, Peer, seconds

_TIMEOUT = 60.0


class Ours(Peer):
    """A network of the client and `SERVERS` engines, and a second one with an engine that only answers."""

    note = (
        "connecting includes the login with TLS-SRP, and starts an engine. A call is reval and precv of a scalar, "
        "an answer is psend and precv, while a command waits in precv."
    )

    def __init__(
        self,
        server: Server,
        net: pconnect.Network,
        answering: pconnect.Network,
        array: Floats,
        *,
        local_links: bool,
    ) -> None:
        self.encryption = "" if local_links else "TLS 1.3"
        self._local_links = local_links
        self._server = server
        self._answering = answering
        self._net = net
        self._array = array
        self._work = Work(net, array)

    def connect(self) -> float:
        begin = time.perf_counter()
        net = self._server.connect(1, local_links=self._local_links)
        end = time.perf_counter()
        net.close()
        return end - begin

    def call(self) -> float:
        return seconds(self._work.ask)

    def answer(self) -> float:
        return seconds(self._ask_server)

    def _ask_server(self) -> None:
        pconnect.psend(1.0, self._answering[1])
        pconnect.precv(self._answering[1])

    def put(self) -> float:
        return seconds(self._work.put)

    def get(self) -> float:
        return seconds(self._work.get)

    def relay(self) -> float:
        return seconds(self._work.relay)

    def bcast(self) -> float:
        def work() -> None:
            command = pconnect.reval("b = bcast(None, sockets, root=0)", self._net)
            pconnect.bcast(self._array, self._net, root=0, timeout=_TIMEOUT)
            command.result(_TIMEOUT)

        return seconds(work)

    def allreduce(self) -> float:
        source = "b = allreduce(a, sockets[1:])"
        return seconds(lambda: pconnect.reval(source, self._net).result(_TIMEOUT))


@contextlib.contextmanager
def start(array: Floats, *, local_links: bool = False) -> Iterator[Peer]:
    """Start a server, and connect to it once for each engine."""
    with (
        running_server() as server,
        server.connect(SERVERS, local_links=local_links) as net,
        server.connect(1, local_links=local_links) as answering,
    ):
        pconnect.reval("while True: psend(precv(sockets[0]), sockets[0])", answering)
        yield Ours(server, net, answering, array, local_links=local_links)
