"""The table's work, done by this package with a real server on the loopback address."""

import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import numpy.typing as npt

from pconnect import Network, bcast, pconnect, precv, psend, reval
from pconnect.views.network_views import ClientNetwork
from pserver.admin.control import pserver
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.benchmarks.job_functions import nothing, size, sleep
from tests.support.memory import Peak

CLIENTS = 32
_TIMEOUT = 60.0
CREDENTIALS = Credentials("bench", "a password of no importance")


class Server(NamedTuple):
    """One or several servers that run only for the benchmark."""

    ports: Sequence[int]

    def connect(self, count: int, timeout: float = 30.0, *, local_links: bool = False) -> Network:
        """Return a network with some nodes on each server, over TLS or with local links."""
        return pconnect(
            [("127.0.0.1", port) for port in self.ports] * count,
            user=CREDENTIALS.user,
            password=CREDENTIALS.password,
            timeout=timeout,
            local_links=local_links,
        )


@contextlib.contextmanager
def running_server(slots: int | None = None, count: int = 1) -> Iterator[Server]:
    """Start one or several servers with a user of the default strength, and end them."""
    # Several of them may run at the same time.
    environment = mock.patch.dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="pserver-bench-") as folder, environment:
        os.environ["PSERVER_RUNTIME_DIR"] = folder
        auth_file = Path(folder, "auth", "tpasswd")
        VerifierFile(auth_file).add(make_verifier(CREDENTIALS))
        with contextlib.ExitStack() as stack:
            ports = []
            for name in ["default", *(f"other-{number}" for number in range(1, count))]:
                status = pserver(
                    name=name,
                    bind="127.0.0.1",
                    cmd_port=0,
                    data_port=0,
                    auth_file=auth_file,
                    slots=slots,
                    allow_root=True,
                )
                stack.callback(pserver, "kill", name=name)
                ports.append(int(str(status["cmd_port"])))
            yield Server(ports)


class Work:
    """The work measured in a network of the client and two engines."""

    def __init__(self, net: Network, array: npt.NDArray[np.float64]) -> None:
        self._net = net
        self._array = array
        reval("a = precv(sockets[0])", net)
        psend(array, net)

    def put(self) -> None:
        """Send the array to a server and wait for its arrival."""
        reval("b = precv(sockets[0]); psend(None, sockets[0])", self._net[1])
        psend(self._array, self._net[1])
        precv(self._net[1])

    def get(self) -> None:
        """Make a server send the array."""
        reval("psend(a, sockets[0])", self._net[1])
        precv(self._net[1])

    def relay(self) -> None:
        """Make one server send the array to the other."""
        reval("b = precv(sockets[1]); psend(None, sockets[0])", self._net[2])
        reval("psend(a, sockets[2])", self._net[1])
        precv(self._net[2])

    def ask(self) -> None:
        """Compute a scalar on a server and receive it."""
        reval("psend(1.0, sockets[0])", self._net[1])
        precv(self._net[1])

    def echo(self) -> None:
        """Send a scalar and receive it back."""
        reval("psend(precv(sockets[0]), sockets[0])", self._net[1])
        psend(1.0, self._net[1])
        precv(self._net[1])

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Let an engine send back all values that it receives."""
        command = reval("while (x := precv(sockets[0])) is not None: psend(x, sockets[0])", self._net[1])
        yield
        psend(None, self._net[1])
        command.result()

    def ping(self) -> None:
        """Send a scalar to an engine that is serving, and receive its answer."""
        psend(1.0, self._net[1])
        precv(self._net[1])


class Together:
    """The collective calls measured in a network of the client and four engines."""

    def __init__(self, net: Network, array: npt.NDArray[np.float64]) -> None:
        self._net = net
        self._array = array
        self._bytes = 0

    def bcast(self) -> None:
        """Send the array to all engines, which keep it for `allreduce`."""
        command = reval("a = bcast(None, sockets)", self._net)
        bcast(self._array, self._net)
        command.result()

    def psend(self) -> None:
        """Send the array to all engines in turn."""
        command = reval("b = precv(sockets[0])", self._net)
        psend(self._array, self._net)
        command.result()

    def allreduce(self) -> None:
        """Let the engines add their arrays."""
        reval("b = allreduce(a, sockets[1:])", self._net).result()

    def barrier(self) -> None:
        """Let the engines wait for each other a hundred times."""
        reval("for _ in range(100): barrier(sockets[1:])", self._net).result()

    def uplink(self, work: Callable[[], None]) -> float:
        """Return the number of times that the array leaves the client during some work."""
        send = Channel.send

        def count(channel: Channel, data: Any) -> int:
            sent = send(channel, data)
            self._bytes += sent
            return sent

        self._bytes = 0
        Channel.send = count  # type: ignore[method-assign, assignment]
        try:
            work()
        finally:
            Channel.send = send  # type: ignore[method-assign]
        return self._bytes / self._array.nbytes


class Jobs:
    """The jobs measured in a network of the client and one server."""

    def __init__(self, net: ClientNetwork, array: npt.NDArray[np.float64]) -> None:
        self._net = net
        self._array = array

    def many(self, count: int) -> None:
        """Run jobs that do nothing, each with its own future."""
        wait([self._net.submit(nothing, k) for k in range(count)], _TIMEOUT)

    def one(self) -> None:
        """Run one job."""
        self._net.submit(nothing, 0).result(_TIMEOUT)

    def put(self) -> None:
        """Run a job whose argument is the array."""
        self._net.submit(size, self._array).result(_TIMEOUT)

    def share(self, count: int, duration: float) -> None:
        """Run jobs that each take a while."""
        wait([self._net.submit(sleep, duration) for _ in range(count)], _TIMEOUT)


def peak_memory(net: Network, size: int) -> float:
    """Receive an array of `size` bytes; return the peak growth of this process's memory, as a multiple of `size`."""
    peak = Peak()
    reval(f"psend(np.ones({size // 8}), sockets[0]); a = b = None", net[1])
    array: Any = precv(net[1])
    assert array.nbytes == size
    assert array[-1] == 1.0
    return peak.grown / size


def connect_many(server: Server) -> tuple[int, float]:
    """Let many clients connect at the same time; return the successes, and the seconds from first to last."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.benchmarks.ours"])
    barrier = context.Barrier(CLIENTS)
    results = context.SimpleQueue()
    clients = [
        context.Process(target=_be_client, args=(server, barrier, results), daemon=True)
        for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    told: list[tuple[float, float, str]] = [results.get() for _ in clients]
    for client in clients:
        client.join()
    for _, _, error in told:
        if error:
            print(f"a client failed: {error}")
    begin, end = min(entry[0] for entry in told), max(entry[1] for entry in told)
    return sum(not error for _, _, error in told), end - begin


def _be_client(server: Server, barrier: Any, results: Any) -> None:
    error, end = "", 0.0
    barrier.wait()
    begin = time.monotonic()
    try:
        with server.connect(1, timeout=60) as net:
            end = time.monotonic()
            reval("psend(sockets.node, sockets[0])", net)
            assert precv(net[1], timeout=60) == 1
    except Exception as failure:  # noqa: BLE001 - reported as the outcome of this client
        error, end = repr(failure), time.monotonic()
    results.put((begin, end, error))
