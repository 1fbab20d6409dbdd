"""A forwarder in front of a server, which keeps all bytes that pass: what somebody in the network between sees."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.support.waiting import DEADLINE, wait_until


def _listener(address: str, port: int) -> socket.socket:
    """Listen at a port that is the server's at another address; here, another test may use it for a moment."""
    found: list[socket.socket] = []

    def is_free() -> bool:
        with contextlib.suppress(OSError):
            found.append(socket.create_server((address, port)))
        return bool(found)

    wait_until(is_free, f"port {port} of {address}")
    return found[0]


class Recorder:
    """Listens at the ports of a server, but at another address, and forwards."""

    def __init__(self, listen_at: str, forward_to: str, ports: list[int]) -> None:
        self._target = forward_to
        self._lock = threading.Lock()
        self._open = 0
        self._links: list[socket.socket] = []
        self.bytes = {(port, direction): bytearray() for port in ports for direction in ("in", "out")}
        self.connections = dict.fromkeys(ports, 0)
        self._listeners = [_listener(listen_at, port) for port in ports]
        self._threads = [
            threading.Thread(target=self._accept, args=(listener, port))
            for listener, port in zip(self._listeners, ports, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Listen no longer, and wait until all connections have ended."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
        for sock in (*self._listeners, *self._links):
            sock.close()

    def wait_for_the_end(self) -> None:
        """Wait until all connections so far have ended."""
        wait_until(lambda: self._open == 0, "the end of the forwarded connections")

    def _accept(self, listener: socket.socket, port: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((self._target, port))
                with self._lock:
                    self._links += [client, server]
                    self._open += 2
                    self.connections[port] += 1
                for source, sink, direction in ((client, server, "in"), (server, client, "out")):
                    thread = threading.Thread(
                        target=self._forward, args=(source, sink, self.bytes[port, direction])
                    )
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                with self._lock:
                    record += data
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._open -= 1


@contextlib.contextmanager
def recording(listen_at: str, forward_to: str, ports: list[int]) -> Iterator[Recorder]:
    """Record until the end of the block."""
    recorder = Recorder(listen_at, forward_to, ports)
    try:
        yield recorder
    finally:
        recorder.close()
