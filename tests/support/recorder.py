"""A forwarder in front of a server that keeps all bytes: the view of an eavesdropper on the network."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_until


class Recorder:
    """Listens on two free ports, and forwards to the same ports of another address, for a server there."""

    def __init__(self, listen_at: str, forward_to: str) -> None:
        self._listeners = [socket.create_server((listen_at, 0)) for _ in range(2)]
        self.ports: list[int] = [listener.getsockname()[1] for listener in self._listeners]
        self._target = forward_to
        self._lock = threading.Lock()
        self._open = 0
        self._links: list[socket.socket] = []
        self.bytes = {(port, direction): bytearray() for port in self.ports for direction in ("in", "out")}
        self.connections = dict.fromkeys(self.ports, 0)
        self._threads = [
            threading.Thread(target=self._accept, args=(listener, port))
            for listener, port in zip(self._listeners, self.ports, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening, and wait until all connections have ended."""
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
def recorded_server(folder: Path, *options: str, use_tls: bool = True) -> Iterator[tuple[Server, Recorder]]:
    """Run a server that listens on 127.0.0.2, and record on 127.0.0.1 until the end of the block."""
    recorder = Recorder("127.0.0.1", "127.0.0.2")
    try:
        ports = [f"--{kind}-port={port}" for kind, port in zip(("cmd", "data"), recorder.ports, strict=True)]
        with run_server(folder, *options, *ports, bind="127.0.0.2", use_tls=use_tls) as server:
            yield server, recorder
    finally:
        recorder.close()
