"""Strangers who attack a server's ports while honest clients come and go."""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil

from pconnect import precv, reval
from tests.support.servers import Server, open_files
from tests.support.waiting import DEADLINE, wait_until

MEGABYTE = 2**20


def visit(port: int, words: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    """Open a connection from an address of this machine and send something."""
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0))
    sock.sendall(words)
    return sock


class Crowd(threading.Thread):
    """Holds a number of connections open, from the sources in turn; replaces each one that the server closes.

    It opens at most `rate` connections per second.
    """

    def __init__(
        self,
        port: int,
        count: int,
        words: bytes,
        sources: Sequence[str] = ("127.0.0.1",),
        rate: float = 2000.0,
    ) -> None:
        super().__init__()
        self._port = port
        self._count = count
        self._words = words
        self._sources = sources
        self._pause = 1 / rate
        self._over = threading.Event()
        self.opened = 0
        self.is_complete = threading.Event()

    def run(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            while not self._over.is_set():
                while len(selector.get_map()) < self._count and not self._over.wait(self._pause):
                    self._open(selector, stack)
                self.is_complete.set()
                for key, _ in selector.select(0.05):
                    self._listen(selector, key)

    def _open(self, selector: selectors.BaseSelector, stack: contextlib.ExitStack) -> None:
        sock = stack.enter_context(socket.socket())
        sock.bind((self._sources[self.opened % len(self._sources)], 0))
        sock.settimeout(1.0)
        self.opened += 1
        with contextlib.suppress(OSError):
            sock.connect(("127.0.0.1", self._port))
            sock.sendall(self._words)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)

    def _listen(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        try:
            data = sock.recv(2**16)
        except OSError:
            data = b""
        if not data:
            selector.unregister(sock)
            sock.close()

    def __enter__(self) -> "Crowd":
        self.start()
        assert self.is_complete.wait(DEADLINE)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(DEADLINE)


def connect_and_leave(server: Server) -> float:
    """Act as an honest client for a moment; return the seconds that it took to connect."""
    begin = time.monotonic()
    with server.connect() as net:
        took = time.monotonic() - begin
        reval("psend('hello', sockets[0])", net)
        assert precv(net[1], timeout=DEADLINE) == "hello"
    return took


def connect_each_second(server: Server, times: int) -> list[float]:
    """Act as an honest client every second; return the seconds that each connect took."""
    found = []
    for _ in range(times):
        begin = time.monotonic()
        found.append(connect_and_leave(server))
        time.sleep(max(0.0, begin + 1 - time.monotonic()))
    return found


@dataclass
class Usage:
    """The resources that a process uses."""

    descriptors: int
    bytes: int
    seconds: float  # of processor time
    children: int

    @classmethod
    def of(cls, server: Server) -> "Usage":
        process = psutil.Process(server.process.pid)
        times = process.cpu_times()
        return cls(
            open_files(process.pid),
            process.memory_info().rss,
            times.user + times.system,
            len(process.children(recursive=True)),
        )


@contextlib.contextmanager
def nothing_left(server: Server, growth: int = 4 * MEGABYTE) -> Iterator[Usage]:
    """Check that the daemon has no more descriptors, processes and memory afterwards than before."""
    connect_and_leave(server)  # what a first client causes, such as loaded modules, is permanent
    settle(server)
    before = Usage.of(server)
    yield before
    settle(
        server, lambda usage: usage.descriptors <= before.descriptors and usage.children <= before.children
    )
    assert Usage.of(server).bytes <= before.bytes + growth


def settle(server: Server, is_settled: Callable[[Usage], bool] = lambda _: True) -> None:
    """Wait until all sessions have ended and resources are released."""
    wait_until(
        lambda: is_settled(Usage.of(server)) and not server.status_now()["sessions"],
        f"the server to be as before, now {Usage.of(server)}",
    )
