"""RPyC in the comparison, over TLS with certificates on both sides.

RPyC has no call for arrays; it sends bytes by value. By default, it compresses them, waits for Nagle's algorithm, and
copies the rest of a message again after each 64 kB. This module does the best that a patient user can do with RPyC's
own classes: no compression, TCP_NODELAY, and many calls of one block each, several of them in transit at the same time.
"""

import contextlib
import functools
import multiprocessing
import socket
import ssl
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import rpyc
from rpyc.core.channel import Channel
from rpyc.core.stream import SocketStream
from rpyc.utils.authenticators import SSLAuthenticator
from rpyc.utils.factory import connect_channel
from rpyc.utils.server import ThreadedServer

from tests.benchmarks.peers.identity import make_identity
from tests.benchmarks.peers.peer import Floats, Peer, seconds

_BLOCK_BYTES = 2**19  # the best size between 64 kB and 2 MiB
_WINDOW = 4  # calls in transit
_TIMEOUT = 60


class Worker(rpyc.Service):  # type: ignore[misc] # rpyc has no types
    """The service of a server; one instance for all its connections."""

    def __init__(self, identity: dict[str, str]) -> None:
        self._identity = identity
        self._view = memoryview(b"")
        self._other: Any = None

    def exposed_call(self) -> float:
        return 1.0

    def exposed_begin(self, count: int) -> None:
        self._view = np.empty(count, np.uint8).data

    def exposed_store(self, start: int, block: bytes) -> None:
        self._view[start : start + len(block)] = block

    def exposed_load(self, start: int) -> bytes:
        return bytes(self._view[start : start + _BLOCK_BYTES])

    def exposed_meet(self, port: int) -> None:
        self._other = _connect(port, self._identity).root

    def exposed_fetch(self, count: int) -> None:
        _fetch(self._other, np.empty(count, np.uint8).data)


def _store(worker: Any, view: memoryview) -> None:
    """Send bytes to a worker, in blocks."""
    worker.begin(len(view))
    store = rpyc.async_(worker.store)
    starts = range(0, len(view), _BLOCK_BYTES)
    _in_flight(starts, lambda start: store(start, bytes(view[start : start + _BLOCK_BYTES])), lambda *_: None)


def _fetch(worker: Any, view: memoryview) -> None:
    """Fetch the bytes of a worker, in blocks."""

    def keep(start: int, block: bytes) -> None:
        view[start : start + len(block)] = block

    _in_flight(range(0, len(view), _BLOCK_BYTES), rpyc.async_(worker.load), keep)


def _in_flight(starts: range, call: Callable[[int], Any], keep: Callable[[int, Any], None]) -> None:
    calls: deque[tuple[int, Any]] = deque()
    for start in starts:
        if len(calls) == _WINDOW:
            first, answer = calls.popleft()
            keep(first, answer.value)
        calls.append((start, call(start)))
    for first, answer in calls:
        keep(first, answer.value)


def _connect(port: int, identity: dict[str, str]) -> Any:
    options = {"ssl_version": ssl.PROTOCOL_TLS_CLIENT, "check_hostname": False, **identity}
    stream = SocketStream.ssl_connect("127.0.0.1", port, options, nodelay=True)
    return connect_channel(Channel(stream, compress=False), config={"sync_request_timeout": _TIMEOUT})


def _serve(identity: dict[str, str], ports: Connection) -> None:
    Channel.COMPRESSION_THRESHOLD = 2**62  # a server has no option for it
    server = ThreadedServer(
        Worker(identity),
        hostname="127.0.0.1",
        port=0,
        authenticator=SSLAuthenticator(ssl_version=ssl.PROTOCOL_TLS_SERVER, **identity),
        protocol_config={"sync_request_timeout": _TIMEOUT},
    )
    server.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    server.listener.listen()  # before any client knows the port
    ports.send(server.port)
    server.start()


class Rpyc(Peer):
    """Two RPyC servers."""

    encryption = "TLS 1.3"
    note = "tuned by hand: no zlib, TCP_NODELAY, calls of 512 KiB, 4 at a time; by default, 64 MiB take about 20 s."

    def __init__(self, ports: list[int], identity: dict[str, str], array: Floats) -> None:
        self._connect = functools.partial(_connect, ports[0], identity)
        self._first, self._second = (_connect(port, identity) for port in ports)
        self._call = self._first.root.call
        self._bytes = array.view(np.uint8).data
        self._second.root.meet(ports[0])

    def connect(self) -> float:
        begin = time.perf_counter()
        connection = self._connect()
        connection.root.call()
        end = time.perf_counter()
        connection.close()
        return end - begin

    def call(self) -> float:
        return seconds(self._call)

    def put(self) -> float:
        return seconds(lambda: _store(self._first.root, self._bytes))

    def get(self) -> float:
        return seconds(lambda: _fetch(self._first.root, np.empty(len(self._bytes), np.uint8).data))

    def relay(self) -> float:
        fetch = rpyc.timed(self._second.root.fetch, _TIMEOUT)
        return seconds(lambda: fetch(len(self._bytes)).value)


@contextlib.contextmanager
def start(array: Floats) -> Iterator[Peer]:
    """Start two servers and connect to both."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="peers-rpyc-") as folder, contextlib.ExitStack() as stack:
        identity = make_identity(Path(folder))
        ports = []
        for _ in range(2):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(identity, theirs), daemon=True)
            process.start()
            stack.callback(process.join, 10)
            stack.callback(process.terminate)
            theirs.close()
            ports.append(ours.recv())
        yield Rpyc(ports, identity, array)
